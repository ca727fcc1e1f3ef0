"""A card states what the model, its run and its scores say, and no scores of another model."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from markdown_it import MarkdownIt

from retrieval.exports.about import about
from retrieval.exports.card import Exported, write_card
from retrieval.exports.checks import Checked
from retrieval.exports.folder import ExportError
from retrieval.exports.scores import read_scores
from tests.retrieval.exports.support import HTSAT_ONLY, invoke, loaded, small_run
from training.evaluate_job import Request, evaluate_retrieval
from training.evaluate_report import as_dict

DATA = [
    {"role": "train", "manifest": "/home/ann/data/clotho", "splits": ["train", "val"], "sha256": "a" * 64},
    {"role": "val", "manifest": "/home/ann/data/mine/manifest.parquet", "splits": ["val"], "sha256": "b" * 64},
    {"role": "exclude", "files": ["x"], "sha256": "c" * 64},
]
ONNX = Exported(
    kind="onnx", sample_rates={"waveform_44100": 44_100}, max_tokens=24, checked=Checked(audio=1e-7, text=2e-7)
)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with what training writes beside a model."""
    folder = small_run(
        tmp_path_factory.mktemp("runs") / "bells",
        **HTSAT_ONLY,
        description={
            "data": DATA,
            "caption_templates": ["{title}. {description}"],
            "init": {"htsat": {"path": "/home/ann/weights/HTSAT_AudioSet.ckpt", "sha256": "d" * 64}},
        },
    )
    config = {"run": {"epochs": 45, "batch_size": 128, "seed": 3}, "optimizer": {"name": "adam", "lr": 1e-4}}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    return folder


@pytest.fixture(scope="module")
def scored(run: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What ``wavtext5k-evaluate RUN --manifest M --json`` prints of it."""
    from tests.retrieval.conftest import write_clips

    manifest = write_clips(tmp_path_factory.mktemp("scored") / "tones", count=6)
    return as_dict(evaluate_retrieval(Request(run=run, manifests=(manifest,), split="train", resamples=200)))


def write_scores(folder: Path, values: Any) -> Path:
    file = folder / "scores.json"
    file.write_text(json.dumps(values))
    return file


def card_of(run: Path, folder: Path, *, scores: Path | None = None, license_id: str | None = None) -> str:
    read = None if scores is None else read_scores(scores, run=run)
    write_card(folder, ONNX, about=about(loaded(run), run), scores=read, license_id=license_id)
    return (folder / "README.md").read_text()


def tables(card: str) -> list[list[list[str]]]:
    """Return the cells of a card's tables, as a Markdown reader sees them."""
    found: list[list[list[str]]] = []
    for token in MarkdownIt("commonmark").enable("table").parse(card.split("---\n", 2)[2]):
        if token.type == "table_open":
            found.append([])
        elif token.type == "tr_open":
            found[-1].append([])
        elif token.type == "inline" and found and token.level > 3:
            found[-1][-1].append(token.content)
    return found


def test_scores_stand_with_their_intervals_beside_chance(run: Path, scored: dict[str, Any], tmp_path: Path) -> None:
    card = card_of(run, tmp_path, scores=write_scores(tmp_path, scored))
    head, *rows = tables(card)[2]
    assert head == ["", "R@1 %", "R@5 %", "R@10 %", "R@50 %", "mAP@10 %", "median rank"]
    assert [row[0] for row in rows] == ["text to audio", "by chance", "audio to text", "by chance"]
    for row, direction in ((rows[0], "text_to_audio"), (rows[2], "audio_to_text")):
        for cell, (name, unit) in ((1, ("recall_at_1", 100)), (5, ("map_at_10", 100)), (6, ("median_rank", 1))):
            low, high = scored["intervals"][direction][name]
            assert row[cell] == f"{unit * scored[direction][name]:.1f} ({unit * low:.1f} to {unit * high:.1f})"
    assert rows[1][1:] == ["16.7", "83.3", "100.0", "100.0", "40.8", "3.5"]
    assert f"sha256 `{scored['list_sha256']}`" in card
    assert "On 6 clips with 6 captions of tones, split train;" in card
    assert "the captions of 6 clips are made by the template" in card
    assert "overlap with training was not checked: clotho (train+val): nothing is there any more" in card


def test_overlap_that_was_not_looked_for_is_not_called_none(run: Path, scored: dict[str, Any], tmp_path: Path) -> None:
    card = card_of(run, tmp_path, scores=write_scores(tmp_path, scored | {"leakage": None}))
    assert "- overlap with the training data was not looked for" in card
    assert "in the training data, by any sign" not in card


def test_a_card_without_scores_says_how_to_add_them(run: Path, tmp_path: Path) -> None:
    card = card_of(run, tmp_path)
    assert "No scores were given when this card was written." in card
    assert "wavtext5k-evaluate RUN --manifest MANIFEST --json > scores.json" in card
    assert "wavtext5k-search export RUN --to onnx --out FOLDER --scores scores.json" in card


def test_training_is_told_without_places_on_somebodys_machine(run: Path, tmp_path: Path) -> None:
    card = card_of(run, tmp_path)
    assert (
        tables(card)[1][1:]
        == [
            ["clotho", "training", "train, val", "a" * 16],
            ["mine", "choosing the checkpoint", "val", "b" * 16],
            ["?", "exclude", "all", "c" * 16],
        ][:2]
    )
    for said in ("epochs asked for: 45", "batch size: 128", "optimizer: adam", "seed: 3", "`{title}. {description}`"):
        assert said in card
    assert "htsat began from: HTSAT\\_AudioSet.ckpt" in card
    assert "ann" not in card.replace("channel", "")


def test_the_front_matter_has_the_licence_that_was_told(run: Path, tmp_path: Path) -> None:
    for told, expected in ((None, "unknown"), ("cc-by-4.0", "cc-by-4.0"), ("mit", "mit")):
        card = card_of(run, tmp_path, license_id=told)
        front = yaml.safe_load(card.split("---\n")[1])
        assert (front["license"], front["language"], front["library_name"]) == (expected, "en", "onnx")
    code, _, said = invoke(run, "--to", "onnx", "--out", tmp_path / "out", "--license", "My Own: 1")
    assert (code, "name it as the Hugging Face Hub does" in said) == (1, True)


def test_a_model_without_a_run_has_a_card_too(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run / "model", tmp_path / "alone")
    description = json.loads((tmp_path / "alone" / "config.json").read_text())
    for key in ("data", "init", "caption_templates"):
        del description[key]
    (tmp_path / "alone" / "config.json").write_text(json.dumps(description))
    card = card_of(tmp_path / "alone", tmp_path)
    assert "# alone\n" in card
    assert "Nothing beside the model says what it was trained on." in card


def test_config_yaml_names_the_data_where_the_model_does_not(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "run")
    file = tmp_path / "run" / "model" / "config.json"
    file.write_text(json.dumps({key: value for key, value in json.loads(file.read_text()).items() if key != "data"}))
    data = {"train": [{"manifest": "data/bells|<b>", "splits": ["train"]}], "val": None}
    (tmp_path / "run" / "config.yaml").write_text(yaml.safe_dump({"data": data, "run": 3}))
    card = card_of(tmp_path / "run", tmp_path)
    assert tables(card)[1][1] == ["bells&#124;&lt;b&gt;", "training", "train", "not recorded"]
    (tmp_path / "run" / "config.yaml").write_text("a: [")
    with pytest.raises(ExportError, match=r"config.yaml: not YAML \(.*move it away"):
        card_of(tmp_path / "run", tmp_path)


def change(path: str, value: Any) -> Callable[[dict[str, Any]], None]:
    """Return what sets a value deep in the scores."""

    def apply(values: dict[str, Any]) -> None:
        *way, last = path.split(".")
        for step in way:
            values = values[step]
        values[last] = value

    return apply


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (change("text_to_audio.recall_at_1", float("nan")), "text_to_audio.recall_at_1 is nan, not a number"),
        (change("audio_to_text.map_at_10", 1.5), r"audio_to_text.map_at_10 is 1.5, must be between 0 and 1"),
        (change("audio_to_text.median_rank", 0), "median_rank is 0, must be between 1 and inf"),
        (change("text_to_audio.recall_at_5", "0.5"), "recall_at_5 is '0.5', not a number"),
        (change("text_to_audio.recall_at_5", True), "recall_at_5 is True, not a number"),
        (change("intervals.text_to_audio.recall_at_1", [0.9, 0.1]), "ends before it begins"),
        (change("intervals.text_to_audio.recall_at_1", [0.9]), "not two numbers"),
        (change("intervals.text_to_audio.recall_at_1", [0.1, float("inf")]), "is inf, not a number"),
        (change("intervals.confidence", 0.9), r"intervals.confidence is 0.9, not 0.95"),
        (change("chance.text_to_audio.recall_at_1", None), "chance of text_to_audio.recall_at_1 is None"),
        (change("text_to_audio.recall_at_1", 10**400), "int too large to convert to float"),
        (change("num_clips", 6.5), "num_clips is 6.5, must be a whole number, 1 or more"),
        (change("leakage.leaked", -1), "leakage.leaked is -1, must be a whole number, 0 or more"),
        (change("text_to_audio", []), "not the scores of a retrieval"),
        (lambda values: values.pop("intervals"), "it lacks 'intervals'"),
        (lambda values: values["audio_to_text"].pop("recall_at_50"), "it lacks 'recall_at_50'"),
        (change("accuracy", 0.5), "holds scores of a classification"),
        (change("name", 3), "not what wavtext5k-evaluate prints"),
        (change("model_sha256", ""), r"does not say which model's scores it holds \(no model_sha256\)"),
        (lambda values: values.pop("model_sha256"), "does not say which model's scores it holds"),
        (change("model_sha256", "e" * 64), r"scores of another model: .*eeeeeeeeeeee"),
    ],
)
def test_scores_that_cannot_be_are_refused(
    run: Path, scored: dict[str, Any], tmp_path: Path, spoil: Callable[[dict[str, Any]], object], message: str
) -> None:
    values = copy.deepcopy(scored)
    spoil(values)
    with pytest.raises(ExportError, match=message):
        read_scores(write_scores(tmp_path, values), run=run)


def test_scores_of_another_model_of_the_same_place_are_refused(
    run: Path, scored: dict[str, Any], tmp_path: Path
) -> None:
    other = small_run(tmp_path / "bells", seed=1, **HTSAT_ONLY)
    file = write_scores(tmp_path, scored)
    with pytest.raises(
        ExportError, match=r"scores of another model: .*bells \(SHA-256 \w{12}\), not .*evaluate this one"
    ):
        read_scores(file, run=other)
    assert read_scores(file, run=run / "model") == read_scores(file, run=run)


@pytest.mark.parametrize("content", ["", "{", "[1]", "null", '"x"', "\x00", "[" * 100_000])
def test_a_file_that_is_no_scores_is_refused(run: Path, tmp_path: Path, content: str) -> None:
    file = tmp_path / "scores.json"
    file.write_text(content)
    with pytest.raises(ExportError, match=r"scores.json: not .*wavtext5k-evaluate RUN --manifest MANIFEST --json"):
        read_scores(file, run=run)


def test_scores_are_read_before_anything_is_computed(run: Path, tmp_path: Path) -> None:
    for scores, message in ((tmp_path / "no.json", "no such file"), (tmp_path, "is a folder")):
        code, shown, said = invoke(run, "--to", "onnx", "--out", tmp_path / "out", "--scores", scores)
        assert (code, shown) == (1, "")
        assert message in said
        assert len(said.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_a_folder_without_a_model_is_named(tmp_path: Path) -> None:
    code, _, said = invoke(tmp_path / "no", "--to", "onnx", "--out", tmp_path / "out")
    assert (code, "not a run" in said) == (1, True)
    assert invoke(tmp_path / "no", "--to", "coreml", "--out", tmp_path / "out")[0] == 2
    assert not (tmp_path / "out").exists()
