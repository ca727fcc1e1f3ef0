"""ESC-50 as its repository has it, written small."""

from __future__ import annotations

from pathlib import Path

import pytest

from curation.datasets import read_collection
from curation.errors import ManifestError

TABLE = """\
filename,fold,target,category,esc10,src_file,take
1-100032-A-0.wav,1,0,dog,True,100032,A
1-100038-A-11.wav,1,11,sea_waves,True,100038,A
5-9032-B-14.wav,5,14,chirping_birds,False,9032,B
"""
LICENSE = r"""# ESC-50

101 - Dog:
- [1-100032-A.ogg]: clip derived from bark (close).wav (http://www.freesound.org/people/one/sounds/100032/) by one [CC0]
- [5-9032-B.ogg]:  clip derived from f\xe5glar (http://www.freesound.org/people/a%20b/sounds/9032/) by a b [CC-BY-NC]
"""


def lay_out(folder: Path, *, table: str = TABLE, license_text: str | None = LICENSE) -> Path:
    (folder / "meta").mkdir(parents=True)
    (folder / "meta" / "esc50.csv").write_text(table, encoding="utf-8")
    if license_text is not None:
        (folder / "LICENSE").write_text(license_text, encoding="utf-8")
    return folder


def test_clips_with_fold_label_and_what_the_license_says(tmp_path):
    collection = read_collection("esc50", lay_out(tmp_path))
    dog, waves, birds = collection.entries
    assert dog.clip_id == "esc50-1-100032-A-0"
    assert [entry.labels for entry in collection.entries] == [("dog",), ("sea_waves",), ("chirping_birds",)]
    assert [entry.fold for entry in collection.entries] == [1, 1, 5]
    assert (birds.origin, birds.origin_id, birds.split) == ("freesound", "9032", "")
    assert (dog.title, dog.author, dog.license) == ("bark (close)", "one", "cc0-1.0")
    assert (birds.title, birds.author, birds.license) == ("fåglar", "a b", "cc-by-nc-3.0")
    assert birds.page_url == "http://www.freesound.org/people/a%20b/sounds/9032/"
    assert (waves.title, waves.license) == ("", "cc-by-3.0")  # of ESC-10, and not in the LICENSE
    assert waves.page_url == "https://freesound.org/s/100038/"
    assert [entry.audio_file for entry in collection.entries][2] == "audio/5-9032-B-14.wav"
    assert collection.keep_duplicates
    assert any("speaks of 1 clips" in note for note in collection.notes)
    assert any("esc50.csv has 3 clips, 2000 as published" in note for note in collection.notes)


def test_without_the_license_a_clip_has_that_of_the_set(tmp_path):
    entries = read_collection("esc50", lay_out(tmp_path, license_text=None)).entries
    assert [entry.license for entry in entries] == ["cc-by-3.0", "cc-by-3.0", "cc-by-nc-3.0"]


def test_sounds_may_lie_elsewhere_and_a_bare_table_is_text_alone(tmp_path):
    table = lay_out(tmp_path / "set") / "meta" / "esc50.csv"
    (tmp_path / "ogg").mkdir()
    (tmp_path / "ogg" / "1-100032-A-0.ogg").touch()
    assert read_collection("esc50", table).root is None
    entries = read_collection("esc50", table, audio=tmp_path / "ogg").entries
    assert [entry.audio_file for entry in entries][:2] == ["1-100032-A-0.ogg", "audio/1-100038-A-11.wav"]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("1-100038-A-11.wav", "../x.wav", "line 3: filename is '../x.wav', must be the name of a file"),
        ("wav,5,", "wav,0,", "line 4: fold is '0', must be a number from 1"),
        ("wav,5,", "wav,five,", "fold is 'five'"),
        ("9032,B", "y9032,B", "line 4: src_file is 'y9032', must be a Freesound id"),
        ("False", "no", "line 4: esc10 is 'no', must be True or False"),
        ("sea_waves", " ", "line 3: category is empty"),
        ("src_file", "src", "column 'src_file' is missing"),
        ("1-100038-A-11.wav", "1-100032-A-0.wav", "line 3: filename '1-100032-A-0.wav' stands there twice"),
        (",9032,B", ",9032", "line 4: 6 cells, the header has 7"),
    ],
)
def test_what_is_not_as_published_is_named(tmp_path, old, new, message):
    with pytest.raises(ManifestError, match=message):
        read_collection("esc50", lay_out(tmp_path, table=TABLE.replace(old, new)))


def test_a_folder_without_the_table_says_what_it_should_hold(tmp_path):
    with pytest.raises(ManifestError, match=r"(?s)no meta/esc50.csv; the folder is empty.*audio/<filename>"):
        read_collection("esc50", tmp_path)
