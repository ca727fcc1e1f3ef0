"""Clotho as its archives unpack, as aac-datasets lays it out, and as one table."""

from __future__ import annotations

import csv
import re

import pytest
from upath import UPath

from curation.datasets import read_collection
from curation.errors import ManifestError
from tests.support.audio import write_tone

METADATA = ("file_name", "keywords", "sound_id", "sound_link", "start_end_samples", "manufacturer", "license")
BY = "http://creativecommons.org/licenses/by/3.0/"


def write_captions(file, *names, captions=5):
    header = ["file_name", *(f"caption_{number + 1}" for number in range(5))]
    write_csv(file, header, [[name, *(f"{name}, told {number}." for number in range(captions))] for name in names])


def write_metadata(file, *rows):
    write_csv(file, METADATA, rows, encoding="iso-8859-1")


def write_csv(file, header, rows, encoding="utf-8"):
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w", encoding=encoding, newline="") as opened:
        csv.writer(opened).writerows([header, *rows])


def about(name, sound_id="1", manufacturer="Ann", license_url=BY, keywords="Bell;metal;bell"):
    link = f"https://freesound.org/people/ann/sounds/{sound_id}"
    return (name, keywords, sound_id, link, "[0, 882000]", manufacturer, license_url)


def make_clotho(root, csv_folder="", audio_folder=""):
    """Lay out two clips of development and one of each other split; one recording is in two splits."""
    tables, sounds = root / csv_folder, root / audio_folder
    for split, names in {
        "development": ("Bell.wav", "Rain.wav"),
        "validation": ("Bell.wav",),
        "evaluation": ("Night: city.wav",),
    }.items():
        write_captions(tables / f"clotho_captions_{split}.csv", *names)
        for name in names:
            write_tone(sounds / split / re.sub(": ", "_", name), seconds=0.2)
    write_metadata(
        tables / "clotho_metadata_development.csv",
        about("Bell.wav", "11", "J\u00f6rg"),
        about("Rain.wav", "Not found", license_url="http://creativecommons.org/publicdomain/zero/1.0/"),
    )
    write_metadata(tables / "clotho_metadata_validation.csv", about("Bell.wav", "22"))
    write_metadata(tables / "clotho_metadata_evaluation.csv", about("Night: city.wav", "22"))
    return root


@pytest.mark.parametrize(
    ("csv_folder", "audio_folder"),
    [
        ("", ""),
        ("clotho_csv_files", "clotho_audio_files"),
        ("CLOTHO_v2.1/clotho_csv_files", "CLOTHO_v2.1/clotho_audio_files"),
    ],
)
def test_every_layout_gives_the_same_clips_and_finds_their_audio(tmp_path, csv_folder, audio_folder):
    collection = read_collection("clotho", make_clotho(tmp_path, csv_folder, audio_folder))
    assert collection.root == tmp_path
    assert collection.keep_duplicates
    bell, rain, other_bell, night = collection.entries
    assert (bell.source, bell.source_id, bell.split) == ("clotho", "development/Bell.wav", "train")
    assert bell.captions == tuple(f"Bell.wav, told {number}." for number in range(5))
    assert (bell.origin, bell.origin_id, bell.page_url) == (
        *("freesound", "11"),
        "https://freesound.org/people/ann/sounds/11",
    )
    assert (bell.title, bell.author, bell.tags) == ("Bell", "J\u00f6rg", ("bell", "metal"))
    assert (bell.license, bell.license_url) == ("cc-by-3.0", BY)
    assert (rain.origin_id, rain.license) == ("", "cc0-1.0")
    assert (other_bell.split, night.split) == ("val", "test")
    assert len({entry.clip_id for entry in collection.entries}) == 4
    assert all((collection.root / entry.audio_file).is_file() for entry in collection.entries)
    assert "1 Freesound recordings are in two splits: 22 (val and test)" in collection.notes
    assert "1 clips of development have no Freesound id in clotho_metadata_development.csv" in collection.notes
    assert "development has 2 clips, 3839 in version 2.1 as published" in collection.notes


def test_missing_audio_and_missing_splits_do_not_hide_a_clip(tmp_path):
    write_captions(tmp_path / "clotho_captions_validation.csv", "Gone.wav")
    collection = read_collection("clotho", tmp_path)
    assert [entry.audio_file for entry in collection.entries] == ["validation/Gone.wav"]
    assert "no captions of development, evaluation there" in collection.notes
    assert any("no clotho_metadata_validation.csv: " in note for note in collection.notes)


@pytest.mark.parametrize(
    ("name", "key"),
    [("clotho_train.csv", "development"), ("val.csv", "validation"), ("clotho_test.gt.csv", "evaluation")],
)
def test_one_table_is_text_only_unless_its_audio_is_named(tmp_path, name, key):
    write_captions(tmp_path / name, " Bell.wav")
    collection = read_collection("clotho", tmp_path / name)
    assert collection.root is None
    assert collection.entries[0].source_id == f"{key}/ Bell.wav"
    write_tone(tmp_path / "sounds" / "Bell.wav", seconds=0.2)
    collection = read_collection("clotho", tmp_path / name, audio=tmp_path / "sounds")
    assert collection.root == tmp_path / "sounds"
    assert [entry.audio_file for entry in collection.entries] == ["Bell.wav"]


def test_a_clip_whose_captions_are_empty_has_none(tmp_path):
    write_csv(
        tmp_path / "val.csv",
        ["file_name", *(f"caption_{n}" for n in range(1, 6))],
        [["a.wav", "", " ", "Rain.", "", ""]],
    )
    assert read_collection("clotho", tmp_path / "val.csv").entries[0].captions == ("Rain.",)


def test_metadata_that_do_not_fit_the_captions_are_counted(tmp_path):
    write_captions(tmp_path / "clotho_captions_evaluation.csv", "a.wav", "b.wav")
    write_metadata(tmp_path / "clotho_metadata_evaluation.csv", about("a.wav"), about("c.wav"))
    notes = read_collection("clotho", tmp_path).notes
    assert "1 clips of evaluation are not in clotho_metadata_evaluation.csv" in notes
    assert "1 rows of clotho_metadata_evaluation.csv are of no clip in evaluation" in notes


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("a.wav", "a.wav"), r"clotho_captions_development\.csv: line 3: file_name 'a\.wav' stands there twice"),
        (("../a.wav",), r"line 2: file_name is '\.\./a\.wav', must be the name of a file"),
        (("",), r"line 2: file_name is ''"),
    ],
)
def test_a_bad_file_name_is_refused_with_its_line(tmp_path, names, message):
    write_captions(tmp_path / "clotho_captions_development.csv", *names)
    with pytest.raises(ManifestError, match=message):
        read_collection("clotho", tmp_path)


def test_a_row_with_too_few_captions_is_refused(tmp_path):
    write_captions(tmp_path / "clotho_captions_development.csv", "a.wav", captions=3)
    with pytest.raises(ManifestError, match=r"line 2: 4 cells, the header has 6"):
        read_collection("clotho", tmp_path)


def test_metadata_of_the_challenge_with_another_delimiter_are_refused(tmp_path):
    write_captions(tmp_path / "clotho_captions_development.csv", "a.wav")
    (tmp_path / "clotho_metadata_development.csv").write_text(";".join(METADATA) + "\n")
    with pytest.raises(ManifestError, match=r"clotho_metadata_development\.csv: line 1: column 'file_name' is missing"):
        read_collection("clotho", tmp_path)


def test_a_folder_of_something_else_is_shown_the_layout(tmp_path):
    (tmp_path / "readme.txt").touch()
    with pytest.raises(
        ManifestError, match=r"no clotho_captions_.*; found there: readme\.txt\nexpected:\nclotho_captions_"
    ):
        read_collection("clotho", tmp_path)
    with pytest.raises(ManifestError, match=r"readme\.txt: the name tells no split \(development, dev, train"):
        read_collection("clotho", tmp_path / "readme.txt")


def test_a_store_gives_the_same_clips(tmp_path):
    make_clotho(tmp_path)
    store = UPath("memory://clotho-test/set")
    for file in filter(lambda path: path.is_file(), tmp_path.rglob("*")):
        (store / file.relative_to(tmp_path).as_posix()).write_bytes(file.read_bytes())
    local, remote = read_collection("clotho", tmp_path), read_collection("clotho", store)
    assert (remote.entries, remote.notes, remote.root) == (local.entries, local.notes, store)
