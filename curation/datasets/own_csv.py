"""Reads one's own sounds from a table: a row says where a sound lies and what it is.

Any CSV or TSV that a spreadsheet or pandas writes. Several rows of one sound make one clip with several captions.
Paths may not lead out of the folder that holds the table (or ``--audio``): a table from elsewhere must not make a
build read other files of this machine, and a manifest must not depend on where a folder lies.
"""

from __future__ import annotations

import csv
import io
import posixpath
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path, PurePosixPath

from curation.datasets.own_fields import NAMES, field_of, license_notes, own_source, read_fields
from curation.datasets.places import wrong_layout
from curation.datasets.tables import read_content, read_table
from curation.entries import Collection, Entry
from curation.errors import ManifestError

LAYOUT = """\
<any name>.csv or .tsv    one row a sound; several rows of one sound are several captions of it. Its columns:
  audio                   path of the sound, relative to the table or to --audio (also: file, filename, path, ...)
  title, description      texts
  tags, labels            "wind; storm" or "wind, storm" or ["wind", "storm"]
  caption, caption_1, ... sentences; or captions with a list ["...", "..."]
  author, license, license_url, page_url, split, fold, source_id, origin, origin_id
                          optional; a license such as CC BY 4.0, cc0-1.0 or the address of its text
Separated by commas, semicolons or tabs; UTF-8, or UTF-16 as Excel writes it.
"""

_TEXT_FIELDS = ("title", "description", "captions", "labels")
_SNIFFED = 65_536  # bytes that must hold the header


def read(place: Path, *, audio: Path | None) -> Collection:
    """Return the clips of a table, in its order.

    Args:
        place: The table, or a folder that holds one.
        audio: The folder that the paths are relative to, if not the table's own.

    Raises:
        ManifestError: If there is no table, or it is not as documented; names file, line and column.
    """
    file = _table_in(place) if place.is_dir() else place
    root = audio if audio is not None else file.parent
    encoding, delimiter, header = _sniff(file)
    fields = {name: field_of(name) for name in header}
    _check_columns(file, fields)
    audio_column = next(name for name, field in fields.items() if field == "audio")
    id_column = next((name for name, field in fields.items() if field == "source_id"), "")
    source = own_source(place)
    entries: dict[str, Entry] = {}
    line_of: dict[str, int] = {}
    unplaced: Counter[str] = Counter()
    for line, row in read_table(file, required=(audio_column,), encoding=encoding, delimiter=delimiter):
        where = f"{file}: line {line}"
        audio_file = _relative(row[audio_column], root, f"{where}: {audio_column}")
        source_id = row[id_column].strip() if id_column else audio_file
        if not source_id:
            raise ManifestError(f"{where}: {id_column} is empty, must be the clip's own key")
        entry = Entry(
            source=source,
            source_id=source_id,
            audio_file=audio_file,
            **read_fields(row, where=where, unplaced=unplaced),
        )
        if source_id in entries:
            entry = _joined(entries[source_id], entry, where=where, first=line_of[source_id])
        entries[source_id] = entry
        line_of.setdefault(source_id, line)
    notes = license_notes(unplaced)
    if unused := [name for name, field in fields.items() if not field]:
        notes.append(f"columns of {file.name} without a meaning here, left out: {', '.join(unused)}")
    return Collection(entries=list(entries.values()), root=root, notes=notes)


def _table_in(folder: Path) -> Path:
    tables = sorted(path for path in folder.iterdir() if path.suffix.lower() in (".csv", ".tsv"))
    tables = [table for table in tables if not table.name.startswith(".")]
    if not tables:
        raise wrong_layout(folder, "no .csv or .tsv", LAYOUT)
    if len(tables) > 1:
        names = ", ".join(table.name for table in tables[:12])
        raise ManifestError(f"{folder}: {len(tables)} tables ({names}); name the one to read")
    return tables[0]


def _sniff(file: Path) -> tuple[str, str, list[str]]:
    """Return a table's encoding, its delimiter, and the names of its columns."""
    content = read_content(file)
    encoding = "utf-16" if content.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8-sig"
    text = content[:_SNIFFED].decode(encoding, "replace")
    if separator := re.match(r"sep=(.)", text, re.I):
        raise ManifestError(f"{file}: line 1: {separator[0]!r} is Excel's own sign, no header; remove that line")
    headers = {}
    for delimiter in ",;\t|":
        try:
            header = next((row for row in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter) if row), [])
        except csv.Error:  # a field without end; read_table says where
            header = []
        headers[delimiter] = [name.strip() for name in header]
        if any(field_of(name) == "audio" for name in headers[delimiter]):
            return encoding, delimiter, headers[delimiter]
    found = max(headers.values(), key=len)
    raise ManifestError(
        f"{file}: line 1: no column that names the sounds; found: {', '.join(found)[:120]!r}; "
        f"expected one of {', '.join(NAMES['audio'])}"
    )


def _check_columns(file: Path, fields: dict[str, str]) -> None:
    for field in NAMES:
        named = [name for name, found in fields.items() if found == field]
        if len(named) > 1 and field != "captions":
            raise ManifestError(f"{file}: line 1: columns {' and '.join(map(repr, named))} both mean {field}; keep one")
    if not set(_TEXT_FIELDS) & set(fields.values()):
        raise ManifestError(
            f"{file}: line 1: no column of text; expected title, description, caption or labels beside the sounds; "
            f"found: {', '.join(fields)[:120]!r}"
        )


def _relative(text: str, root: Path, where: str) -> str:
    """Return a path of the table as it leads from the root."""
    path = text.strip()
    if not path:
        raise ManifestError(f"{where} is empty, must be the path of a sound")
    if "\0" in path or re.match(r"[A-Za-z][A-Za-z0-9+.-]+://", path):
        raise ManifestError(f"{where} is {path[:80]!r}, must be the path of a file, not an address; download it first")
    if "\\" in path and not (root / path).exists():
        path = path.replace("\\", "/")
    if path.startswith("/"):
        for base in (root, root.resolve()):
            if PurePosixPath(path).is_relative_to(str(base)):
                path = PurePosixPath(path).relative_to(str(base)).as_posix()
                break
    path = posixpath.normpath(path)
    if path.startswith(("/", "../")) or path in (".", "..") or re.match(r"[A-Za-z]:/", path):
        raise ManifestError(
            f"{where} is {text.strip()[:80]!r}, must lead to a file in {root}; "
            "name the folder that holds all sounds: --audio FOLDER"
        )
    return path


def _joined(earlier: Entry, entry: Entry, *, where: str, first: int) -> Entry:
    """Return the clip of two rows, which may differ in captions alone."""
    for name in Entry.__dataclass_fields__:
        if name != "captions" and getattr(entry, name) != getattr(earlier, name):
            raise ManifestError(
                f"{where}: {entry.source_id!r} is the sound of line {first} already, with another "
                f"{name}: {str(getattr(earlier, name))[:60]!r}; several texts of one sound belong in a column caption"
            )
    return replace(entry, captions=tuple(dict.fromkeys(earlier.captions + entry.captions)))
