"""JSON-LD, as pages carry it in ``<script type="application/ld+json">``: blocks to nodes, values to text.

Sites write these blocks by hand or by template, so commas before a closing bracket and comments around the block are
read over; a block that is still no JSON is left out, the rest of the page counts.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from typing import Any

from parsel import Selector

from crawler.pages.fields import fragment_text

_BLOCKS = "//script[contains(translate(@type, 'JSONLD', 'jsonld'), 'ld+json')]/text()"
_COMMA = re.compile(r'("(?:[^"\\]++|\\.)*+"?)|,(?=\s*[}\]])', re.S)
_BEFORE = ("<!--", "//<![CDATA[", "/*<![CDATA[*/", "<![CDATA[")
_AFTER = ("//-->", "-->", "//]]>", "/*]]>*/", "]]>")


def json_ld(page: Selector) -> list[Any]:
    """Return what the JSON-LD blocks of a page hold, in page order; blocks that are no JSON are left out."""
    found = (_parsed(block) for block in page.xpath(_BLOCKS).getall())
    return [data for data in found if data is not None]


def _parsed(block: str) -> Any:
    """Return what a block holds, None if it is no JSON."""
    inside = block.strip()
    for mark in _BEFORE:
        inside = inside.removeprefix(mark)
    for mark in _AFTER:
        inside = inside.removesuffix(mark)
    for text in (block, inside, _COMMA.sub(r"\1", inside)):
        try:
            return json.loads(text, strict=False)
        except (ValueError, RecursionError):  # RecursionError: brackets without end
            continue
    return None


def nodes_of(data: Any) -> Iterator[dict[str, Any]]:
    """Yield every object in a JSON value, itself too, in document order."""
    waiting = [data]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            yield value
            waiting += reversed(value.values())
        elif isinstance(value, list):
            waiting += reversed(value)


def strings_of(data: Any) -> Iterator[str]:
    """Yield every string in a JSON value, keys left out."""
    waiting = [data]
    while waiting:
        value = waiting.pop()
        if isinstance(value, str):
            yield value
        elif isinstance(value, dict):
            waiting += reversed(value.values())
        elif isinstance(value, list):
            waiting += reversed(value)


def is_a(node: dict[str, Any], kind: str) -> bool:
    """Return whether an object is of a type: "AudioObject", one in a list, or its address at schema.org."""
    kinds = node.get("@type")
    names = kinds if isinstance(kinds, list) else [kinds]
    return any(isinstance(name, str) and re.split("[/:#]", name)[-1] == kind for name in names)


def plain_text(value: Any) -> str:
    """Return a JSON-LD value as text: a string, the name of an object, or a list of either.

    JSON has no entities, so a site that means "&" writes "&". We unescape once and take tags out all the same: many
    sites fill JSON-LD with text made for HTML, no archived page says what BigSoundBank does, and its texts of 2022
    hold neither an entity nor a tag that would be lost.
    """
    names = [_name(part) for part in value] if isinstance(value, list) else [_name(value)]
    return ", ".join(filter(None, (fragment_text(name) for name in names)))


def text_list(value: Any) -> list[str]:
    """Return a JSON-LD value that lists things, as a list or as one string with commas."""
    return [plain_text(part) for part in value] if isinstance(value, list) else plain_text(value).split(",")


def _name(value: Any) -> str:
    if isinstance(value, dict):
        value = value.get("name")
    return value if isinstance(value, str) else ""


def seconds_of(value: Any) -> float | None:
    """Return a duration in seconds: ISO 8601 (``PT1M20.5S``, ``P0DT0H1M20S``), a clock (``01:20``) or a number."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value) if 0 <= value < 1e9 and math.isfinite(value) else None
    text = plain_text(value).strip().upper()
    if match := _ISO_DURATION.fullmatch(text):
        if not any(match.groups()):
            return None
        days, hours, minutes, seconds = (float((part or "0").replace(",", ".")) for part in match.groups())
        return ((days * 24 + hours) * 60 + minutes) * 60 + seconds
    return clock_seconds(text)


_ISO_DURATION = re.compile(
    r"P(?:([0-9]{1,6})D)?(?:T(?:([0-9]{1,6})H)?(?:([0-9]{1,6})M)?(?:([0-9]{1,9}(?:[.,][0-9]{1,9})?)S)?)?"
)


def clock_seconds(text: str) -> float | None:
    """Return the seconds of ``[HH:]MM:SS[.s]``, None for anything else."""
    if not re.fullmatch(r"(?:[0-9]{1,4}:)?[0-9]{1,4}:[0-9]{2}(?:\.[0-9]{1,6})?", text):
        return None
    seconds = 0.0
    for part in text.split(":"):
        seconds = seconds * 60 + float(part)
    return seconds
