"""Zero-shot classification: accuracies worked out by hand, folds, prompts, and sets that have no classes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner

from curation.cli import app as curate_app
from curation.errors import ConfigError
from tests.training.clips import tone, write_clips
from tests.training.small_models import save_small_model, small_model
from training.evaluate_cli import evaluate_app
from training.recipe import UsageError
from training.selection import choose_labelled
from training.zeroshot import PROMPT, zero_shot

LABELS = ["dog", "sea_waves", "dog", "rain", "sea_waves", "dog"]
FOLDS = [1, 1, 2, 2, 3, 3]


@pytest.fixture(scope="module")
def manifest(tmp_path_factory) -> Path:
    """Six clips of three classes, without a word of text."""
    rows = [
        {"labels": [label], "fold": fold, "title": "", "description": "", "split": "test" if fold == 3 else "train"}
        for label, fold in zip(LABELS, FOLDS, strict=True)
    ]
    return write_clips(tmp_path_factory.mktemp("labelled"), rows)


@pytest.fixture(scope="module")
def model():
    return small_model()


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    return save_small_model(tmp_path_factory.mktemp("runs") / "run")


def said(model, *told: str, prompt: str = PROMPT):
    """Return what embeds clips as if the model had heard these classes."""
    return lambda clips: model.embed_text([prompt.format(label=label) for label in told])


def test_the_nearest_class_is_the_answer(model, manifest):
    found = choose_labelled([manifest])
    assert (found.labels, found.folds, found.classes) == (LABELS, FOLDS, ["dog", "rain", "sea_waves"])
    told = ("dog", "sea waves", "rain", "rain", "dog", "rain")
    score = zero_shot(model, found.clips, found.labels, folds=found.folds, embed=said(model, *told))
    assert score.accuracy == pytest.approx(3 / 6)
    assert score.by_fold == {1: 1.0, 2: 0.5, 3: 0.0}
    assert score.mean_recall == pytest.approx((1 / 3 + 1 + 1 / 2) / 3)
    assert (score.chance, score.commonest) == (pytest.approx(1 / 3), 0.5)
    dog, rain, waves = score.by_class
    assert (dog.num_clips, dog.recall, dog.precision, dog.confused_with) == (3, pytest.approx(1 / 3), 0.5, "rain")
    assert (rain.recall, rain.precision, rain.confused_with) == (1.0, pytest.approx(1 / 3), "")
    assert waves.confused_with == "dog"
    assert 0 <= score.interval[0] < 0.5 < score.interval[1] <= 1
    assert "dog: 33.3 % of 3, most often told to be rain" in score.table()


def test_the_interval_is_that_of_clips_drawn_again(model, manifest):
    clips = choose_labelled([manifest]).clips
    many = [clips[0]] * 400
    labels = ["dog"] * 400
    embed = said(model, *["dog"] * 300, *["rain"] * 100)
    score = zero_shot(model, many, labels, classes=["dog", "rain"], embed=embed, resamples=4000)
    spread = 1.96 * np.sqrt(0.75 * 0.25 / 400)
    assert score.interval == pytest.approx((0.75 - spread, 0.75 + spread), abs=0.006)
    again = zero_shot(model, many, labels, classes=["dog", "rain"], embed=embed, resamples=4000)
    assert again.interval == score.interval
    perfect = zero_shot(model, many, labels, classes=["dog", "rain"], embed=said(model, *labels))
    assert (perfect.accuracy, perfect.interval) == (1.0, (1.0, 1.0))


def test_a_collapsed_model_scores_chance(model, manifest, monkeypatch):
    found = choose_labelled([manifest], ids=["test-000", "test-001", "test-003"])
    monkeypatch.setattr(type(model), "embed_text", lambda self, texts: np.ones((len(texts), 4), np.float32) / 2)
    score = zero_shot(model, found.clips, found.labels, embed=lambda clips: np.ones((3, 4), np.float32) / 2)
    assert score.accuracy == score.chance == pytest.approx(1 / 3)


def test_several_prompts_are_averaged(model, manifest):
    found = choose_labelled([manifest])
    prompts = ["{label}", "I hear {label}, {label}."]
    vectors = [model.embed_text([prompt.format(label=name) for prompt in prompts]).sum(axis=0) for name in LABELS]
    score = zero_shot(
        model,
        found.clips,
        found.labels,
        prompt=[prompt.replace("sea_waves", "sea waves") for prompt in prompts],
        embed=lambda clips: np.stack(vectors).astype(np.float32),
    )
    by = {result.label: result.recall for result in score.by_class}
    assert (by["dog"], by["rain"]) == (1.0, 1.0)
    assert score.prompts == tuple(prompts)


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        ("", "--prompt '' must have {label} in it"),
        ("a sound", "must have {label} in it and no other field"),
        ("a {sound}", "must have {label} in it and no other field"),
        ("{label:>9}", "must have {label} in it and no other field"),
        ("{label!r}", "must have {label} in it and no other field"),
        ("{label} {}", "must have {label} in it and no other field"),
        ("{label", "--prompt '{label': expected '}'"),
    ],
)
def test_prompts_that_cannot_be_are_refused(model, manifest, prompt, message):
    found = choose_labelled([manifest])
    with pytest.raises(UsageError, match=message.replace("{", "[{]")):
        zero_shot(model, found.clips, found.labels, prompt=prompt)


def test_classes_that_cannot_be_are_refused(model, manifest):
    found = choose_labelled([manifest])
    with pytest.raises(ConfigError, match="two classes at least, found dog"):
        zero_shot(model, found.clips[:1], ["dog"])
    with pytest.raises(ConfigError, match="two classes are both read 'sea waves'"):
        zero_shot(model, found.clips[:2], ["sea_waves", "sea waves"])
    with pytest.raises(ValueError, match="label 'owl' is none of the 2 classes"):
        zero_shot(model, found.clips[:1], ["owl"], classes=["dog", "rain"])
    with pytest.raises(ValueError, match=r"a label \(and a fold\) for each of 6 clips"):
        zero_shot(model, found.clips, ["dog"])


def test_clips_are_chosen_by_fold_split_and_id(manifest):
    def chosen(**options):
        found = choose_labelled([manifest], **options)
        assert found.classes == ["dog", "rain", "sea_waves"]  # of the whole set, whichever clips are chosen
        return [clip.clip_id for clip in found.clips]

    assert chosen(folds=[1, 3]) == ["test-000", "test-001", "test-004", "test-005"]
    assert chosen(split="test") == ["test-004", "test-005"]
    assert chosen(ids=["test-005", "test-002"]) == ["test-002", "test-005"]
    assert chosen(folds=[2], split="train") == ["test-002", "test-003"]
    with pytest.raises(ConfigError, match=r"fold 4 has no clips \(there are 1, 2, 3\)"):
        chosen(folds=[1, 4])
    with pytest.raises(ConfigError, match=r"fold 1 has no clips \(there are 3\)"):
        chosen(folds=[1], split="test")
    with pytest.raises(ConfigError, match=r"split 'val' has no clips"):
        chosen(split="val")


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([[], []], "no clip has a label; zero-shot classification needs a set with classes"),
        ([["dog"], ["dog"]], "every clip is 'dog'; there must be two classes at least"),
        ([["dog"], ["dog", "rain"]], "1 of 2 clips have more than one label, the first is 'test-001'"),
        ([["dog"], []], "every clip is 'dog'"),
        ([["dog"], ["rain"], []], "1 of 3 clips have no label, the first is 'test-002'"),
    ],
)
def test_sets_without_one_class_a_clip_are_refused(tmp_path, labels, message):
    folder = write_clips(tmp_path, [{"labels": each} for each in labels])
    with pytest.raises(ConfigError, match=message):
        choose_labelled([folder])


def test_the_command_on_a_set_as_esc50_is_published(tmp_path, run):
    """From the published layout through ``wavtext5k-curate import esc50`` to an accuracy."""
    (tmp_path / "esc" / "meta").mkdir(parents=True)
    (tmp_path / "esc" / "audio").mkdir()
    lines = ["filename,fold,target,category,esc10,src_file,take"]
    for number, (label, fold) in enumerate(zip(LABELS, FOLDS, strict=True)):
        name = f"{fold}-{1000 + number}-A-{number}.wav"
        soundfile.write(tmp_path / "esc" / "audio" / name, tone(300 + 170 * number, 0.6), 44_100)
        lines.append(f"{name},{fold},{number},{label},True,{1000 + number},A")
    (tmp_path / "esc" / "meta" / "esc50.csv").write_text("\n".join(lines) + "\n")
    out = tmp_path / "esc50"
    done = CliRunner().invoke(
        curate_app, ["import", "esc50", str(tmp_path / "esc"), "--out", str(out), "--workers", "1"]
    )
    assert done.exit_code == 0, done.stderr
    arguments = [str(run), "--manifest", str(out), "--zero-shot"]
    done = CliRunner().invoke(evaluate_app, arguments)
    assert done.exit_code == 0, done.stderr
    assert done.stdout.startswith(f"{out}: 6 clips, 3 classes, list sha256 ")
    assert "prompt: This is a sound of {label}." in done.stdout
    assert "leakage: not checked: nothing says what the model was trained on" in done.stdout
    done = CliRunner().invoke(evaluate_app, [*arguments, "--fold", "1", "--fold", "3", "--prompt", "{label}", "--json"])
    assert done.exit_code == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["num_clips"], found["num_classes"], found["folds"]) == (4, 3, [1, 3])
    assert set(found["by_fold"]) == {"1", "3"}
    assert found["chance"] == pytest.approx(1 / 3)
    assert sum(each["num_clips"] for each in found["by_class"]) == 4
    assert found["leakage"]["leaked"] == 0


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (("--prompt", "a sound"), 2, "must have {label} in it"),
        (("--prompt", ""), 2, "must have {label} in it"),
        (("--fold", "7"), 1, "fold 7 has no clips (there are 1, 2, 3)"),
        (("--template", "{title}"), 2, "--zero-shot and --template cannot be given together"),
        (("--markdown",), 2, "--zero-shot and --markdown cannot be given together"),
        (("--compare", "runs/b"), 2, "--zero-shot and --compare cannot be given together"),
    ],
)
def test_the_command_refuses(run, manifest, options, code, message):
    done = CliRunner().invoke(evaluate_app, [str(run), "--manifest", str(manifest), "--zero-shot", *options])
    assert done.exit_code == code
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1
