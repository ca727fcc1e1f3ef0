"""The published WavText5K.csv: its rows as clips of the two sites, with the text that was published."""

from __future__ import annotations

import csv
import io
import os
from pathlib import Path

import pytest

from curation.datasets import read_collection
from curation.errors import ManifestError
from tests.support.audio import write_tone

HEADER = ("view_link", "download_link", "title", "description", "fname", "tags")
BELL = {
    "view_link": "https://soundbible.com/2083-Bell.html",
    "download_link": "https://soundbible.com/grab.php?id=2083&type=wav",
    "title": "Bell",
    "description": " A bell  rings.",
    "fname": "bell_136.wav",
    "tags": "['Bell', 'church bell', ' ', \"ringer's bell\", 'bell']",
}
FOREST = {
    "view_link": "https://bigsoundbank.com/detail-0100-forest.html",
    "download_link": "https://bigsoundbank.com/UPLOAD/wav/0100.wav",
    "title": "Forest",
    "description": "",
    "fname": "0100.wav",
    "tags": "",
}


def write_list(folder: Path, *rows: dict[str, str]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    text = io.StringIO(newline="")
    table = csv.DictWriter(text, HEADER)
    table.writeheader()
    table.writerows(rows)
    (folder / "WavText5K.csv").write_bytes(text.getvalue().encode())
    return folder


def test_a_row_becomes_the_clip_that_a_crawl_would_make_of_it(tmp_path):
    bell, forest = read_collection("wavtext5k", write_list(tmp_path, BELL, FOREST)).entries
    assert (bell.clip_id, forest.clip_id) == ("soundbible-2083", "bigsoundbank-0100")
    assert (bell.origin, bell.origin_id, bell.license) == ("soundbible", "2083", "unknown")
    assert (bell.title, bell.description) == ("Bell", "A bell rings.")
    assert bell.tags == ("bell", "church bell", "ringer's bell")
    assert (bell.page_url, bell.audio_url) == (BELL["view_link"], BELL["download_link"])
    assert (forest.description, forest.tags, forest.captions, forest.split) == ("", (), (), "")


def test_the_raw_html_in_a_list_of_tags_is_the_tag_behind_it(tmp_path):
    tags = (
        "['arrow', <li><i class=\"icon\"></i> <a href=\"tags-x.html\">bow and arrow</a></li>, 'bow and arrow', 'bow']"
    )
    (bell,) = read_collection("wavtext5k", write_list(tmp_path, BELL | {"tags": tags})).entries
    assert bell.tags == ("arrow", "bow and arrow", "bow")


@pytest.mark.parametrize(
    "file",
    [
        "audio/bell_136.wav",
        "bell_136.wav",
        "audio/bell_136.flac",
        "audio/soundbible-2083.mp3",
        "soundbible/audio/2083.wav",
    ],
)
def test_a_sound_is_found_under_each_of_its_names(tmp_path, file):
    write_list(tmp_path, BELL, FOREST)
    # Ids of the two sites overlap: a sound that is BigSoundBank's by its place is never SoundBible's.
    for name in (file, "bigsoundbank/audio/2083.wav", "soundbible/0100.wav"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    collection = read_collection("wavtext5k", tmp_path)
    assert [entry.audio_file for entry in collection.entries] == [file, "audio/0100.wav"]
    assert collection.root == tmp_path
    assert collection.keep_duplicates


def test_sounds_may_lie_elsewhere_and_a_bare_list_is_text_alone(tmp_path):
    file = write_list(tmp_path / "list", BELL) / "WavText5K.csv"
    write_tone(tmp_path / "sounds" / "bell_136.wav")
    assert read_collection("wavtext5k", file).root is None
    collection = read_collection("wavtext5k", file, audio=tmp_path / "sounds")
    assert (collection.root, collection.entries[0].audio_file) == (tmp_path / "sounds", "bell_136.wav")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"view_link": "https://example.org/1-x.html"}, "line 3: view_link is 'https://example.org/1-x.html', must be"),
        ({"view_link": "https://freesound.org/s/3/"}, "must be a sound's page of soundbible or bigsoundbank"),
        ({"view_link": ""}, "line 3: view_link is ''"),
        ({"fname": "../../etc/passwd"}, "line 3: fname is '../../etc/passwd', must be the name of a file"),
        ({"fname": ""}, "fname is ''"),
        ({"tags": "wind, storm"}, r"tags is 'wind, storm', must be a list like \['wind', 'storm'\]"),
        ({"tags": "['wind', storm]"}, r"tags: character 9 must begin a tag in quotes: ' storm\]'"),
        ({"tags": "['wind' 'storm']"}, "tags: character 2 must begin a tag"),
        ({"view_link": BELL["view_link"]}, "line 3: soundbible-2083 is the clip of line 2 already"),
    ],
)
def test_a_row_that_cannot_be_is_named(tmp_path, change, message):
    with pytest.raises(ManifestError, match=message):
        read_collection("wavtext5k", write_list(tmp_path, BELL, FOREST | change))


def test_a_folder_without_the_list_says_what_it_should_hold(tmp_path):
    (tmp_path / "wavtext.csv").touch()
    with pytest.raises(ManifestError, match=r"(?s)no WavText5K.csv; found there: wavtext.csv.*audio/<fname>"):
        read_collection("wavtext5k", tmp_path)


@pytest.mark.skipif("WAVTEXT5K_DATA" not in os.environ, reason="WAVTEXT5K_DATA is not set")
def test_the_real_list_counts_as_the_paper_does():
    file = Path(os.environ["WAVTEXT5K_DATA"]) / "captions" / "wavtext5k" / "WavText5K.csv"
    entries = read_collection("wavtext5k", file).entries
    assert len({entry.clip_id for entry in entries}) == len(entries) == 4525
    assert sum(entry.source == "bigsoundbank" for entry in entries) == 2467
    assert sum(entry.title != "" for entry in entries) == 4520
    descriptions = [entry.description for entry in entries if entry.description]
    assert (len(descriptions), len(set(descriptions))) == (4348, 3526)
    words = [len(description.split()) for description in descriptions]
    assert (max(words), sum(words)) == (82, 56_607)
    assert sum(entry.tags != () for entry in entries) == 2058
    assert max(len(entry.tags) for entry in entries) <= 235
    # 11,695 once stripped and case-folded; two of them differ in a double space alone.
    assert len({tag for entry in entries for tag in entry.tags}) == 11_694
    assert len({entry.audio_file for entry in entries}) == 4525


@pytest.mark.skipif("WAVTEXT5K_DATA" not in os.environ, reason="WAVTEXT5K_DATA is not set")
def test_the_real_list_is_read_as_the_crawler_reads_it():
    pytest.importorskip("parsel", reason="the extra crawl is not installed")
    from crawler.published import read_published

    file = Path(os.environ["WAVTEXT5K_DATA"]) / "captions" / "wavtext5k" / "WavText5K.csv"
    rows = read_published(file).rows
    assert [(row.source, row.source_id) for row in rows] == [
        (entry.source, entry.source_id) for entry in read_collection("wavtext5k", file).entries
    ]
