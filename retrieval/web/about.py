"""What a start page says of an index: how much it holds, by source, licence and tag, and texts to try it with.

Also judges whether a query is in another script than the index's own texts, which the model most likely learned from.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass

from retrieval.index import Clip, Index

NUM_EXAMPLES = 6
LONGEST_EXAMPLE = 80
COMMON_TAGS = 200
"""Offered while a tag is typed."""
_PLACES, _ROWS = 8, 24
"""Where an index is sampled: clips beside each other are read at once."""
_FEW = 0.5
"""Of a text's letters: fewer Latin ones make it a text in another script."""


@dataclass(frozen=True, slots=True, kw_only=True)
class About:
    """What an index holds. Counts are of clips, most first."""

    num_clips: int
    total_s: float
    longest_s: float
    sources: dict[str, int]
    licenses: dict[str, int]
    splits: dict[str, int]
    tags: dict[str, int]
    common_tags: list[tuple[str, int]]
    examples: tuple[str, ...]
    is_latin: bool
    """Whether the clips' texts are mostly in Latin script; False where there are none."""


def describe(index: Index) -> About:
    """Return what an index holds."""
    facets = index.facets()
    sample = index.clips(_sampled_rows(len(index)))
    return About(
        num_clips=len(index),
        total_s=facets.total_s,
        longest_s=facets.longest_s,
        sources=facets.sources,
        licenses=facets.licenses,
        splits=facets.splits,
        tags=facets.tags,
        common_tags=list(facets.tags.items())[:COMMON_TAGS],
        examples=tuple(_examples(sample)),
        is_latin=_latin_share(" ".join(text for clip in sample for text in _texts(clip))) > 1 - _FEW,
    )


def script_notes(query: str, about: About) -> list[str]:
    """Return what a user should know of a query in another script than the index's texts."""
    if not about.is_latin or not any(map(str.isalpha, query)) or _latin_share(query) >= _FEW:
        return []
    return [
        "This query has few Latin letters, and the texts of this index are written in them: the model has most likely "
        "learned from English, so this order may mean little. Try the same in English."
    ]


def _sampled_rows(num: int) -> list[int]:
    if num <= _PLACES * _ROWS:
        return list(range(num))
    return [place * (num - _ROWS) // (_PLACES - 1) + row for place in range(_PLACES) for row in range(_ROWS)]


def _examples(clips: Iterable[Clip]) -> list[str]:
    """Return short texts of clips, no two of which begin alike."""
    found: dict[str, str] = {}
    for clip in clips:
        text = next((text for text in (*clip.captions, clip.description, clip.title) if text), "")
        if text and len(text) <= LONGEST_EXAMPLE:
            found.setdefault(" ".join(text.lower().split()[:2]), text)
    texts = list(found.values())
    step = max(len(texts) // NUM_EXAMPLES, 1)
    return texts[::step][:NUM_EXAMPLES]


def _texts(clip: Clip) -> tuple[str, ...]:
    return (clip.title, clip.description, *clip.captions)


def _latin_share(text: str) -> float:
    """Return the share of Latin letters among a text's letters; 0 where it has none."""
    letters = [character for character in text if character.isalpha()]
    return sum("LATIN" in unicodedata.name(letter, "") for letter in letters) / max(len(letters), 1)
