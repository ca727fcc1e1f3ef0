"""What a person should look at: near-same sounds and texts, and texts that are not English, as rows of one table."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from curation.datasets import read_collection
from curation.entries import Entry
from curation.fingerprints import NearSame
from curation.flags import flag_clips
from curation.manifest import FLAGS_SCHEMA, table_of

FRENCH = "Une cloche d'\u00e9glise sonne au loin."
GERMAN = "Die Kirchenglocke l\u00e4utet in der Ferne."


def flags(*entries, near=()):
    return flag_clips({entry.clip_id: entry for entry in entries}, near)


def clip(key, **texts):
    return Entry(source="a", source_id=key, **texts)


def test_rows_of_each_kind_in_the_order_of_clips():
    rows = flags(
        clip("3", title="Bell", description="A bell in a tower rings."),
        clip("2", title="Cloche", description=FRENCH),
        clip("1", title="Bell", description="A bell in a tower rings!"),
        near=[NearSame(clip_id="a-3", other_clip_id="a-2", score=0.75, offset_s=0.0, detail="both")],
    )
    language = rows[0]
    assert language.pop("score") == pytest.approx(1, abs=0.01)
    assert rows == [
        {"clip_id": "a-2", "flag": "language", "other_clip_id": "", "detail": f"fr: {FRENCH}"},
        {"clip_id": "a-3", "flag": "near_sound", "other_clip_id": "a-2", "score": 0.75, "detail": "both"},
        {"clip_id": "a-3", "flag": "near_text", "other_clip_id": "a-1", "score": 1.0, "detail": "the same words"},
    ]
    assert len(table_of([language | {"score": 1.0}, *rows[1:]], FLAGS_SCHEMA, file=Path("flags.parquet"))) == 3
    assert flags() == []


def test_the_language_of_titles_is_not_judged():
    assert flags(clip("1", title="Inkjet printer", description="Inkjet printer")) == []
    assert flags(clip("1", title=FRENCH), clip("2", title="Bell", description="A bell rings far away.")) == []
    (flag,) = flags(clip("1", title="Bell", description=GERMAN))
    assert flag["detail"] == f"de: {GERMAN}"


def test_captions_stand_in_for_title_and_description():
    (flag,) = flags(clip("1", title="Glocke", description="A bell rings far away.", captions=("A bell rings.", GERMAN)))
    assert (flag["flag"], flag["detail"]) == ("language", f"de: {GERMAN}")
    assert flags(clip("1", description=GERMAN, captions=("A bell rings far away.",))) == []
    captions = ("A dog barks twice.", "Two barks of a large dog.")
    (flag,) = flags(clip("1", title="x", captions=captions), clip("2", title="y", captions=captions))
    assert (flag["flag"], flag["clip_id"], flag["other_clip_id"]) == ("near_text", "a-2", "a-1")


def test_clips_without_text_are_not_flagged():
    assert flags(clip("1"), clip("2"), clip("3", tags=("dog",)), clip("4", tags=("dog",))) == []


@pytest.mark.skipif("WAVTEXT5K_DATA" not in os.environ, reason="WAVTEXT5K_DATA is not set")
def test_the_texts_of_wavtext5k_that_are_not_english():
    file = Path(os.environ["WAVTEXT5K_DATA"]) / "captions" / "wavtext5k" / "WavText5K.csv"
    rows = flags(*read_collection("wavtext5k", file).entries)
    languages = [row["detail"].partition(":")[0] for row in rows if row["flag"] == "language"]
    assert sorted(languages) == ["es", "fr", "fr", "fr", "ro"]
