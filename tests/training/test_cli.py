"""The commands as a person types them: help, refusals, a whole small run, its scores."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.training.clips import small_config, tone, write_clips
from training.cli import train_app
from training.evaluate_cli import evaluate_app
from training.metrics import METRICS
from training.recipe import to_yaml


def invoke(app, *arguments: str):
    return CliRunner().invoke(app, list(arguments))


@pytest.fixture(scope="module")
def manifest(tmp_path_factory) -> Path:
    rows = [{"waveform": tone(200 + 100 * number, 0.4)} for number in range(6)]
    rows += [{"split": "test", "waveform": tone(250 + 100 * number, 0.4)} for number in range(5)]
    return write_clips(tmp_path_factory.mktemp("manifest"), rows)


@pytest.fixture(scope="module")
def recipe(tmp_path_factory, manifest) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    file = folder / "small.yaml"
    file.write_text(to_yaml(small_config(folder, manifest)))
    return file


@pytest.fixture(scope="module")
def run(recipe) -> Path:
    done = invoke(train_app, str(recipe))
    assert done.exit_code == 0, done.stderr
    return recipe.parent / "run"


@pytest.mark.parametrize("app", [train_app, evaluate_app])
def test_help_and_version(app):
    done = invoke(app, "--help")
    assert done.exit_code == 0
    assert "Example: wavtext5k-" in done.stdout
    done = invoke(app, "--version")
    assert done.exit_code == 0
    assert done.stdout.startswith("wavtext5k ")


def test_help_loads_nothing_heavy():
    code = (
        "import sys; from training.cli import train_app\n"
        "try: train_app(['--help'])\n"
        "except SystemExit: pass\n"
        "print(sorted({'torch', 'transformers', 'omegaconf', 'numpy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("[]\n")


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ((), 2, "Missing argument"),
        (("tiny", "--no-such"), 2, "No such option"),
        (("tinny",), 2, "error: there is no recipe 'tinny'; did you mean tiny?"),
        (("tiny", "lr=1"), 2, "error: there is no setting 'lr'; did you mean 'optimizer.lr'?"),
        (("tiny", "lr"), 2, "error: 'lr' is not section.key=value"),
        (("tiny", "run.epochs=many"), 2, "error: run.epochs must be a whole number"),
        (("tiny", "data.train=[{manifest: none}]"), 1, "error: none"),
    ],
)
def test_training_refuses(arguments, code, message):
    done = invoke(train_app, *arguments)
    assert done.exit_code == code
    assert message in done.stderr
    assert done.stdout == ""


def test_print_config_prints_a_recipe(recipe):
    done = invoke(train_app, str(recipe), "optimizer.lr=0.5", "--print-config")
    assert done.exit_code == 0
    assert done.stdout == recipe.read_text().replace("lr: 0.002", "lr: 0.5")


def test_a_finished_run_says_so(run, recipe):
    done = invoke(train_app, str(recipe))
    assert done.exit_code == 0
    assert done.stdout.startswith("was finished before: 2 epochs, 2 steps")
    result = json.loads(invoke(train_app, str(recipe), "--json").stdout)
    assert result["was_finished"]
    assert Path(result["folder"]) == run


def test_evaluation_prints_both_directions_with_chance(run, manifest):
    done = invoke(evaluate_app, str(run), "--manifest", str(manifest))
    assert done.exit_code == 0, done.stderr
    lines = done.stdout.splitlines()
    assert "split test: 5 clips, 5 captions, list sha256 " in lines[0]
    assert [line.split()[0] for line in lines[2:]] == ["text_to_audio", "chance", "audio_to_text", "chance"]
    assert lines[3].split()[1:] == ["20.00", "100.00", "100.00", "100.00", "45.67", "3.0"]


def test_evaluation_as_json_on_chosen_clips(run, manifest, tmp_path):
    ids = tmp_path / "ids.txt"
    ids.write_text("\ufeff# a comment\ntest-000\ntest-007\n\ntest-008\n")
    arguments = (str(run), "--manifest", str(manifest), "--ids", str(ids), "--json")
    done = invoke(evaluate_app, *arguments)
    assert done.exit_code == 0, done.stderr
    scores = json.loads(done.stdout)
    assert (scores["num_clips"], scores["num_captions"]) == (3, 3)
    for report in (scores, scores["chance"]):
        assert list(report["text_to_audio"]) == list(report["audio_to_text"]) == list(METRICS)
    assert scores["chance"]["text_to_audio"]["recall_at_1"] == pytest.approx(1 / 3)
    assert json.loads(invoke(evaluate_app, *arguments, "--batch-size", "1").stdout) == scores


@pytest.mark.parametrize(
    ("text", "message"),
    [("nobody\n", "1 of 1 ids are not in it, the first is 'nobody'"), ("", "ids.txt: the list of ids is empty")],
)
def test_evaluation_refuses_ids(run, manifest, tmp_path, text, message):
    (tmp_path / "ids.txt").write_text(text)
    done = invoke(evaluate_app, str(run), "--manifest", str(manifest), "--ids", str(tmp_path / "ids.txt"))
    assert done.exit_code == 1
    assert message in done.stderr


def test_evaluation_refuses_what_is_not_there(run, manifest, tmp_path):
    for arguments, message in (
        ((str(tmp_path), "--manifest", str(manifest)), "not a run"),
        ((str(run), "--manifest", str(tmp_path)), "manifest.parquet"),
        ((str(run), "--manifest", str(manifest), "--split", "val"), "split 'val' has no clips (there are test, train)"),
        ((str(run), "--manifest", str(manifest), "--ids", str(tmp_path / "none")), "No such file"),
        ((str(run), "--manifest", str(manifest), "--device", "cuda:99"), "no such GPU"),
    ):
        done = invoke(evaluate_app, *arguments)
        assert (done.exit_code, message in done.stderr) == (1, True), done.stderr


@pytest.mark.parametrize(
    ("option", "value", "code", "message"),
    [
        ("--device", "tpu", 2, "error: --device tpu must be auto, cpu, cuda or cuda:N"),
        ("--device", "mps", 2, "error: --device mps must be auto, cpu, cuda or cuda:N"),
        ("--device", "cuda:99", 1, "error: --device cuda:99, but PyTorch finds no such GPU here; use --device cpu"),
        ("--template", "", 2, "error: --template"),
        ("--template", "{x}", 2, "error: --template"),
    ],
)
def test_evaluation_blames_the_option_that_was_used(run, manifest, option, value, code, message):
    done = invoke(evaluate_app, str(run), "--manifest", str(manifest), option, value)
    assert done.exit_code == code
    assert done.stderr.startswith(message)
    assert "data.templates" not in done.stderr
