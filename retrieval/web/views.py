"""What the page says of a search: its heading, its filters, its counts, and what helps where nothing was found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rapidfuzz import fuzz, process

from retrieval.web.about import About
from retrieval.web.forms import FILTER_NAMES, SearchForm, seconds_text
from retrieval.web.render import counted, license_name, named, plain, shown
from retrieval.web.service import Found, Lift

_LABELS = {
    "tag": "tag",
    "source": "from",
    "license": "licence",
    "split": "split",
    "min_s": "at least",
    "max_s": "at most",
}
_SAYINGS = {
    "tag": ("has", "have", "the tag “{}”"),
    "source": ("comes", "come", "from {}"),
    "license": ("is", "are", "under {}"),
    "split": ("is", "are", "in the split {}"),
    "min_s": ("lasts", "last", "{} or longer"),
    "max_s": ("lasts", "last", "{} or less"),
}
_NEAR_TAGS = 3
_SEARCHED_TAGS = 5000
"""For ones that are spelt alike."""
_ALIKE = 65
"""Percent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chip:
    """A filter that is set, and the address without it."""

    label: str
    value: str
    address: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Help:
    """A filter that leaves nothing: what it does, and addresses that may help, by what they are called."""

    sentence: str
    links: dict[str, str]


def page_values(form: SearchForm, found: Found, about: About) -> dict[str, Any]:
    """Return what the template of a results page wants."""
    title, heading, quoted = _headings(form, found)
    return {
        "title": title,
        "heading": heading,
        "quoted": quoted,
        "found": found,
        "changed": found.changed,
        "chips": [
            Chip(label=_LABELS[name], value=_told(name, value), address=form.without(name, _one(name, value)).address())
            for name, value in form.pairs()
            if name in FILTER_NAMES
        ],
        "count_line": _count_line(form, found),
        "helps": helps(form, found, about),
    }


def helps(form: SearchForm, found: Found, about: About) -> list[Help]:
    """Return what to do about each filter of a search that finds nothing."""
    return [_help(form, lift, about) for lift in found.lifts]


def _headings(form: SearchForm, found: Found) -> tuple[str, str, str]:
    """Return the title of the page, its heading, and what that quotes."""
    if found.clip is not None:
        return f"Like {named(found.clip, 100)}", "More like this", ""
    if found.sound is not None:
        name = plain(found.sound.name) or "your sound"
        return f"Like {name}", "Clips that sound like", name
    if form.q:
        return form.q, "Clips for", form.q
    return "Clips, filtered", "Clips with these filters", ""


def _count_line(form: SearchForm, found: Found) -> str:
    if not found.total:
        return "No clip found."
    first = (form.page - 1) * form.top + 1
    last = first + len(found.hits or found.clips) - 1
    clips = counted(found.total)
    if last < first:
        return f"There is no page {form.page}: {clips} {'was' if found.total == 1 else 'were'} found."
    part = f"{first:,} to {last:,} of {clips}" if found.total > last - first + 1 else clips
    if not found.hits:
        return f"{part}, in the index's order. Describe a sound to rank them."
    beyond = f" A search shows its best {last:,}." if last < found.total and not found.has_more else ""
    return f"{part}, best first.{beyond}"


def _help(form: SearchForm, lift: Lift, about: About) -> Help:
    one, many, what = _SAYINGS[lift.name]
    what = what.format(_field_text(form, lift))
    sentence = f"{counted(lift.alone) if lift.alone else 'No clip'} {many if lift.alone > 1 else one} {what}."
    links = {}
    if not lift.alone and lift.name == "tag":
        others = form.without("tag", lift.value)
        links = {f"Try “{tag}”": others.having("tag", tag).address() for tag in _near_tags(str(lift.value), about)}
    if lift.without:
        links[f"Search without it ({counted(lift.without)})"] = form.without(lift.name, lift.value).address()
    return Help(sentence=sentence, links=links)


def _near_tags(tag: str, about: About) -> list[str]:
    """Return tags that are spelt nearly alike, the nearest first."""
    common = list(about.tags)[:_SEARCHED_TAGS]
    return [
        near for near, _, _ in process.extract(tag, common, limit=_NEAR_TAGS, score_cutoff=_ALIKE, scorer=fuzz.ratio)
    ]


def _field_text(form: SearchForm, lift: Lift) -> str:
    if lift.value is not None:
        return shown(lift.value, 60)
    values = [value for name, value in form.pairs() if name == lift.name]
    return shown(" or ".join(_told(lift.name, value) for value in values), 120)


def _told(name: str, value: str) -> str:
    if name in ("min_s", "max_s"):
        return f"{seconds_text(float(value))} s"
    return license_name(value) if name == "license" else value


def _one(name: str, value: str) -> str | None:
    return None if name in ("min_s", "max_s") else value
