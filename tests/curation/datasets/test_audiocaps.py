"""AudioCaps: rows to clips, and audio under the names that people give it."""

from __future__ import annotations

import csv

import pytest

from curation.datasets import read_collection
from curation.errors import ManifestError


def write_table(file, *rows):
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w", encoding="utf-8", newline="") as opened:
        csv.writer(opened).writerows([("audiocap_id", "youtube_id", "start_time", "caption"), *rows])


def touch(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


ROWS = [
    (9, "-abcdefghij", 30, "A dog barks"),
    (7, "Zbcdefghij_", 0, "Rain, then wind"),
    (8, "-abcdefghij", 30, "A bark"),
    (6, "-abcdefghij", 90, ""),
]


def test_rows_of_one_video_and_start_are_one_clip(tmp_path):
    write_table(tmp_path / "val.csv", *ROWS)
    dog, rain, silent = read_collection("audiocaps", tmp_path).entries
    assert (dog.source_id, dog.captions, dog.split) == ("-abcdefghij_30", ("A dog barks", "A bark"), "val")
    assert (dog.origin, dog.origin_id) == ("youtube", "-abcdefghij")
    assert dog.page_url == "https://www.youtube.com/watch?v=-abcdefghij"
    assert (dog.license, dog.audio_file) == ("unknown", "val/-abcdefghij_30.flac")
    assert rain.source_id == "Zbcdefghij__0"
    assert silent.captions == ()
    assert dog.clip_id.startswith("audiocaps-abcdefghij_30-")  # no file name begins with "-"


@pytest.mark.parametrize(
    "name",
    [
        "AUDIOCAPS/audio_32000Hz/val/-abcdefghij_30.flac",
        "-abcdefghij_30.wav",
        "audio/-abcdefghij_30_40.mp3",
        "wavs/-abcdefghij_30000_40000.wav",
        "Y-abcdefghij_30.wav",
        "-abcdefghij.m4a",
        "val/Y-abcdefghij.wav",
        "8.wav",
    ],
)
def test_audio_is_found_under_every_documented_name(tmp_path, name):
    write_table(tmp_path / "val.csv", *ROWS)
    touch(tmp_path, name, "train/-abcdefghij_31.flac", "-Abcdefghij_30.flac", "notes/-abcdefghij_30.txt")
    collection = read_collection("audiocaps", tmp_path)
    assert collection.entries[0].audio_file == name
    assert collection.root == tmp_path


def test_the_folder_of_the_split_goes_before_others(tmp_path):
    write_table(tmp_path / "test.csv", *ROWS)
    touch(tmp_path / "sounds", "a/test/Y-abcdefghij.wav", "-abcdefghij_30.wav")
    collection = read_collection("audiocaps", tmp_path, audio=tmp_path / "sounds")
    assert collection.root == tmp_path / "sounds"
    assert collection.entries[0].audio_file == "a/test/Y-abcdefghij.wav"


@pytest.mark.parametrize(
    "name",
    [
        *("train.csv", "AUDIOCAPS/train.csv", "dataset/train.csv", "dataset2.0/train.csv"),
        *("audiocaps_v1_train.csv", "audiocaps_v2_train.csv", "train_v2.csv", "train_fixed.csv"),
    ],
)
def test_tables_are_found_by_their_names(tmp_path, name):
    write_table(tmp_path / name, *ROWS)
    write_table(tmp_path / "balanced_train_segments.csv")
    collection = read_collection("audiocaps", tmp_path)
    assert [entry.split for entry in collection.entries] == ["train"] * 3
    assert list(collection.notes) == ["train has 3 clips; as published: 49838, 91254, 91256"]
    alone = read_collection("audiocaps", tmp_path / name)
    assert (alone.entries, alone.root) == (collection.entries, None)


def test_a_caption_that_a_carriage_return_cuts_is_whole(tmp_path):
    rows = b'1,abcdefghijk,1,rain and\r a dog\n2,abcdefghijl,2,"wind\r\nblows"\n'
    (tmp_path / "train.csv").write_bytes(b"audiocap_id,youtube_id,start_time,caption\n" + rows)
    captions = [entry.captions for entry in read_collection("audiocaps", tmp_path).entries]
    assert captions == [("rain and a dog",), ("wind blows",)]


def test_two_versions_in_one_folder_are_refused(tmp_path):
    write_table(tmp_path / "val.csv", *ROWS)
    write_table(tmp_path / "dataset2.0" / "val.csv", *ROWS)
    with pytest.raises(ManifestError, match=r"2 tables of val: val\.csv, dataset2\.0/val\.csv; one version at a time"):
        read_collection("audiocaps", tmp_path)


def test_a_clip_in_two_splits_is_refused(tmp_path):
    write_table(tmp_path / "val.csv", *ROWS)
    write_table(tmp_path / "test.csv", *ROWS[1:2])
    with pytest.raises(ManifestError, match=r"test\.csv: clip Zbcdefghij__0 is also in val\.csv"):
        read_collection("audiocaps", tmp_path)


def test_ids_that_differ_by_case_only_are_named(tmp_path):
    write_table(tmp_path / "val.csv", (1, "abcdefghijk", 1, "x"), (2, "ABCDEFGHIJK", 1, "y"))
    notes = read_collection("audiocaps", tmp_path).notes
    assert any("abcdefghijk_1 and ABCDEFGHIJK_1 differ by case only" in note for note in notes)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ((1, "../../etc/x", 1, "x"), r"val\.csv: line 2: youtube_id is '\.\./\.\./etc/x', must be letters"),
        ((1, "", 1, "x"), r"line 2: youtube_id is ''"),
        ((1, "abc", "soon", "x"), r"val\.csv: line 2: start_time is 'soon', must be a number of seconds"),
        ((1, "abc", -3, "x"), r"start_time is '-3'"),
        ((1, "abc", 3), r"line 2: 3 cells, the header has 4"),
    ],
)
def test_a_bad_row_is_refused_with_its_line_and_column(tmp_path, row, message):
    write_table(tmp_path / "val.csv", row)
    with pytest.raises(ManifestError, match=message):
        read_collection("audiocaps", tmp_path)


def test_a_folder_of_something_else_is_shown_the_layout(tmp_path):
    with pytest.raises(
        ManifestError, match=r"no train\.csv, val\.csv or test\.csv; the folder is empty\nexpected:\ntrain"
    ):
        read_collection("audiocaps", tmp_path)
    write_table(tmp_path / "captions.csv", *ROWS)
    with pytest.raises(ManifestError, match=r"captions\.csv: the name tells no split"):
        read_collection("audiocaps", tmp_path / "captions.csv")
