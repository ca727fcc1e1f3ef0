"""The numbers of a data card, each with the rule that it was counted by; pure functions on data frames.

A frame has one row a clip with the manifest's columns, or, of a caption file alone, those that need no sound. Rules
stand here, beside the code that counts, so that a card cannot say another rule than the one it was made with.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from curation.words import bare_word_counts, word_counts

if TYPE_CHECKING:
    import pandas as pd

_SAMPLES = 3
_AUTHORS = 10
_Value = TypeVar("_Value", int, str)
_DAY = re.compile(r"\d{4}-[01]\d-[0-3]\d")

FIGURES = (
    *("clips", "titles", "different_titles", "descriptions", "different_descriptions", "pairs", "tag_lists", "tags"),
    *("different_tags", "captions", "texts", "different_texts", "words", "max_words", "words_per_text"),
    *("words_per_clip", "bare_words_per_clip", "one_word_texts"),
    *("hours", "mean_duration", "median_duration", "min_duration", "max_duration"),
)
"""Keys of every Figure; a card without sound lacks the last five, one without annotators' captions their number."""


@dataclass(frozen=True, slots=True)
class Figure:
    """One number of a card."""

    key: str
    """What a published number is compared by."""
    what: str
    value: int | float
    rule: str
    """How it was counted, as Markdown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """How much of the clips has one value of a column."""

    name: str
    clips: int
    hours: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Groups:
    """Clips that count as one recording."""

    groups: int
    """Of two clips or more."""
    clips: int
    """In those groups."""
    largest: int
    torn: int
    """Groups with clips in more than one split."""


def text_figures(frame: pd.DataFrame) -> list[Figure]:
    """Return the counts of clips and of their texts, with no need of sound."""
    clips = len(frame)
    titles, descriptions = ([text for text in frame[name] if text] for name in ("title", "description"))
    captions = sum(map(len, frame["captions"]))
    tags = [tag for listed in frame["tags"] for tag in listed]
    figures = [
        Figure("clips", "clips", clips, "one a row, whatever its texts"),
        Figure("titles", "titles", len(titles), "clips whose title is not empty"),
        Figure("different_titles", "different titles", len(set(titles)), "as cleaned, upper and lower case apart"),
        Figure("descriptions", "descriptions", len(descriptions), "clips whose description is not empty"),
        Figure("different_descriptions", "different descriptions", len(set(descriptions)), "likewise"),
        Figure(
            "pairs",
            "titles and descriptions both",
            int(((frame["title"] != "") & (frame["description"] != "")).sum()),
            "neither is empty",
        ),
        Figure("tag_lists", "clips with tags", sum(map(bool, map(len, frame["tags"]))), "at least one tag"),
        Figure("tags", "tags", len(tags), "in all lists together, each once in a list, lower case"),
        Figure("different_tags", "different tags", len(set(tags)), "among them"),
    ]
    if captions:
        annotated = sum(map(bool, map(len, frame["captions"])))
        figures.append(Figure("captions", "captions", captions, f"by annotators, of {annotated:,} clips"))
    return figures + _word_figures(frame)


def _word_figures(frame: pd.DataFrame) -> list[Figure]:
    texts = [text for listed in clip_texts(frame) for text in listed]
    words, bare = word_counts(texts), bare_word_counts(texts)
    total, bare_total = int(words.sum()), int(bare.sum())
    clips, many = len(frame), len(texts)
    rule = "captions by annotators where a clip has any, else its description; empty ones left out"
    return [
        Figure("texts", "texts", many, rule),
        Figure("different_texts", "different texts", len(set(texts)), "as cleaned, upper and lower case apart"),
        Figure("words", "words", total, "pieces of the texts between white space"),
        Figure("max_words", "most words in a text", int(words.max(initial=0)), "likewise"),
        Figure("words_per_text", "mean words a text", _over(total, many), "words / texts"),
        Figure("words_per_clip", "mean words a clip", _over(total, clips), "words / clips: no text counts as 0 words"),
        Figure(
            "bare_words_per_clip",
            "mean words a clip, bare",
            _over(bare_total, clips),
            f"ASCII punctuation removed before splitting: {bare_total:,} words / clips",
        ),
        Figure("one_word_texts", "texts of one word", int((words == 1).sum()), "pieces between white space"),
    ]


def sound_figures(frame: pd.DataFrame) -> list[Figure]:
    """Return the durations of a manifest's clips."""
    seconds = sorted(frame["duration_s"])
    median = float(frame["duration_s"].median()) if seconds else 0.0
    return [
        Figure("hours", "hours", hours(seconds), "sum of `duration_s` / 3600"),
        Figure("mean_duration", "mean duration, s", _over(math.fsum(seconds), len(seconds)), "sum / clips"),
        Figure("median_duration", "median duration, s", median, "of all clips"),
        Figure("min_duration", "shortest, s", min(seconds, default=0.0), "`num_samples` / 44,100"),
        Figure("max_duration", "longest, s", max(seconds, default=0.0), "likewise"),
    ]


def clip_texts(frame: pd.DataFrame) -> list[list[str]]:
    """Return what each clip is said to be: annotators' captions where there are any, else its description, if any."""
    return [
        list(captions) if len(captions) else [description] if description else []
        for captions, description in zip(frame["captions"], frame["description"], strict=True)
    ]


def hours(seconds: Iterable[float]) -> float:
    """Return a sum of seconds in hours."""
    return math.fsum(seconds) / 3600


def shares(frame: pd.DataFrame, column: str) -> list[Share]:
    """Return how much of a manifest's clips has each value of a column, the most frequent first, equal ones by name."""
    found = [
        Share(name=str(name), clips=len(part), hours=hours(part["duration_s"]))
        for name, part in frame.groupby(column, sort=False)
    ]
    return sorted(found, key=lambda share: (-share.clips, share.name))


def counted(values: Iterable[_Value]) -> dict[_Value, int]:
    """Return how often each value occurs, the most frequent first, equal ones in their order."""
    return dict(sorted(Counter(values).items(), key=lambda item: (-item[1], item[0])))


def modifications(frame: pd.DataFrame) -> dict[str, int]:
    """Return what was done to how many clips: resampled, downmixed, scaled, ... without its particulars."""
    return counted(kind for done in frame["modifications"] for kind in {step.split(":")[0] for step in done})


def authors(frame: pd.DataFrame) -> list[Share]:
    """Return the most frequent authors who are named."""
    return [share for share in shares(frame, "author") if share.name][:_AUTHORS]


def groups(frame: pd.DataFrame) -> Groups:
    """Return how many clips share a duplicate_group."""
    sizes = frame.groupby("duplicate_group")["split"].agg(["size", "nunique"])
    several = sizes[sizes["size"] > 1]
    return Groups(
        groups=len(several),
        clips=int(several["size"].sum()),
        largest=int(several["size"].max()) if len(several) else 0,
        torn=int((several["nunique"] > 1).sum()),
    )


def texts_on_both_sides(frame: pd.DataFrame) -> int:
    """Return how many clips outside train have a text, in lower case, that a clip in train has too."""
    texts = [{text.casefold() for text in listed} for listed in clip_texts(frame)]
    is_train = list(frame["split"] == "train")
    known = {text for found, train in zip(texts, is_train, strict=True) if train for text in found}
    return sum(not train and bool(found & known) for found, train in zip(texts, is_train, strict=True))


def dates(frame: pd.DataFrame) -> tuple[str, str]:
    """Return the first and the last day on which clips were retrieved; two empty texts where none is recorded."""
    days = sorted({found[0] for time in frame["retrieved_at"].unique() if (found := _DAY.match(time))})
    return (days[0], days[-1]) if days else ("", "")


def samples(frame: pd.DataFrame, licenses: Collection[str]) -> list[dict[str, str]]:
    """Return a few clips with title and description under one of the licences, chosen by a hash of their clip_id."""
    wanted = frame[frame["license"].isin(licenses) & (frame["title"] != "") & (frame["description"] != "")]
    columns = ["clip_id", "title", "description", "attribution"]
    clips = [dict(zip(columns, row, strict=True)) for row in wanted[columns].itertuples(index=False)]
    return sorted(clips, key=lambda clip: hashlib.sha256(clip["clip_id"].encode()).digest())[:_SAMPLES]


def _over(total: float, count: int) -> float:
    return total / count if count else 0.0
