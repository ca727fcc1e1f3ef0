"""Reads ESC-50 (Piczak 2015; github.com/karolpiczak/ESC-50): 2,000 clips of 5 s, 50 classes, 5 folds, from Freesound.

Labels keep the spelling of the set, "sea_waves"; who makes a prompt of one writes a space. ESC-10 is the clips of
ten of the classes, so it needs no column of its own. A clip's author and licence and the title of the recording stand
in the set's LICENSE, as text, and are read from there. It names CC-BY and CC-BY-NC without a version: the set dates
from 2015, when Freesound offered them in version 3.0 alone, which is also that of the set's own licence.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from curation.datasets.places import is_file_name, sounds_under, title_of, wrong_layout
from curation.datasets.provenance import license_of
from curation.datasets.tables import read_table, read_text
from curation.entries import Collection, Entry
from curation.errors import ManifestError
from curation.text import clean_text

LAYOUT = """\
meta/esc50.csv         filename, fold, target, category, esc10, src_file, take
audio/<filename>
LICENSE                author, licence and title of each clip (optional)
or esc50.csv alone: labels only
"""

PUBLISHED = 2000
"""Clips."""

_COLUMNS = ("filename", "fold", "category", "esc10", "src_file", "take")
_CREDIT = re.compile(
    r"- \[([^\]]+)\.(?:ogg|wav)\]:\s*clip derived from (.*) \((https?://\S+)\) by (.*) \[([^\]]+)\]\s*"
)
_LICENSE_OF_SET = {"True": "cc-by-3.0", "False": "cc-by-nc-3.0"}
"""By the column esc10: what the publishers give to ESC-10, and to ESC-50 as a whole."""


@dataclass(frozen=True, slots=True)
class _Credit:
    """What the LICENSE says of a clip."""

    title: str
    page_url: str
    author: str
    license: str


def read(place: Path, *, audio: Path | None) -> Collection:
    """Return the clips in the table's order; a clip whose audio is not there has the audio_file where it should be.

    Args:
        place: The folder as LAYOUT has it, or esc50.csv alone.
        audio: The folder in or under which the sounds lie.

    Raises:
        ManifestError: If the table is missing or not as published; names file and line.
    """
    table = place / "meta" / "esc50.csv" if place.is_dir() else place
    if not table.is_file():
        raise wrong_layout(place, "no meta/esc50.csv", LAYOUT)
    root = audio if audio is not None else (place if place.is_dir() else None)
    sounds = sounds_under(root)
    credit_file = table.parent.parent / "LICENSE"
    credit_of = _read_credits(credit_file) if credit_file.is_file() else {}
    entries: dict[str, Entry] = {}
    uncredited = 0
    for line, row in read_table(table, required=_COLUMNS):
        where = f"{table}: line {line}"
        _check(row, where=where)
        # The LICENSE names clips as they were before the class became part of their names: 1-100032-A.
        credit = credit_of.get(f"{row['fold']}-{row['src_file']}-{row['take']}")
        uncredited += credit is None
        key = Path(row["filename"]).stem
        if key in entries:
            raise ManifestError(f"{where}: filename {row['filename']!r} stands there twice; it must be unique")
        entries[key] = _entry(row, credit, audio_file=sounds.find(key) or f"audio/{row['filename']}")
    notes = []
    if len(entries) != PUBLISHED:
        notes.append(f"{table.name} has {len(entries)} clips, {PUBLISHED} as published")
    if uncredited:
        licences = "CC BY-NC 3.0, or CC BY 3.0 for the classes of ESC-10"
        notes.append(f"no LICENSE that speaks of {uncredited} clips: their licence is that of the set, {licences}")
    return Collection(entries=list(entries.values()), root=root, keep_duplicates=True, notes=notes)


def _check(row: dict[str, str], *, where: str) -> None:
    if not is_file_name(row["filename"]):
        raise ManifestError(f"{where}: filename is {row['filename']!r}, must be the name of a file")
    if not re.fullmatch(r"[1-9][0-9]?", row["fold"]):
        raise ManifestError(f"{where}: fold is {row['fold']!r}, must be a number from 1")
    if not re.fullmatch(r"[0-9]+", row["src_file"]):
        raise ManifestError(f"{where}: src_file is {row['src_file']!r}, must be a Freesound id")
    if row["esc10"] not in _LICENSE_OF_SET:
        raise ManifestError(f"{where}: esc10 is {row['esc10']!r}, must be True or False")
    if not row["category"].strip():
        raise ManifestError(f"{where}: category is empty, must name a class")


def _entry(row: dict[str, str], credit: _Credit | None, *, audio_file: str) -> Entry:
    return Entry(
        source="esc50",
        source_id=Path(row["filename"]).stem,
        origin="freesound",
        origin_id=row["src_file"],
        page_url=credit.page_url if credit else f"https://freesound.org/s/{row['src_file']}/",
        title=credit.title if credit else "",
        labels=(row["category"].strip(),),
        fold=int(row["fold"]),
        author=credit.author if credit else "",
        license=credit.license if credit else _LICENSE_OF_SET[row["esc10"]],
        audio_file=audio_file,
    )


def _read_credits(file: Path) -> dict[str, _Credit]:
    found = {}
    for match in map(_CREDIT.fullmatch, read_text(file).splitlines()):
        if match is not None:
            name, title, page_url, author, license_name = match.groups()
            license_id = license_of(license_name)
            if license_id == "unknown":
                license_id = license_of(f"{license_name} 3.0")
            found[name] = _Credit(title_of(_unescape(title)), page_url, _unescape(author), license_id)
    return found


def _unescape(text: str) -> str:
    r"""Return a cleaned text; letters beyond ASCII stand in the LICENSE as "\xf6"."""
    codes = r"\\x([0-9a-f]{2})|\\u([0-9a-f]{4})"
    return clean_text(re.sub(codes, lambda match: chr(int(match[1] or match[2], 16)), text))
