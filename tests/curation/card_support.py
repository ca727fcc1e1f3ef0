"""Manifests with their tables for the tests of data cards, and a reader of the Markdown that comes out."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import yaml
from markdown_it import MarkdownIt

from curation.arrow_tables import parquet_bytes, table_of
from curation.manifest import (
    DROPPED_FILE,
    FLAGS_FILE,
    FLAGS_SCHEMA,
    STATISTICS_FILE,
    dropped_table,
    write_manifest,
)
from tests.curation import support

HOSTILE = "</td><script>alert(1)</script> | *Eve* `x` [click](http://evil.example) $x$ \u202eoof\n# Head\n| a | b |"
"""What a page may call a sound: HTML, a cell's end, markup, a link, a right-to-left mark, a heading, a table."""


def row(number: int = 1, **changes: Any) -> dict[str, Any]:
    """Return a row whose file and group go by its clip_id, whatever that is."""
    clip_id = changes.get("clip_id", f"soundbible-{number}")
    return support.row(number, **{"duplicate_group": clip_id, "audio_path": f"audio/{clip_id}.flac"} | changes)


def make_rows() -> list[dict[str, Any]]:
    """Six clips of two sources whose counts are known by hand."""
    site: dict[str, Any] = {"retrieved_at": "2026-01-02T03:04:05Z"}
    other: dict[str, Any] = {
        "source": "bigsoundbank",
        "retrieved_at": "2026-03-01T00:00:00Z",
        "license": "cc0-1.0",
        "author": "",
    }
    return [
        row(1, **site, description="A bell, rung twice.", num_samples=44_100, duration_s=1.0),
        row(2, **site, description="A BELL, rung twice.", split="test", num_samples=88_200, duration_s=2.0),
        row(3, **site, description="Wind - and rain", license="personal-use", duplicate_group="soundbible-2"),
        row(4, **site, description="", title="Thunder", tags=[], author="Bob", license="unknown"),
        row(5, **other, clip_id="bigsoundbank-0005", title="", description="One two three", split="val"),
        row(6, **other, clip_id="bigsoundbank-0006", description="", captions=["Two words", "One more caption"]),
    ]


def lay_manifest(
    folder: Path,
    rows: Iterable[Mapping[str, Any]] = (),
    *,
    dropped: Iterable[Mapping[str, Any]] | None = (),
    flags: Iterable[Mapping[str, Any]] | None = (),
) -> Path:
    """Write a manifest and what a build leaves beside it; None: without that table. Return the folder."""
    rows = list(rows) or [row(number) for number in (1, 2, 3)]
    write_manifest(folder, rows)
    lost = list(dropped or ())
    if dropped is not None:
        (folder / DROPPED_FILE).write_bytes(parquet_bytes(dropped_table(lost, file=folder)))
        counts: dict[str, int] = {}
        for drop in lost:
            counts[drop["reason"]] = counts.get(drop["reason"], 0) + 1
        statistics = {"clips": len(rows), "dropped": counts, "options": {"min_duration_s": 0.1, "require": []}}
        (folder / STATISTICS_FILE).write_text(json.dumps(statistics))
    if flags is not None:
        (folder / FLAGS_FILE).write_bytes(parquet_bytes(table_of(flags, FLAGS_SCHEMA, file=folder)))
    return folder


def drop(number: int, reason: str = "silent", *, source: str = "soundbible") -> dict[str, Any]:
    """Return a row of dropped.parquet."""
    key = str(number)
    return {"clip_id": f"{source}-{key}", "source": source, "source_id": key, "reason": reason, "detail": "found so"}


class Page(HTMLParser):
    """A card as a reader sees it: headings, tables cell by cell, addresses of links, names of HTML elements."""

    def __init__(self, card: str) -> None:
        super().__init__()
        self.headings: list[str] = []
        self.tables: list[list[list[str]]] = []
        self.links: set[str] = set()
        self.elements: set[str] = set()
        self._into: list[str] | None = None
        self.front = yaml.safe_load(card.split("---\n")[1])
        self.feed(MarkdownIt("commonmark", {"html": False}).enable("table").render(card.split("---\n", 2)[2]))

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.elements.add(tag)
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")
            self._into = self.tables[-1][-1]
        elif tag in ("h1", "h2"):
            self.headings.append("")
            self._into = self.headings
        self.links |= {value or "" for name, value in attributes if name == "href"}

    def handle_endtag(self, tag: str) -> None:
        if tag in ("td", "th", "h1", "h2"):
            self._into = None

    def handle_data(self, data: str) -> None:
        if self._into is not None:
            self._into[-1] += data

    def row(self, name: str) -> list[str]:
        """Return the cells behind the first cell that holds the name, of the only row that begins with it."""
        found = [cells for table in self.tables for cells in table if cells[0] == name]
        assert len(found) == 1, (name, found)
        return found[0][1:]
