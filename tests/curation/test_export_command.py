"""The command export, as people run it."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from curation.cli import app
from curation.commands.export import _bytes
from curation.errors import ConfigError
from curation.exports.selection import ExportOptions
from tests.curation.curated import make_manifest
from tests.curation.support import contents, run


def test_the_command_prints_counts_and_notes(tmp_path):
    clips = [{}, {"license": "unknown"}, {"license": "cc-by-nc-3.0", "split": "val"}, {}]
    curated = make_manifest(tmp_path / "curated", *clips)
    (tmp_path / "out.txt").write_text("soundbible-4 # asked\nsoundbible-9\n")
    arguments = ["export", curated, "--out", tmp_path / "out", "--opt-out", tmp_path / "out.txt"]
    done = run(*arguments)
    assert done.returncode == 0, done.stderr
    lines = [line.split() for line in done.stdout.splitlines()]
    assert [line[:4] for line in lines] == [
        ["read", "4", "clips", str(curated / "manifest.parquet")],
        ["left", "out", "2", "clips"],
        ["wrote", "2", "clips", "0.00"],
    ]
    assert "license_excluded 1, opted_out 1" in done.stdout
    assert "in 2 shards: train 1, val 1" in done.stdout
    assert "1 of 2 lines name no clip" in done.stderr
    assert "1 clips may not be used for profit" in done.stderr
    again = run(*arguments, "--json")
    facts = json.loads(again.stdout)
    assert facts["up_to_date"]
    assert facts["clips"] == {"in_manifest": 4, "exported": 2, "left_out": 2, "text_only": 0}
    assert "up to date" not in again.stdout.replace("up_to_date", "")
    assert "may not be passed on" not in again.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--format", "zip"], "format is 'zip'"),
        (["--shard-size", "0"], "shard_bytes=0"),
        (["--shard-size", "-5MB"], "is no size; write it as 500MB"),
        (["--shard-size", "5 apples"], "is no size"),
        (["--include-license", "mit"], "mit is not one of"),
        (["--license-policy", "any"], "license policy is 'any'"),
        (["--template", "no field"], "must be made of"),
        (["--sample-rate", "1"], "must be between"),
        (["--format", "webdataset", "--keep-text"], "into parquet only"),
        (["--opt-out", "nowhere.txt"], "nowhere.txt"),
    ],
)
def test_wrong_options_exit_with_2(tmp_path, arguments, message):
    done = CliRunner().invoke(app, ["export", str(tmp_path), "--out", str(tmp_path / "out"), *arguments])
    assert done.exit_code == 2
    assert message in " ".join(done.output.split())
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("text", "size"),
    [("500MB", 500_000_000), ("1GiB", 2**30), ("1.5 kB", 1500), ("10", 10), ("2B", 2), ("3m", 3 * 10**6)],
)
def test_sizes_are_read_as_people_write_them(text, size):
    assert _bytes(text) == size


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["curated", "--out", "out", "--split", "train,dev"], 2, "no split 'dev' in the manifest; it has train"),
        (["curated", "--out", "curated"], 2, "curated: --out must be another folder than the manifest's"),
        (["curated/manifest.parquet", "--out", "./curated"], 2, "--out must be another folder than the manifest's"),
        (["curated", "--out", "file"], 2, "file: --out must be a folder"),
        (["curated", "--out", "music"], 1, "music: not made by wavtext5k-curate export; name another folder"),
        (["nowhere", "--out", "out"], 1, "nowhere: no such manifest"),
        (["curated", "--out", "out", "--exclude-license", "cc-by-3.0"], 1, "no clip may be exported"),
    ],
)
def test_wrong_places_and_splits_exit_with_2_and_bad_data_with_1(tmp_path, monkeypatch, arguments, code, message):
    make_manifest(tmp_path / "curated", {})
    (tmp_path / "file").write_text("mine")
    (tmp_path / "music").mkdir()
    (tmp_path / "music" / "song.txt").write_text("mine")
    before = contents(tmp_path)
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, ["export", *arguments], env={"COLUMNS": "200"})
    assert (done.exit_code, done.stdout) == (code, "")
    assert message in done.stderr
    assert contents(tmp_path) == before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"format": "tar"}, "format is 'tar', must be one of parquet, webdataset"),
        ({"template": "{name}"}, r"caption template '\{name\}' must be made of"),
        ({"shard_bytes": 0}, "shard_bytes=0 must be greater than 0"),
        ({"sample_rate": 0}, "sample_rate=0 must be between 8000 and 192000 Hz"),
        ({"format": "webdataset", "keep_text": True}, "text without sound goes into parquet only"),
    ],
)
def test_options_that_cannot_be_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        ExportOptions(**options)
