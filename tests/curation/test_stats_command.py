from __future__ import annotations

import csv
import io
import json

import pytest
from typer.testing import CliRunner

from curation.cli import app
from curation.manifest import write_manifest
from tests.curation.support import CAPTION_LIST, row, run


@pytest.fixture
def published(tmp_path):
    file = tmp_path / "WavText5K.csv"
    file.write_text(CAPTION_LIST, encoding="utf-8")
    return file


@pytest.fixture
def manifest(tmp_path):
    write_manifest(tmp_path / "bells", [row(1, description="A bell rings."), row(2, captions=["One bell", "A dog"])])
    return tmp_path / "bells"


def test_table_1_of_a_manifest_and_of_text_alone_stand_below_each_other(manifest, published):
    done = run("stats", manifest, "--captions", "wavtext5k", published)
    lines = done.stdout.splitlines()
    assert done.returncode == 0, done.stderr
    assert lines[0].split() == ["duration", "(s)", "words", "per", "caption", "words", "per", "audio", "not", "empty"]
    cells = [line.split("  ") for line in lines[2:6]]
    texts = [[cell.strip() for cell in line if cell.strip()] for line in cells]
    assert texts[0][:7] == ["bells", "manifest", "0.00", "2", "3", "0.50", "0.50"]
    assert texts[1][:5] == ["WavText5K", "the paper", "25.48", "4,525", "4,348"]
    assert texts[2] == (
        ["wavtext5k", "text alone", "-", "3", "2", "-", "-", "5", "4.00", "3.50", "5", "2.67", "2.33", "3", "2", "1"]
    )
    assert texts[3][-3:] == ["4,525", "4,348", "2,058"]
    assert "bare: the mean once ASCII punctuation is removed" in done.stdout
    assert "per audio: all words of an audio's captions; an audio without a caption counts, with 0 words" in lines
    assert "WavText5K in the paper: 12.50 is 56,542 bare words / 4,525 audios" in done.stdout
    assert done.stderr.startswith("wavtext5k: the CSV names no licence")


def test_table_2_shows_one_caption_that_mentions_the_word(manifest, published):
    done = run("stats", manifest, "--captions", "wavtext5k", published, "--word", "Dog", "--seed", "3")
    lines = done.stdout.splitlines()
    assert lines[-3] == 'captions that mention "Dog", or it with s or es behind, as a word; one each, by seed 3'
    assert lines[-2].split() == ["bells", "1", "of", "3", "A", "dog"]
    assert lines[-1].split()[:4] == ["wavtext5k", "2", "of", "2"]
    none = run("stats", manifest, "--word", "whale")
    assert none.stdout.splitlines()[-1].split() == ["bells", "0", "of", "3", "-"]


def test_json_and_csv_say_the_same(manifest, published, tmp_path):
    table = tmp_path / "new" / "table.csv"
    done = run("stats", "--captions", "wavtext5k", published, "--json", "--csv", table, "--word", "dogs")
    facts = json.loads(done.stdout)
    ours, paper = facts["table_1"]
    assert (ours["data_set"], ours["hours"], ours["audios"], ours["max_words_per_caption"]) == ("wavtext5k", None, 3, 5)
    assert (paper["counted_from"], paper["mean_bare_words_per_audio"], paper["max_words_per_audio"]) == (
        "the paper",
        12.5,
        None,
    )
    assert facts["rules"]["captions"].endswith("a clip without any has its description")
    assert facts["table_2"]["rows"][0]["caption"] == "Two dogs growl."
    rows = list(csv.DictReader(io.StringIO(table.read_text(encoding="utf-8"))))
    assert [line["audios"] for line in rows] == ["3", "4525"]
    assert float(rows[0]["mean_bare_words_per_audio"]) == ours["mean_bare_words_per_audio"] == 7 / 3


def test_a_template_makes_the_captions_of_clips_without(published):
    done = run("stats", "--captions", "wavtext5k", published, "--template", "{title}. {description}", "--json")
    facts = json.loads(done.stdout)
    assert (facts["table_1"][0]["captions"], facts["table_1"][0]["max_words_per_caption"]) == (3, 6)
    assert facts["rules"]["captions"].endswith("what '{title}. {description}' makes of its text")


def test_data_sets_of_one_name_are_told_apart_by_place(published, tmp_path):
    other = tmp_path / "other.csv"
    other.write_bytes(published.read_bytes())
    done = run("stats", "--captions", "wavtext5k", published, "--captions", "wavtext5k", other, "--json")
    names = [line["data_set"] for line in json.loads(done.stdout)["table_1"]]
    assert names == [f"wavtext5k {published}", "WavText5K", f"wavtext5k {other}", "WavText5K"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "name a manifest, or --captions NAME FILE"),
        (["--captions", "wavtext5k"], "--captions"),
        (["--captions", "wavetext5k", "CSV"], "did you mean wavtext5k?"),
        (["--captions", "wavtext5k", "gone.csv"], "gone.csv: no such file or folder"),
        (["--captions", "wavtext5k", "ftq://x/y"], "unknown protocol ftq://"),
        (["--captions", "wavtext5k", "CSV", "--word", "  "], "--word: must not be blank"),
        (["BROKEN", "--captions", "wavtext5k", "CSV", "--word", "  "], "--word: must not be blank"),
        (["BROKEN", "--captions", "wavtext5k", "CSV", "--template", "{name}"], "--template: caption template '{name}'"),
        (["BROKEN", "--captions", "wavetext5k", "CSV"], "no reader for 'wavetext5k'; did you mean wavtext5k?; known: "),
        (["BROKEN", "--captions", "wavtext5k", "gone.csv"], "gone.csv: no such file or folder"),
        (["--captions", "wavtext5k", "CSV", "--template", "{name}"], "caption template '{name}' must be made of"),
        (["--captions", "wavtext5k", "CSV", "--template", "{title"], "caption template '{title'"),
        (["--captions", "wavtext5k", "CSV", "--seed", "x"], "--seed"),
        (["--colour"], "No such option"),
    ],
)
def test_wrong_usage_exits_2_before_anything_is_read(published, tmp_path, arguments, message):
    (tmp_path / "manifest.parquet").write_bytes(b"PAR1 not")
    words = [{"CSV": str(published), "BROKEN": str(tmp_path)}.get(argument, argument) for argument in arguments]
    done = CliRunner().invoke(app, ["stats", *words])
    assert (done.exit_code, done.stdout) == (2, "")
    assert message in " ".join(done.stderr.split())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("title,description\nA,B\n", "WavText5K.csv"),
        ("", "WavText5K.csv"),
        (CAPTION_LIST.replace("bigsoundbank.com/detail-0002", "example.org/0002"), "line 3"),
    ],
)
def test_a_file_that_is_no_such_list_exits_1(published, content, message):
    published.write_text(content, encoding="utf-8")
    done = CliRunner().invoke(app, ["stats", "--captions", "wavtext5k", str(published)])
    assert (done.exit_code, done.stdout) == (1, "")
    assert message in done.stderr.splitlines()[-1]


def test_no_manifest_or_a_broken_one_exits_1(manifest, tmp_path):
    gone = CliRunner().invoke(app, ["stats", str(tmp_path / "gone")])
    assert (gone.exit_code, gone.stdout) == (1, "")
    assert "no such manifest" in gone.stderr
    (manifest / "manifest.parquet").write_bytes(b"PAR1 not")
    broken = CliRunner().invoke(app, ["stats", str(manifest)])
    assert (broken.exit_code, broken.stdout) == (1, "")
    assert "not a whole Parquet file" in broken.stderr


def test_a_table_that_cannot_be_written_exits_1(published, tmp_path):
    done = CliRunner().invoke(app, ["stats", "--captions", "wavtext5k", str(published), "--csv", str(tmp_path)])
    assert (done.exit_code, done.stdout) == (1, "")
    assert str(tmp_path) in done.stderr
