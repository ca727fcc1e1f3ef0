"""What a person should look at in a finished build: nothing is dropped for it. Rows of ``flags.parquet``.

near_sound: two clips that sound the same (they share a duplicate_group); near_text: two whose text is the same or
nearly (one text often serves a numbered series of different sounds); language: a text that is not English, whose
detail begins with the language's code and ":". Titles are compared, but their language is not judged: see
``curation.language``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from curation.entries import Entry
from curation.fingerprints import NearSame
from curation.language import flag_languages
from curation.near_text import find_near_text


def flag_clips(entries: Mapping[str, Entry], near: Iterable[NearSame]) -> list[dict[str, Any]]:
    """Return the rows of flags.parquet.

    Args:
        entries: Of the clips that are kept, by clip_id.
        near: Their near-same sounds.
    """
    texts = {clip_id: _text(entry) for clip_id, entry in entries.items()}
    sentences = {clip_id: _sentences(entry) for clip_id, entry in entries.items()}
    rows = [_row(pair.clip_id, "near_sound", pair.other_clip_id, pair.score, pair.detail) for pair in near]
    rows += [
        _row(pair.clip_id, "near_text", pair.other_clip_id, pair.score, pair.detail) for pair in find_near_text(texts)
    ]
    rows += [
        _row(found.clip_id, "language", "", found.probability, f"{found.language}: {found.detail}")
        for found in flag_languages(sentences)
    ]
    return sorted(rows, key=lambda row: (row["clip_id"], row["flag"], row["other_clip_id"]))


def _text(entry: Entry) -> str:
    """Return what a clip is said to be: annotators' captions where there are any, else title and description."""
    if entry.captions:
        return "\n".join(entry.captions)
    return ". ".join(filter(None, [entry.title, entry.description]))


def _sentences(entry: Entry) -> str:
    """Return what is said of a clip in sentences: annotators' captions where there are any, else its description."""
    return "\n".join(entry.captions) or entry.description


def _row(clip_id: str, flag: str, other: str, score: float, detail: str) -> dict[str, Any]:
    return {"clip_id": clip_id, "flag": flag, "other_clip_id": other, "score": float(score), "detail": detail}
