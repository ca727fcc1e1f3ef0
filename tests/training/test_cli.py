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
from training.recipe import to_yaml


def invoke(train_app, *arguments: str):
    return CliRunner().invoke(train_app, list(arguments))


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


def test_help_and_version():
    done = invoke(train_app, "--help")
    assert done.exit_code == 0
    assert "Example: wavtext5k-" in done.stdout
    done = invoke(train_app, "--version")
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
    assert done.stdout.startswith("was finished before: 2 epochs, 4 steps")
    result = json.loads(invoke(train_app, str(recipe), "--json").stdout)
    assert result["was_finished"]
    assert Path(result["folder"]) == run
