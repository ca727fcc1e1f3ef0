"""Finds clips whose texts are the same or nearly: word for word but for case and punctuation, or a few letters apart.

Reported only, nothing is dropped for it: sound libraries give one text to a numbered series of different sounds.
Texts are compared by their words in alphabetical order (rapidfuzz's token_sort_ratio: the share of letters that stay).
Only texts with a rare word in common are compared, where a text's rare words are the rarest fifth of them and one
more, two at least. Texts that share four fifths of their words, or all but one, are thus always compared; a pair that
spells every rare word differently is overlooked.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from rapidfuzz import fuzz, process

_NEAR = 90.0
"""Of 100. Among the 4,525 texts of WavText5K (title and description), nearly all pairs from 90 on are one text with
another number, a word more or another form of a word; under it come other sounds of one recordist (inside or outside,
slow or quick) and, under 80, other things."""

_SHARED_WORDS = 0.8
_MOST_GROUPS = 2_000  # found by one word: 100,000 texts like "recording 48213" are not all compared with all

_WORD = re.compile(r"\w+")


@dataclass(frozen=True, slots=True, kw_only=True)
class NearText:
    """A clip whose text is that of an earlier one, or nearly."""

    clip_id: str
    other_clip_id: str
    """The first clip, by clip_id, that has the same words; else the one that began the nearest group."""
    score: float
    """Share of letters that the two texts have in common, 0.9 to 1."""
    detail: str
    """Which of the two it is, for a person to read."""


def find_near_text(texts: Mapping[str, str]) -> list[NearText]:
    """Return the clips whose text an earlier clip has, or nearly, in order of clip_id.

    A text that is new is compared with those that began a group, and joins the nearest or begins its own: a score
    always says how near the two named clips are. The order of the mapping does not matter.

    Args:
        texts: By clip_id; one without a letter or digit matches nothing.
    """
    found: list[NearText] = []
    groups = _Groups(texts.values())
    for clip_id in sorted(texts):
        words = _words(texts[clip_id])
        if not words:
            continue
        other, score = groups.join(clip_id, words)
        if other != clip_id:
            detail = "the same words" if score == 1 else "nearly the same words"
            found.append(NearText(clip_id=clip_id, other_clip_id=other, score=score, detail=detail))
    return found


class _Groups:
    """The texts met so far; those that began a group are found by their rare words."""

    def __init__(self, texts: Iterable[str]) -> None:
        self._num_texts = Counter(word for text in set(texts) for word in set(_words(text)))
        self._clip_of: dict[str, str] = {}
        self._began: list[str] = []
        self._by_word: defaultdict[str, list[int]] = defaultdict(list)

    def join(self, clip_id: str, words: list[str]) -> tuple[str, float]:
        """Return the clip that a text points to, itself if it begins a group, and how near their texts are."""
        text = " ".join(sorted(words))
        if text in self._clip_of:
            return self._clip_of[text], 1.0
        self._clip_of[text] = clip_id
        return self._nearest(text) or self._begin(clip_id, text)

    def _nearest(self, text: str) -> tuple[str, float] | None:
        numbers = sorted({number for word in self._rare_words(text) for number in self._by_word[word]})
        others = [self._began[number] for number in numbers]
        best = process.extractOne(text, others, scorer=fuzz.ratio, score_cutoff=_NEAR)  # of equals, the first
        return best and (self._clip_of[best[0]], min(round(best[1] / 100, 4), 0.9999))  # 1.0 says: the same words

    def _begin(self, clip_id: str, text: str) -> tuple[str, float]:
        for word in self._rare_words(text):
            if len(self._by_word[word]) < _MOST_GROUPS:
                self._by_word[word].append(len(self._began))
        self._began.append(text)
        return clip_id, 1.0

    def _rare_words(self, text: str) -> list[str]:
        words = sorted(set(text.split()), key=lambda word: (self._num_texts[word], word))
        num_shared = min(math.ceil(_SHARED_WORDS * len(words)), len(words) - 1)  # of a short text, one may differ
        return words[: len(words) - num_shared + 1]


def _words(text: str) -> list[str]:
    return _WORD.findall(unicodedata.normalize("NFKC", text).casefold())
