"""Real archived pages, field by field against the published WavText5K.csv; they stay outside the repository."""

from __future__ import annotations

import ast
import csv
import os
from pathlib import Path

import pytest

from crawler.licenses import license_of
from crawler.pages.soundbible import HOME, id_of, parse_detail

DATA = Path(os.environ.get("WAVTEXT5K_DATA", "."))
pytestmark = pytest.mark.skipif(
    "WAVTEXT5K_DATA" not in os.environ, reason="WAVTEXT5K_DATA names no folder of real data"
)

PAGES = {
    "2083": ("sites/soundbible_2083_detail_2026.html", "2083-Crickets-Chirping-At-Night.html"),
    "1664": ("sites/soundbible_1664_detail_2026.html", "1664-Restaurant-Ambiance.html"),
    "706": ("soundbible/pages/706-Swoosh-3.html", "706-Swoosh-3.html"),
    "1526": ("soundbible/pages/1526-Ninja-Samurai-Sword.html", "1526-Ninja-Samurai-Sword.html"),
}


@pytest.fixture(scope="module")
def published() -> dict[str, dict[str, str]]:
    with (DATA / "captions/wavtext5k/WavText5K.csv").open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if "soundbible.com" in row["view_link"]]
    return {id_of(row["view_link"]) or "": row for row in rows}


@pytest.mark.parametrize("source_id", ["2083", "1664", "706"])
def test_title_description_and_tags_equal_the_published_ones(
    source_id: str, published: dict[str, dict[str, str]]
) -> None:
    file, address = PAGES[source_id]
    fields = parse_detail((DATA / file).read_text(encoding="utf-8"), f"{HOME}/{address}")
    row = published[source_id]
    assert fields.title == row["title"]
    assert list(fields.tags) == ast.literal_eval(row["tags"])
    description = row["description"].strip()
    if source_id == "706":  # the site capitalised this word after the page was archived
        description = description.replace("3rd Great", "3rd great")
    assert fields.description == description
    assert fields.audio[0].url == row["download_link"]


@pytest.mark.parametrize(
    ("source_id", "author", "label", "name", "player", "layout"),
    [
        (
            "2083",
            "Lisa Redfern",
            "Public Domain",
            "public-domain",
            "Night_Sounds_-_Crickets-Lisa_Redfern-591005346",
            "b",
        ),
        ("1664", "stephan", "Public Domain", "public-domain", "Restaurant%20Ambiance%20-SoundBible.com-628640170", "b"),
        ("706", "man", "Sampling Plus 1.0", "cc-sampling-plus-1.0", "Swoosh%203-SoundBible.com-1573211927", "a"),
        (
            "1526",
            "Mike Koenig",
            "Attribution 3.0",
            "cc-by-3.0",
            "Ninja%20Samurai%20Sword-SoundBible.com-1359598877",
            "a",
        ),
    ],
)
def test_author_licence_and_audio_of_the_archived_pages(
    source_id: str, author: str, label: str, name: str, player: str, layout: str
) -> None:
    file, address = PAGES[source_id]
    fields = parse_detail((DATA / file).read_text(encoding="utf-8"), f"{HOME}/{address}")
    assert (fields.author, fields.license_raw, license_of(fields.license_raw)) == (author, label, name)
    assert fields.extra["layout"] == layout
    assert [link.url for link in fields.audio] == [
        f"{HOME}/grab.php?id={source_id}&type=wav",
        f"{HOME}/grab.php?id={source_id}&type=mp3",
        f"{HOME}/mp3/{player}.mp3",
        f"{HOME}/wav/{player}.wav",
    ]
    assert "none" not in fields.selectors.values()


def test_1526_was_lost_in_2022_and_parses(published: dict[str, dict[str, str]]) -> None:
    file, address = PAGES["1526"]
    fields = parse_detail((DATA / file).read_text(encoding="utf-8"), f"{HOME}/{address}")
    assert "1526" not in published
    assert fields.title == "Ninja Samurai Sword"
    assert fields.description.startswith("Sound of a ninja swinging a samurai sword")
    assert (len(fields.tags), fields.tags[0], fields.tags[-1]) == (34, "chop", "horror")


@pytest.mark.parametrize("source_id", [*PAGES])
def test_download_links_of_another_sound_are_not_taken(source_id: str) -> None:
    file, _ = PAGES[source_id]
    fields = parse_detail((DATA / file).read_text(encoding="utf-8"), f"{HOME}/3-Other.html")
    assert [link.selector for link in fields.audio[:2]] == ["grab.php wav (guessed)", "grab.php mp3 (guessed)"]
