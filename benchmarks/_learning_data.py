"""Real sounds for benchmarks/learning.py: a table of each set, imported with ``wavtext5k-curate import csv``.

Reads ``metadata.csv`` of the sets ``esc10``, ``tuxpaint-gcompris``, ``effects`` and ``soundbible`` in a folder that is
not part of this repository; writes ``tables/`` and ``manifests/``. ESC-10 becomes a manifest for each fold held out,
because a manifest states one split a clip: that fold is its test, the others its train. The other sets are split by the
build's own hash, which keeps near-equal sounds on one side. Of several files of a SoundBible page the first is taken.
"""

from __future__ import annotations

import ast
import csv
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from crawler.items import open_whole
from curation.errors import ConfigError
from demo.__main__ import Stages

TEST_FRACTION = 0.25
NAMED = ("tuxpaint-gcompris", "effects", "soundbible")
"""The sets whose sounds have a text each."""

Row = dict[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sets:
    """Folders of the manifests."""

    classes: dict[int, Path]
    """ESC-10, by the fold that is held out."""
    named: dict[str, Path]
    """By the names in NAMED."""


def import_sets(data: Path, out: Path, *, folds: Sequence[int], stages: Stages) -> Sets:
    """Return the manifests of all sets, made or brought up to date under ``out``.

    Raises:
        ConfigError: If a set is not in ``data``, or its table lacks a column.
    """
    rows = {name: _rows(data / name / "metadata.csv") for name in ("esc10", *NAMED)}
    try:
        tables = {f"esc10-{fold}": list(_esc10(rows["esc10"], held_out=fold)) for fold in folds}
        tables |= {name: list(make(rows[name])) for name, make in zip(NAMED, _TEXTS, strict=True)}
    except (KeyError, ValueError, SyntaxError) as error:
        raise ConfigError(f"{data}: a metadata.csv is not as expected: {error!r}") from error
    for name, table in tables.items():
        _import(stages, name, table, audio=data / ("esc10" if name.startswith("esc10-") else name), out=out)
    folder = out / "manifests"
    return Sets(
        classes={fold: folder / f"esc10-{fold}" for fold in folds}, named={name: folder / name for name in NAMED}
    )


def _rows(path: Path) -> list[Row]:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}; --data names the folder that holds the real sounds") from error
    if not rows:
        raise ConfigError(f"{path}: the table is empty")
    return rows


def _import(stages: Stages, name: str, rows: list[Row], *, audio: Path, out: Path) -> None:
    table = out / "tables" / name / "clips.csv"
    table.parent.mkdir(parents=True, exist_ok=True)
    with open_whole(table, "w") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    where = ("--audio", str(audio), "--out", str(out / "manifests" / name))
    fractions = ("--val-fraction", "0", "--test-fraction", str(TEST_FRACTION))
    stages.run("wavtext5k-curate", "import", "csv", str(table), *where, *fractions)


def _esc10(rows: Iterable[Row], *, held_out: int) -> Iterator[Row]:
    """Yield clips titled by their class, which the caption templates put into words."""
    for row in rows:
        name = row["category"].lower()
        yield {
            "file": row["file"],
            "source_id": Path(row["file"]).stem,
            "title": name,
            "label": name,
            "fold": row["fold"],
            "split": "test" if int(row["fold"]) == held_out else "train",
            "origin": "freesound",
            "origin_id": row["freesound_id"],
        }


def _tuxpaint(rows: Iterable[Row]) -> Iterator[Row]:
    """Yield sentences of the stamps as they are, and of the game's file names the words."""
    for row in rows:
        text = row["text"]
        if row["kind"] == "game sound":  # "memory-sound: LRRain in garden 01 LA cut": initials, a number, an edit
            text = re.sub(r"^LR", "", text.partition(": ")[2])
            text = re.sub(r"(?<=[a-z])(?=[0-9])|(?<=[a-z0-9])(?=[A-Z])", " ", text)
            text = re.sub(r"\b(?:LA|(?:LA)?[Cc]ut|son|\d+)\b", " ", text)
        yield {"file": row["file"], "caption": " ".join(text.split()) or row["text"]}


def _effects(rows: Iterable[Row]) -> Iterator[Row]:
    for row in rows:
        yield {"file": row["file"], "caption": row["text"].rstrip(".")}


def _soundbible(rows: Iterable[Row]) -> Iterator[Row]:
    first = {row["soundbible_id"]: row for row in reversed(list(rows))}
    for source_id, row in sorted(first.items()):
        yield {
            "file": row["file"],
            "source_id": source_id,
            "title": row["title"],
            "description": row["description"],
            "tags": "; ".join(ast.literal_eval(row["tags"] or "[]")),
            "page_url": row["view_link"],
        }


_TEXTS = (_tuxpaint, _effects, _soundbible)
