"""Reads the text files of published data sets: CSV tables and JSON, with errors that name file, line and column.

A file is read whole before the first row is given: a caption file has megabytes at most, and a broken one is then
refused before anything is made of its first half. A row that has too few or too many cells is an error, never
padded or cut: in a caption file it means an unquoted comma, which would shift every text behind it.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from curation.errors import ManifestError

_LFS_POINTER = b"version https://git-lfs.github.com/spec/"
_SHOWN = 60  # characters of a cell or of a line in a message


def read_table(
    file: Path, *, required: Sequence[str], encoding: str = "utf-8-sig", delimiter: str = ","
) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield a table's rows under its header, each with the number of the line that it begins on (the header's is 1).

    Cells are as they stand in the file; empty lines are left out; a table without rows yields nothing. A carriage
    return alone, in a file whose lines end otherwise, is a blank: AudioCaps 2.0 has three such, unquoted, in captions.

    Args:
        file: The table.
        required: Columns that must be there; others are given too.
        encoding: Of the file; a byte order mark is no part of the first column's name.
        delimiter: One character.

    Raises:
        ManifestError: If the file is missing or no such table; names the line, the column, what was found and expected.
    """
    text = read_text(file, encoding=encoding)
    if "\n" in text:
        text = re.sub(r"\r(?!\n)", " ", text)
    cells = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    end, header = 0, None
    try:
        for row in cells:
            line, end = end + 1, cells.line_num
            if not row:
                continue
            if header is None:
                header = _check_header(file, row, required, line=line, delimiter=delimiter)
                continue
            if len(row) != len(header):
                raise ManifestError(
                    f"{file}: line {line}: {len(row)} cells, the header has {len(header)} ({', '.join(header)}); "
                    f"a {delimiter!r} inside a text wants quotes; found: {_cut(delimiter.join(row))}"
                )
            yield line, dict(zip(header, row, strict=True))
    except csv.Error as error:
        raise ManifestError(f"{file}: line {end + 1}: not a CSV row ({error}); look for a quote too many") from error
    if header is None:
        raise ManifestError(f"{file}: empty, expected a table with the columns {', '.join(required)}")


def read_json(file: Path) -> Any:
    """Return what a JSON file holds.

    Raises:
        ManifestError: If the file is missing or not JSON; names line and column.
    """
    try:
        return json.loads(read_text(file))
    except json.JSONDecodeError as error:
        raise ManifestError(f"{file}: line {error.lineno}, column {error.colno}: not JSON ({error.msg})") from error
    except (ValueError, RecursionError) as error:  # a number of 5,000 digits; brackets without end
        raise ManifestError(f"{file}: not JSON that can be read ({error})") from error


def read_text(file: Path, *, encoding: str = "utf-8-sig") -> str:
    """Return a file's text.

    Raises:
        ManifestError: If the file is missing, a Git LFS pointer, a web page, or not of that encoding; names the line.
    """
    content = read_content(file)
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ManifestError(
            f"{file}: line {line}: byte 0x{content[error.start]:02x} is not {encoding.removesuffix('-sig').upper()}; "
            "save the file in that encoding"
        ) from error


def read_content(file: Path) -> bytes:
    """Return a file's bytes.

    Raises:
        ManifestError: If the file is missing, or what stands there instead of a download that failed.
    """
    try:
        content = file.read_bytes()
    except FileNotFoundError as error:
        raise ManifestError(f"{file}: no such file") from error
    except IsADirectoryError as error:
        raise ManifestError(f"{file}: a folder, expected a file") from error
    if content.startswith(_LFS_POINTER):
        raise ManifestError(f"{file}: a Git LFS pointer, not the file itself; fetch it with: git lfs pull")
    if content[:200].lstrip().lower().startswith((b"<!doctype html", b"<html")):
        raise ManifestError(f"{file}: a web page, not the file itself; download it again")
    return content


def _check_header(file: Path, header: list[str], required: Sequence[str], *, line: int, delimiter: str) -> list[str]:
    header = [name.strip() for name in header]
    found = f"found: {_cut(', '.join(header))}"
    if repeated := sorted({name for name in header if header.count(name) > 1}):
        raise ManifestError(f"{file}: line {line}: column {repeated[0]!r} stands there twice; {found}")
    if missing := [name for name in required if name not in header]:
        plain = len(header) == 1 and next((mark for mark in ";\t,|" if mark != delimiter and mark in header[0]), "")
        hint = f"; the columns seem to be divided by {plain!r}, expected {delimiter!r}" if plain else ""
        raise ManifestError(f"{file}: line {line}: column {missing[0]!r} is missing from the header; {found}{hint}")
    return header


def _cut(text: str) -> str:
    return repr(text if len(text) <= 2 * _SHOWN else text[: 2 * _SHOWN] + "...")
