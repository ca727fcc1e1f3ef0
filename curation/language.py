"""Finds texts that are not English, to be looked at; nothing is dropped for it. Pure functions.

py3langid (naive Bayes over byte sequences) judges each sentence, so that one French sentence before an English one is
found. Asked for one of 140 languages it takes "Blue jay bird call" for pidgin and titles for Latin; asked only whether
a sentence is English rather than one of the large languages of the web, it is right. Measured with MIN_PROBABILITY and
MIN_BYTES on 93,000 descriptions and captions (WavText5K, Clotho, AudioCaps, WavCaps' SoundBible): the three French
texts, the Spanish and the Romanian one among them were flagged, and nothing else; of 75 sentences of two to fourteen
words in 16 other languages, 71 were. Titles are too short to be judged.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

MIN_PROBABILITY = 0.99
"""A sentence is flagged if it is this probable that it is not English."""
MIN_BYTES = 16
"""Of a sentence in UTF-8: 16 Latin letters, 5 of Chinese or Japanese. Shorter ones are not judged."""

_LANGUAGES = (
    "ar bg cs da de el en es et fa fi fr he hi hr hu id it ja ko lt lv nl no pl pt ro ru sk sl sr sv th tr uk vi zh"
)
_SENTENCE_END = re.compile(r"(?<=[.!?;:])\s+|(?<=[\u3002\uff01\uff1f])|\n")  # the latter of Chinese and Japanese
_MOST_JUDGED = 10_000  # characters of a text: its language shows before that
_MOST_SHOWN = 200  # characters of a sentence in detail


@dataclass(frozen=True, slots=True)
class LanguageFlag:
    """A text that holds a sentence which is not English."""

    clip_id: str
    language: str
    """The nearest of the languages that are told apart, ISO 639-1."""
    probability: float
    """That the sentence is not English."""
    detail: str
    """The sentence, cut to 200 characters."""


def flag_languages(texts: Mapping[str, str]) -> list[LanguageFlag]:
    """Return one flag for each text that holds a sentence which is not English, by clip_id.

    Args:
        texts: By clip_id: a description, or captions, one a line. Not titles.
    """
    flags = []
    for clip_id in sorted(texts):
        judged = [(*_judge(sentence), sentence) for sentence in _sentences(texts[clip_id])]
        probability, language, sentence = max(judged, default=(0.0, "", ""))
        if probability >= MIN_PROBABILITY:
            flags.append(LanguageFlag(clip_id, language, round(probability, 4), sentence[:_MOST_SHOWN]))
    return flags


def _sentences(text: str) -> list[str]:
    """Return the sentences of a text that are long enough to be judged; if none is, the text itself."""
    text = text[:_MOST_JUDGED]
    return list(filter(_is_long, _SENTENCE_END.split(text))) or list(filter(_is_long, [text]))


def _is_long(text: str) -> bool:
    return len(text.encode("utf-8", "replace")) >= MIN_BYTES


def _judge(sentence: str) -> tuple[float, str]:
    """Return the probability that a sentence is not English, and the likeliest other language."""
    ranked = dict(_identifier().rank(sentence))
    english = float(ranked.pop("en"))
    return 1.0 - english, max(ranked, key=lambda language: ranked[language])


@functools.cache
def _identifier() -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier  # here: loading its model takes most of a second

    identifier = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    identifier.set_languages(_LANGUAGES.split())
    return identifier
