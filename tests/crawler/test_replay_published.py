"""The published WavText5K.csv itself, counted; it is not part of this repository."""

from __future__ import annotations

import ast
import csv
import os
from collections import Counter
from pathlib import Path

import pytest

from crawler.published import PublishedRow, read_published

DATA = os.environ.get("WAVTEXT5K_DATA", "")
CSV = Path(DATA) / "captions" / "wavtext5k" / "WavText5K.csv"

pytestmark = pytest.mark.skipif(
    not (DATA and CSV.is_file()), reason="WAVTEXT5K_DATA names no folder with captions/wavtext5k/WavText5K.csv"
)


@pytest.fixture(scope="module")
def rows() -> tuple[PublishedRow, ...]:
    published = read_published(CSV)
    assert not published.refused
    return published.rows


def test_every_row_is_read(rows: tuple[PublishedRow, ...]) -> None:
    assert len(rows) == 4_525
    assert Counter(row.source for row in rows) == {"bigsoundbank": 2_467, "soundbible": 2_058}
    assert len({(row.source, row.source_id) for row in rows}) == 4_525
    assert all(row.audio_url for row in rows)
    assert (rows[0].source_id, rows[-1].source_id, rows[-1].line) == ("0100", "7", 4_528)


def test_texts(rows: tuple[PublishedRow, ...]) -> None:
    assert sum(not row.title for row in rows) == 5
    assert sum(not row.description for row in rows) == 177
    by_id = {(row.source, row.source_id): row for row in rows}
    assert by_id["bigsoundbank", "1624"].title == "Robot vacuum, back to the base"
    assert by_id["bigsoundbank", "0498"].title == "Horse shod in concrete not"
    assert not any("\r" in text or "\n" in text for row in rows for text in (row.title, row.description, *row.tags))
    assert not any(sign in text for row in rows for text in (row.title, row.description, *row.tags) for sign in "<>")


def test_tags(rows: tuple[PublishedRow, ...]) -> None:
    tags = [tag for row in rows for tag in row.tags]
    assert len(tags) == 48_483 - 17  # 17 are blank
    assert len({tag.casefold() for tag in tags}) == 11_694  # 11,695 with the blank one
    assert sum(bool(row.tags) for row in rows) == 2_058
    leaked = {row.source_id: row.tags for row in rows if row.source_id in ("1780", "861", "765")}
    assert leaked["1780"][7:11] == ("boomerang", "bow and arrow", "crossbow", "dart")
    assert leaked["861"][5:8] == leaked["765"][5:8] == ("alcoholic", "alcohol bashed", "befuddled")


def test_the_scan_reads_what_python_reads(rows: tuple[PublishedRow, ...]) -> None:
    unreadable = 0
    with CSV.open(encoding="utf-8", newline="") as file:
        for row, values in zip(rows, csv.DictReader(file), strict=True):
            try:
                tags = ast.literal_eval(values["tags"] or "[]")
            except SyntaxError:
                unreadable += 1
                continue
            assert row.tags == tuple(tag.strip() for tag in tags if tag.strip())
            assert (row.title, row.description) == (values["title"].strip(), values["description"].strip())
    assert unreadable == 3
