"""What an address asks: its parameters read into a SearchForm, and a SearchForm written back as an address.

One table, PARAMETERS, is what the page and the API read and what the API's schema documents, so that these cannot
differ. Reading never fails: what cannot be read becomes a problem, a sentence for the user, beside everything that
could be read, because the page shows the form again with what was typed.
"""

from __future__ import annotations

import difflib
import math
import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal
from urllib.parse import urlencode

from retrieval.filters import Filters
from retrieval.search import MAX_TEXT

MOST_VALUES = 20
"""Of one filter: of tags, sources, ..."""
MOST_RESULTS = 1000
"""That can be paged through, of one search: no page ends beyond them."""
MOST_SECONDS = 10_000_000
_LONGEST_VALUE = 300
_SECONDS = re.compile(r"([+-]?(?:[0-9]+[.,]?[0-9]*|[.,][0-9]+)(?:[eE][+-]?[0-9]+)?)(?: ?s)?")
_WHOLE = re.compile(r"[0-9]{1,9}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """A parameter of an address."""

    name: str
    kind: Literal["text", "texts", "seconds", "whole"]
    field: str
    """Of SearchForm."""
    summary: str
    """For the API's documentation."""
    example: str
    most: int = _LONGEST_VALUE
    """Characters of a text, or the greatest whole number."""

    @property
    def default(self) -> Any:
        """What it is where the address does not say."""
        return getattr(_DEFAULT, self.field)


PARAMETERS = (
    Parameter(
        name="q",
        kind="text",
        field="q",
        summary="What the sound should be, in words.",
        example="rain on a tin roof",
        most=MAX_TEXT,
    ),
    Parameter(name="like", kind="text", field="like", summary="Key of a clip: find others like it.", example="esc50-7"),
    Parameter(
        name="sound",
        kind="text",
        field="sound",
        summary="Token of an uploaded sound: find clips like it.",
        example="9f86d081884c7d65",
    ),
    Parameter(
        name="tag",
        kind="texts",
        field="tags",
        summary="A tag that clips must have; several: all of them.",
        example="dog",
    ),
    Parameter(
        name="source",
        kind="texts",
        field="sources",
        summary="Where clips come from; several: any of them.",
        example="soundbible",
    ),
    Parameter(
        name="license",
        kind="texts",
        field="licenses",
        summary="A licence, by its identifier; several: any of them.",
        example="cc0-1.0",
    ),
    Parameter(name="split", kind="texts", field="splits", summary="A split; several: any of them.", example="test"),
    Parameter(name="min_s", kind="seconds", field="min_s", summary="The shortest duration, seconds.", example="0.5"),
    Parameter(name="max_s", kind="seconds", field="max_s", summary="The longest duration, seconds.", example="10"),
    Parameter(
        name="top", kind="whole", field="top", summary="How many clips a page of results holds.", example="10", most=100
    ),
    Parameter(
        name="page",
        kind="whole",
        field="page",
        summary=f"Which page of results, from 1; page times top is at most {MOST_RESULTS}.",
        example="1",
        most=MOST_RESULTS,
    ),
)
_BY_NAME = {parameter.name: parameter for parameter in PARAMETERS}
_QUESTIONS = ("q", "like", "sound")
FILTER_NAMES = ("tag", "source", "license", "split", "min_s", "max_s")

Pairs = Iterable[tuple[str, str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchForm:
    """What is asked. ``problems`` holds a sentence for each parameter that could not be read, by its name."""

    q: str = ""
    like: str = ""
    sound: str = ""
    tags: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    licenses: tuple[str, ...] = ()
    splits: tuple[str, ...] = ()
    min_s: float | None = None
    max_s: float | None = None
    top: int = 10
    page: int = 1
    problems: Mapping[str, str] = field(default_factory=dict)
    typed: Mapping[str, str] = field(default_factory=dict)
    """What was typed where it could not be read."""

    @property
    def filters(self) -> Filters:
        """The filters alone."""
        return Filters(
            tags=self.tags,
            sources=self.sources,
            licenses=self.licenses,
            splits=self.splits,
            min_s=self.min_s,
            max_s=self.max_s,
        )

    @property
    def is_question(self) -> bool:
        """Whether there is something to rank by."""
        return bool(self.q or self.like or self.sound)

    @property
    def is_filtered(self) -> bool:
        """Whether any filter is set."""
        return self.filters != Filters()

    @property
    def num_filters(self) -> int:
        """How many values of filters are set."""
        return sum(1 for name, _ in self.pairs() if name in FILTER_NAMES)

    @property
    def has_filter_problem(self) -> bool:
        """Whether a filter could not be read."""
        return any(name in self.problems for name in FILTER_NAMES)

    def pairs(self) -> list[tuple[str, str]]:
        """Return names and values that read back as this form; what is as by default is left out."""
        found = []
        for parameter in PARAMETERS:
            value = getattr(self, parameter.field)
            if value == parameter.default:
                continue
            values = value if parameter.kind == "texts" else (value,)
            found += [(parameter.name, seconds_text(one) if isinstance(one, float) else str(one)) for one in values]
        return found

    def address(self, path: str = "/", **changes: Any) -> str:
        """Return the address of this form with some fields changed; on page 1 unless ``page`` is among them."""
        pairs = replace(self, **({"page": 1} | changes)).pairs()
        return f"{path}?{urlencode(pairs)}" if pairs else path

    def without(self, name: str, value: str | None = None) -> SearchForm:
        """Return the form with a filter lifted, or one value of it."""
        parameter = _BY_NAME[name]
        if value is None:
            return self._with(parameter, parameter.default)
        return self._with(parameter, tuple(one for one in getattr(self, parameter.field) if one != value))

    def having(self, name: str, value: str) -> SearchForm:
        """Return the form with one more value of a filter."""
        parameter = _BY_NAME[name]
        old = getattr(self, parameter.field)
        return self._with(parameter, old if value in old else (*old, value))

    def only(self, name: str, value: str | None) -> SearchForm:
        """Return a form that asks for one filter alone, or one value of it."""
        parameter = _BY_NAME[name]
        return _DEFAULT._with(parameter, getattr(self, parameter.field) if value is None else (value,))

    def _with(self, parameter: Parameter, value: Any) -> SearchForm:
        changes: dict[str, Any] = {parameter.field: value}
        return replace(self, page=1, **changes)

    def set_filters(self) -> list[tuple[str, str | None]]:
        """Return the filters that are set, tags one by one: those must all be there, of the others any."""
        return [
            (name, value)
            for name in FILTER_NAMES
            if getattr(self, _BY_NAME[name].field) != _BY_NAME[name].default
            for value in (self.tags if name == "tag" else (None,))
        ]

    def has_page_after(self, total: int) -> bool:
        """Return whether there is a page of results after this one, of ``total`` results."""
        return self.page * self.top < total and (self.page + 1) * self.top <= MOST_RESULTS

    def asking(self, q: str) -> SearchForm:
        """Return the form with another question, a text; "": none. Of a longer one than is read, its beginning."""
        return replace(self, q=q[:MAX_TEXT], like="", sound="", page=1)

    def liking(self, key: str) -> SearchForm:
        """Return the form with another question, a clip."""
        return replace(self, q="", like=key, sound="", page=1)

    def unfiltered(self) -> SearchForm:
        """Return the form with every filter lifted."""
        return SearchForm(q=self.q, like=self.like, sound=self.sound, top=self.top)

    def shown(self, name: str) -> str:
        """Return what a field of the page's form holds: what was typed, read or not."""
        value = getattr(self, _BY_NAME[name].field)
        if name in self.typed:
            return self.typed[name]
        return seconds_text(value) if isinstance(value, float) else str(value or "")


_DEFAULT = SearchForm()


def parse(pairs: Pairs) -> SearchForm:
    """Return what names and values ask; unknown names and empty values say nothing."""
    values: dict[str, list[str]] = {}
    for name, value in pairs:
        if name in _BY_NAME and (text := _one_line(value)):
            values.setdefault(name, []).append(text)
    read: dict[str, Any] = {}
    problems: dict[str, str] = {}
    typed: dict[str, str] = {}
    for name, texts in values.items():
        parameter = _BY_NAME[name]
        try:
            read[parameter.field] = _READERS[parameter.kind](parameter, texts)
        except _UnreadableError as error:
            problems[name], typed[name] = str(error), error.typed or texts[0]
            read |= {parameter.field: error.kept} if error.kept else {}
    asked = [name for name in _QUESTIONS if name in values]
    if len(asked) > 1:
        problems.setdefault("q", f"Ask one thing at a time: {' and '.join(asked)} were given together.")
    low, high = read.get("min_s"), read.get("max_s")
    if low is not None and high is not None and low > high:
        typed |= {name: seconds_text(read.pop(name)) for name in ("min_s", "max_s")}
        problems["min_s"] = (
            f"The shortest duration, {typed['min_s']} s, is above the longest, {typed['max_s']} s: "
            "no clip can be both. Change one of them."
        )
    form = SearchForm(**read)
    if form.page * form.top > MOST_RESULTS:
        problems["page"] = f"A search shows its best {MOST_RESULTS:,}; page {form.page} of {form.top} is beyond them."
    return replace(form, problems=problems, typed=typed)


def unknown_names(pairs: Pairs, known: Iterable[str]) -> list[str]:
    """Return a sentence for each name that is not among the known ones."""
    known = list(known)
    sentences = []
    for name in dict.fromkeys(name for name, _ in pairs if name not in known):
        near = difflib.get_close_matches(name[:40], known, n=1)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}."
        sentences.append(f"There is no parameter {_quoted(name)}; {hint}")
    return sentences


def seconds_text(seconds: float) -> str:
    """Return seconds as they stand in an address: 2.5, or 3."""
    return repr(seconds).removesuffix(".0")


class _UnreadableError(Exception):
    """Values that cannot be read; of several, ``typed`` is the one at fault, and the ``kept`` ones can."""

    def __init__(self, problem: str, *, typed: str = "", kept: tuple[str, ...] = ()) -> None:
        super().__init__(problem)
        self.typed, self.kept = typed, kept


def _read_text(parameter: Parameter, texts: list[str]) -> str:
    if len(texts) > 1:
        raise _UnreadableError(f"{parameter.name} was given {len(texts)} times; give it once.")
    if len(texts[0]) > parameter.most:
        what = "The query" if parameter.name == "q" else parameter.name
        raise _UnreadableError(
            f"{what} has {len(texts[0]):,} characters; at most {parameter.most:,} are read. Shorten it."
        )
    return texts[0]


def _read_texts(parameter: Parameter, texts: list[str]) -> tuple[str, ...]:
    # Tags are lower case in a manifest, and people type capitals.
    found = tuple(dict.fromkeys(text.lower() if parameter.name == "tag" else text for text in texts))
    fit = tuple(text for text in found if len(text) <= parameter.most)
    if len(found) > MOST_VALUES:
        problem = f"{parameter.name} was given {len(found)} times; at most {MOST_VALUES} are read."
        raise _UnreadableError(problem, typed=found[MOST_VALUES], kept=fit[:MOST_VALUES])
    if len(fit) < len(found):
        problem = f"A value of {parameter.name} has more than {parameter.most} characters."
        raise _UnreadableError(problem, typed=next(text for text in found if text not in fit), kept=fit)
    return found


def _read_seconds(parameter: Parameter, texts: list[str]) -> float:
    text = _read_text(parameter, texts)
    matched = _SECONDS.fullmatch(text)
    seconds = float(matched[1].replace(",", ".")) if matched else math.nan
    if not 0 <= seconds < MOST_SECONDS:
        which = "shortest" if parameter.name == "min_s" else "longest"
        raise _UnreadableError(
            f"The {which} duration must be a number of seconds, such as 2 or 0.5; {_quoted(text)} is "
            + (f"not below {MOST_SECONDS:,}." if seconds > 0 else "none.")
        )
    return abs(seconds)  # of minus zero, zero


def _read_whole(parameter: Parameter, texts: list[str]) -> int:
    text = _read_text(parameter, texts)
    if not _WHOLE.fullmatch(text) or not 1 <= int(text) <= parameter.most:
        raise _UnreadableError(
            f"{parameter.name} must be a whole number from 1 to {parameter.most}; {_quoted(text)} is none."
        )
    return int(text)


_READERS: Mapping[str, Any] = {
    "text": _read_text,
    "texts": _read_texts,
    "seconds": _read_seconds,
    "whole": _read_whole,
}


def _one_line(text: str) -> str:
    """Return a text on one line, without control characters and halves of surrogate pairs."""
    return " ".join("".join(" " if unicodedata.category(c) in ("Cc", "Cs") else c for c in text).split())


def _quoted(text: str) -> str:
    return f"“{text[:40]}…”" if len(text) > 40 else f"“{text}”"
