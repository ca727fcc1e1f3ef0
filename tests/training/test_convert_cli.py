"""The command: what it prints, what it refuses, and what it leaves of a folder."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from curation.errors import ConfigError
from tests.training.published import make, save_tokenizer
from training.convert_cli import Kind, convert_app
from training.models.convert import ALL_KINDS, convert


def invoke(*arguments: str | Path):
    return CliRunner().invoke(convert_app, [str(argument) for argument in arguments])


def test_the_command_prints_the_account(tmp_path):
    file = make(tmp_path, "panns-cnn14")
    done = invoke(file, "--out", tmp_path / "out")
    assert (done.exit_code, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    words = [line.split()[0] for line in lines]
    assert words == ["kind", "matched", "dropped", "missing", "front", "note", "wrote", "next"]
    assert "81 tensors" in lines[1]
    assert lines[2].endswith("spectrogram_extractor.stft.conv_real.weight, ...")
    assert "32000 Hz, window 1024, hop 320, 64 mels, 50-14000 Hz" in lines[4]
    again = invoke(file, "--out", tmp_path / "out")
    assert again.exit_code == 0
    assert again.stdout == done.stdout.replace("wrote    ", "there    ")
    account = json.loads(invoke(file, "--out", tmp_path / "out", "--json").stdout)
    assert account["was_done"]
    assert len(account["matched"]) == 81


def test_the_command_line(tmp_path):
    assert [kind.value for kind in Kind] == list(ALL_KINDS)
    done = invoke("--help")
    assert done.exit_code == 0
    assert "Example: wavtext5k-train convert Cnn14_mAP=0.431.pth --out weights/cnn14" in done.stdout
    for arguments, message in (
        ((), "Missing argument 'SOURCE'"),
        (("a",), "Missing option '--out'"),
        (("a", "--out", "b", "--kind", "x"), "Invalid value for '--kind'"),
        (("a", "--out", "b", "--to", "transformers", "--kind", "panns-cnn14"), "--to transformers takes no --kind"),
    ):
        done = invoke(*arguments)
        assert (done.exit_code, message in done.stderr) == (2, True), done.stderr
    done = invoke(tmp_path / "none.pth", "--out", tmp_path / "out")
    assert (done.exit_code, done.stderr) == (
        1,
        f"error: {tmp_path / 'none.pth'}: missing; check the path, or fetch the file first\n",
    )
    file = make(tmp_path, "panns-cnn14")
    done = invoke(file, "--out", tmp_path / "out", "--to", "transformers")
    assert done.exit_code == 1
    assert "takes a run or a model folder of ours" in done.stderr
    done = invoke(file, "--out", tmp_path / "out", "--tokenizer", tmp_path)
    assert "--tokenizer is for laion-630k files and text folders" in done.stderr


def test_a_model_is_made_and_written_for_transformers(tmp_path):
    words = save_tokenizer(tmp_path / "roberta-base")
    done = invoke(make(tmp_path, "laion-630k"), "--out", tmp_path / "model", "--tokenizer", words)
    assert done.exit_code == 0, done.stderr
    assert done.stdout.splitlines()[-1].endswith(
        f"wavtext5k-evaluate {tmp_path}/model --manifest data/curated --split test"
    )
    done = invoke(tmp_path / "model", "--out", tmp_path / "theirs", "--to", "transformers")
    assert done.exit_code == 0, done.stderr
    assert "transformers ClapModel" in done.stdout


def test_help_loads_nothing_heavy():
    code = (
        "import sys; from training.convert_cli import convert_app\n"
        "try: convert_app(['--help'])\n"
        "except SystemExit: pass\n"
        "print(sorted({'torch', 'transformers', 'omegaconf', 'numpy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("[]\n")


def test_other_folders_are_left_alone(tmp_path):
    file = make(tmp_path, "panns-cnn14")
    other = tmp_path / "other"
    other.mkdir()
    convert(file, other)  # an empty one is taken
    kept = {path.name: path.read_bytes() for path in other.iterdir()}
    with pytest.raises(ConfigError, match=r"holds the part cnn14 of .*Cnn14_mAP=0.431.pth; name another folder"):
        convert(make(tmp_path, "htsat-audioset"), other)
    assert {path.name: path.read_bytes() for path in other.iterdir()} == kept
    for path in (tmp_path / "mine", tmp_path / "file"):
        if path.name == "mine":
            path.mkdir()
            (path / "thesis.txt").write_text("x")
        else:
            path.write_text("x")
        with pytest.raises(ConfigError, match=r"holds something else \(thesis.txt\)|a file; name a folder"):
            convert(file, path)
    (other / "converted.json").write_text("{}")
    with pytest.raises(ConfigError, match=r"converted.json is damaged"):
        convert(file, other)


def test_a_folder_appears_whole_or_not_at_all(tmp_path, monkeypatch):
    file = make(tmp_path, "panns-cnn14")
    left = tmp_path / ".out.part"
    left.mkdir()
    (left / "model.safetensors").write_text("of a conversion that was killed")
    with monkeypatch.context() as patch:
        patch.setattr("training.models.parts.WEIGHTS_FILE", "no/\0file")
        with pytest.raises(ValueError, match="null"):
            convert(file, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert not left.exists()
    convert(file, tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == [file.name, "out"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "config.json",
        "converted.json",
        "model.safetensors",
    ]
