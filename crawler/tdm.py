"""Reservations of text and data mining, as the TDM Reservation Protocol has them (W3C community report, 2024-05-10).

A site reserves in a file (``/.well-known/tdmrep.json``), in a header of an answer, or in a meta element of a page.
The protocol lets the nearer of them overrule the farther; we take a reservation in any of them for one, which can
only leave out too much.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from parsel import Selector

from crawler.pages.fields import decode_page

TDMREP = "/.well-known/tdmrep.json"
HEADER = "tdm-reservation"


@dataclass(frozen=True, slots=True)
class TdmRules:
    """The rules of a tdmrep.json: for each path the first that matches holds."""

    rules: tuple[tuple[str, bool], ...] = ()
    """Location and whether it is reserved."""
    note: str = ""
    """What is odd about the file, for the report; "" if nothing is."""

    def reserves(self, path: str) -> bool:
        """Return whether text and data mining is reserved for a path (with its query, starting with "/")."""
        return next((reserved for location, reserved in self.rules if _matches(location, path)), False)

    def reserves_url(self, url: str) -> bool:
        """Return the same for the path of an address."""
        return bool(self.rules) and self.reserves(urlsplit(url)._replace(scheme="", netloc="", fragment="").geturl())


def parse_tdmrep(text: str) -> TdmRules:
    """Return the rules of a tdmrep.json; a file that is none has no rules and a note."""
    try:
        entries = json.loads(text)
    except (ValueError, RecursionError) as error:
        return TdmRules(note=f"{TDMREP} is not JSON ({error}): taken for no reservation")
    if not isinstance(entries, list):
        return TdmRules(note=f"{TDMREP} is not a list of rules: taken for no reservation")
    rules = []
    for entry in entries:
        if isinstance(entry, dict) and isinstance(location := entry.get("location"), str):
            path = re.sub(r"^https?://[^/]*", "", location)
            rules.append((path if path.startswith(("/", "*")) else f"/{path}", _is_one(entry.get(HEADER))))
    note = "" if len(rules) == len(entries) else f"{TDMREP}: {len(entries) - len(rules)} of its rules name no location"
    return TdmRules(tuple(rules), note)


def read_tdmrep(status: int | None, body: bytes, *, why: str = "no answer", kept_in: Path | None = None) -> TdmRules:
    """Return what an answer to the request for tdmrep.json means: one that says nothing leaves the last copy in force.

    Args:
        status: Of the answer, after redirects; None if none came.
        body: Of the answer.
        why: What happened instead of an answer.
        kept_in: The folder of crawler.notices in which an earlier run may have kept a copy.
    """
    if status == 200:
        return parse_tdmrep(decode_page(body, None))
    if status in (404, 410):
        return TdmRules()
    words = why if status is None else f"HTTP status {status}"
    try:
        copy = (kept_in / TDMREP.rpartition("/")[2]).read_bytes() if kept_in else None
    except OSError:
        copy = None
    rules = TdmRules() if copy is None else parse_tdmrep(decode_page(copy, None))
    effect = "taken for no reservation" if copy is None else "its last copy holds"
    return TdmRules(rules.rules, f"{TDMREP} could not be read ({words}): {effect}")


def _matches(location: str, path: str) -> bool:
    """Whether a location fits the beginning of a path: "*" stands for any characters, "$" at its end for its end.

    By searching piece after piece, not by a regular expression: many stars would take that for ever.
    """
    first, *rest = location.removesuffix("$").split("*")
    if not path.startswith(first):
        return False
    at = len(first)
    last = rest.pop() if rest and location.endswith("$") else ""
    for piece in rest:
        found = path.find(piece, at)
        if found < 0:
            return False
        at = found + len(piece)
    if not location.endswith("$"):
        return True
    return path.endswith(last) and len(path) - len(last) >= at if "*" in location else at == len(path)


def header_reserves(value: str | None) -> bool:
    """Return whether the value of the header ``tdm-reservation`` reserves."""
    return _is_one(value)


def page_reserves(html: str) -> bool:
    """Return whether a meta element of a page reserves."""
    if HEADER not in html.lower():  # the page is parsed a second time only where there is something to find
        return False
    names = Selector(text=html, type="html").xpath("//meta[@name]")
    return any((m.attrib["name"] or "").strip().lower() == HEADER and _is_one(m.attrib.get("content")) for m in names)


def _is_one(value: Any) -> bool:
    return value == 1 or str(value).strip() == "1"
