"""The command ``import``: a folder as published in, a manifest out, and what is missing said aloud."""

from __future__ import annotations

import csv
import json
import re

import pytest
from typer.testing import CliRunner

from curation.cli import app
from curation.datasets import READERS, reader_of
from curation.manifest import read_dropped, read_manifest, validate_manifest
from tests.support.audio import write_html, write_tone


def run(*words):
    done = CliRunner().invoke(app, ["import", *map(str, words)])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done


def write_rows(file, *rows):
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w", encoding="utf-8", newline="") as opened:
        csv.writer(opened).writerows(rows)


@pytest.fixture
def clotho(tmp_path):
    """Lay out four clips: one in train, one in val with the very same sound, one without audio, one that is a page."""
    root = tmp_path / "clotho"
    header = ["file_name", *(f"caption_{number}" for number in range(1, 6))]
    for split, names in {
        "development": ["Bell.wav"],
        "validation": ["Bell.wav"],
        "evaluation": ["a.wav", "b.wav"],
    }.items():
        rows = [[name, *(f"{name} heard {number} times." for number in range(5))] for name in names]
        write_rows(root / f"clotho_captions_{split}.csv", header, *rows)
    for split in ("development", "validation"):
        write_tone(root / split / "Bell.wav", seconds=0.3)
    write_html(root / "evaluation" / "a.wav")
    return root


def test_import_makes_a_manifest_and_names_what_is_missing(clotho, tmp_path):
    out = tmp_path / "out"
    done = run("clotho", clotho, "--out", out, "--workers", "0")
    assert done.exit_code == 0, done.output
    assert re.fullmatch(
        rf"read        4 records    {clotho}\n"
        rf"dropped     2 records    missing_audio 1, not_audio 1 +{out}/dropped\.parquet\n"
        r"(flagged .*\n)?"
        rf"wrote       2 clips      0\.00 h at 44100 Hz +{out}/manifest\.parquet\n",
        done.stdout,
    )
    assert "missing_audio: " in done.stderr
    assert "evaluation/b.wav" in done.stderr
    assert "note: evaluation has 2 clips, 1045 in version 2.1 as published" in done.stderr

    clips = read_manifest(out).to_pylist()
    assert [(clip["source_id"], clip["split"]) for clip in clips] == [
        ("development/Bell.wav", "train"),
        ("validation/Bell.wav", "val"),
    ]
    assert len({clip["duplicate_group"] for clip in clips}) == 1  # the same sound: grouped, kept as published
    assert clips[0]["captions"] == [f"Bell.wav heard {number} times." for number in range(5)]
    assert (clips[0]["title"], clips[0]["origin"]) == ("Bell", "freesound")
    dropped = {row["source_id"]: row["reason"] for row in read_dropped(out).to_pylist()}
    assert dropped == {"evaluation/a.wav": "not_audio", "evaluation/b.wav": "missing_audio"}
    assert validate_manifest(out, read_audio=True) == []

    again = run("clotho", clotho, "--out", out, "--workers", "0", "--json")
    facts = json.loads(again.stdout)
    assert (facts["records"], facts["clips"], facts["up_to_date"]) == (4, 2, True)
    assert facts["dropped"] == {"missing_audio": 1, "not_audio": 1}


def test_audio_that_comes_later_is_taken_in(clotho, tmp_path):
    out = tmp_path / "out"
    assert run("clotho", clotho, "--out", out, "--workers", "0").exit_code == 0
    write_tone(clotho / "evaluation" / "b.wav", seconds=0.3, freq=900.0)
    done = run("clotho", clotho, "--out", out, "--workers", "0")
    assert "missing_audio" not in done.output
    assert len(read_manifest(out)) == 3


def test_captions_alone_make_a_manifest_with_audio_named_apart(clotho, tmp_path):
    table = clotho / "clotho_captions_development.csv"
    done = run("clotho", table, "--out", tmp_path / "out", "--workers", "0")
    assert done.exit_code == 2
    assert "captions alone make no manifest; say where their sounds lie: --audio FOLDER" in done.stderr
    done = run("clotho", table, "--audio", clotho, "--out", tmp_path / "out", "--workers", "0")
    assert done.exit_code == 0, done.output
    assert len(read_manifest(tmp_path / "out")) == 1


def test_an_opt_out_is_honoured(tmp_path):
    folder = tmp_path / "audiocaps"
    rows = [(number, f"abcdefghij{number}", 30, "A sound.") for number in range(3)]
    write_rows(folder / "test.csv", ("audiocap_id", "youtube_id", "start_time", "caption"), *rows)
    for number in range(3):
        write_tone(folder / "test" / f"abcdefghij{number}_30.flac", seconds=0.3, freq=300.0 + 100 * number)
    (tmp_path / "out.txt").write_text("http://youtube.com/watch?v=abcdefghij1\naudiocaps-abcdefghij2_30\n")
    done = run("audiocaps", folder, "--out", tmp_path / "out", "--opt-out", tmp_path / "out.txt", "--workers", "0")
    assert done.exit_code == 0, done.output
    assert [clip["origin_id"] for clip in read_manifest(tmp_path / "out").to_pylist()] == ["abcdefghij0"]
    assert {row["reason"] for row in read_dropped(tmp_path / "out").to_pylist()} == {"opted_out"}


def test_a_set_whose_audio_is_all_missing_fails_and_publishes_nothing(clotho, tmp_path):
    (tmp_path / "empty").mkdir()
    done = run("clotho", clotho, "--audio", tmp_path / "empty", "--out", tmp_path / "out", "--workers", "0")
    assert done.exit_code == 1
    assert "0 of 4 records kept, --min-kept asks for 1; no manifest written" in done.stderr
    assert "missing_audio" in done.stderr
    assert not (tmp_path / "out" / "manifest.parquet").exists()


def test_a_folder_of_another_set_is_not_taken_over(clotho, tmp_path):
    out = tmp_path / "out"
    assert run("clotho", clotho, "--out", out, "--workers", "0").exit_code == 0
    write_rows(tmp_path / "ac" / "test.csv", ("audiocap_id", "youtube_id", "start_time", "caption"), (1, "x", 1, "y"))
    done = run("audiocaps", tmp_path / "ac", "--out", out, "--workers", "0")
    assert done.exit_code != 0
    assert "import clotho" in done.stderr


@pytest.mark.parametrize("name", READERS)
def test_each_layout_can_be_asked_for(name):
    done = run(name, "--layout")
    assert (done.exit_code, done.stdout) == (0, reader_of(name).LAYOUT.rstrip() + "\n")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["cloto", "{set}", "--out", "{tmp}/o"], "no reader for 'cloto'; did you mean clotho?"),
        (["clotho", "--out", "{tmp}/o"], "missing argument FOLDER; see: wavtext5k-curate import clotho --layout"),
        (["clotho", "{set}"], "missing option --out"),
        (["clotho", "{tmp}/none", "--out", "{tmp}/o"], "none: no such file or folder"),
        (["clotho", "{set}", "--out", "{set}"], "--out must be another folder than FOLDER"),
        (["clotho", "{set}", "--out", "{set}/made"], "--out lies in"),
        (["clotho", "{set}", "--out", "{tmp}"], "--out holds"),
        (["clotho", "{set}", "--audio", "{tmp}/none", "--out", "{tmp}/o"], "none: no such file or folder"),
        (
            ["clotho", "{set}", "--audio", "{set}/clotho_captions_development.csv", "--out", "{tmp}/o"],
            "must be a folder",
        ),
        (["clotho", "{set}", "--out", "{tmp}/o", "--require", "caption"], "is not title or description"),
        (["clotho", "{set}", "--out", "{tmp}/o", "--min-duration", "-1"], "min_duration_s=-1"),
        (["clotho", "{set}", "--out", "ftp2://x/y"], "unknown protocol ftp2://"),
    ],
)
def test_wrong_usage_ends_with_two_and_says_what_is_wrong(clotho, tmp_path, words, message):
    done = run(*(word.format(set=clotho, tmp=tmp_path) for word in words))
    said = " ".join(done.stderr.replace("\u2502", " ").split())
    assert (done.exit_code, done.stdout) == (2, "")
    assert message in said
    assert not (tmp_path / "o").exists()


def test_a_folder_of_something_else_ends_with_one_and_shows_the_layout(tmp_path):
    (tmp_path / "x").mkdir()
    done = run("wavcaps", tmp_path / "x", "--out", tmp_path / "out")
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr.startswith(f"error: {tmp_path}/x: no as_final.json or bbc_final.json")
    assert reader_of("wavcaps").LAYOUT.splitlines()[0] in done.stderr
