"""Reads a published list of clips (WavText5K.csv) into rows: which clip of which site, and the text that was published.

Columns: view_link, download_link, title, description, tags (fname is not needed; others are ignored). The site and the
id come from view_link, never from the text. A file that is not such a list raises; a row that cannot be replayed (of
another site, without an id, of a wrong number of fields) is named and costs no other row.
The tags are the text of a Python list into which three rows let a tag's raw HTML slip, so they are scanned, not
evaluated: a list item is a string or an element, and an element says the tag that its text is.
"""

from __future__ import annotations

import ast
import csv
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from urllib.parse import urlsplit

from crawler.pages import bigsoundbank, soundbible
from crawler.pages.fields import fragment_text

PAGES: dict[str, ModuleType] = {"soundbible": soundbible, "bigsoundbank": bigsoundbank}
"""The page functions of each site that a list may name, by source."""

COLUMNS = ("view_link", "download_link", "title", "description", "tags")


class PublishedError(ValueError):
    """A list or a row that cannot be read; the message names file, line and, where one is at fault, the column."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedRow:
    """One clip of a published list; white space at the ends of its texts is removed, all else is as published."""

    line: int
    """Where the row begins in the file, from 1; a title may hold line ends."""
    source: str
    source_id: str
    page_url: str
    audio_url: str
    """"" where the list has none."""
    title: str
    description: str
    tags: tuple[str, ...]
    """In the list's order, repeats kept; blanks are no tags."""


@dataclass(frozen=True, slots=True)
class Published:
    """A published list: its rows in order, and a message for each that cannot be replayed."""

    rows: tuple[PublishedRow, ...]
    refused: tuple[str, ...]


def read_published(path: Path) -> Published:
    """Return the rows of a published list.

    Args:
        path: CSV, UTF-8 with or without a byte order mark, any line ends.

    Raises:
        PublishedError: If the file cannot be read, is no such list, or breaks off inside a quoted text.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError as error:
        raise PublishedError(f"{path}: no such file; WavText5K.csv is in github.com/microsoft/WavText5K") from error
    except OSError as error:
        raise PublishedError(f"{path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        wrong = f"not UTF-8 text: byte {error.object[error.start]:#04x} ({error.reason})"
        raise PublishedError(f"{path}: line {line}: {wrong}; save it as UTF-8 and run again") from error
    rows: list[PublishedRow] = []
    refused: list[str] = []
    line_of: dict[tuple[str, str], int] = {}
    limit = csv.field_size_limit()
    csv.field_size_limit(max(limit, len(text)))  # of all readers of this process; a long text must not cost the list
    try:
        for line, values in _values(path, text):
            try:
                row = _row(line, values)
                first = line_of.setdefault((row.source, row.source_id), line)
                if first != line:
                    raise PublishedError(f"{row.source} {row.source_id} is already that of line {first}")
                rows.append(row)
            except PublishedError as error:
                refused.append(f"{path}: line {line}: {error}")
    finally:
        csv.field_size_limit(limit)
    return Published(tuple(rows), tuple(refused))


def hosts_of(source: str) -> tuple[str, ...]:
    """Return every host name that the links of a site use."""
    host = urlsplit(PAGES[source].HOME).hostname or ""
    return host, f"www.{host}"


def parse_tags(text: str) -> tuple[str, ...]:
    """Return the tags that a list's text tells, its blanks left out.

    An element that leaked into the list stands before the string that says the same, so such a pair is one tag.

    Raises:
        PublishedError: If the text is neither blank nor a list; the message names the place.
    """
    text = text.strip()
    if not text:
        return ()
    if not text.startswith("["):
        raise PublishedError(f"column 'tags': must be a list like ['wind', 'storm'], got {_short(text)}")
    tags: list[str] = []
    leaked = ""
    at = 1
    while not (end := _END.match(text, at)):
        item = _ITEM.match(text, at)
        if item is None:
            raise PublishedError(
                f"column 'tags': character {at + 1} of the list must begin a tag, got {_short(text[at:])}"
            )
        at = item.end()
        tag = fragment_text(item["element"]).strip() if item["element"] else _string(item["string"]).strip()
        if leaked and leaked != tag:
            tags.append(leaked)
        leaked = tag if item["element"] else ""
        if tag and not leaked:
            tags.append(tag)
    if end.end() != len(text):
        raise PublishedError(
            f"column 'tags': the list ends at character {end.end()}, then follows {_short(text[end.end() :])}"
        )
    return (*tags, leaked) if leaked else tuple(tags)


_ITEM = re.compile(
    r"""\s*(?:(?P<string>'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")|(?P<element><(?P<name>\w+)\b.*?</(?P=name)>))"""
    r"""\s*(?:,|(?=\]))""",
    re.S,
)
_END = re.compile(r"\s*\]")


def _values(path: Path, text: str) -> Iterator[tuple[int, dict[str, str] | str]]:
    """Yield the line and the fields of each row by column; in their place a message for a row of a wrong number."""
    # Not text.splitlines(): it would also cut at characters that are no line end in CSV.
    lines = re.findall(r"[^\r\n]*(?:\r\n?|\n)|[^\r\n]+$", text)
    _check_separator(path, "".join(lines[:1]))
    reader = csv.reader(lines, strict=True)
    begins = 1
    try:
        header = [name.strip() for name in next(reader, [])]
        for name in COLUMNS:
            if header.count(name) > 1:
                raise PublishedError(f"{path}: line 1: column {name!r} stands twice; leave one")
        if missing := [name for name in COLUMNS if name not in header]:
            found = f"the columns are {', '.join(header)[:200]}" if len(header) > 1 else f"it begins {_short(text)}"
            raise PublishedError(f"{path}: line 1: missing: {', '.join(missing)}; {found}; expected WavText5K.csv's")
        begins = reader.line_num + 1
        for fields in reader:
            if len(fields) == len(header):
                yield begins, dict(zip(header, fields, strict=True))
            elif fields:  # a blank line is no row
                yield begins, f"{len(fields)} fields, the header has {len(header)}; is a comma or a quote missing?"
            begins = reader.line_num + 1
    except csv.Error as error:
        raise PublishedError(
            f"{path}: line {begins}: the row that begins here is not CSV: {error}; "
            "mend its quotes, or fetch the file again if it broke off"
        ) from error


def _check_separator(path: Path, header: str) -> None:
    for separator, words in ((";", "';'"), ("\t", "tabs")):
        if set(COLUMNS) <= {name.strip(' "\r\n') for name in header.split(separator)}:
            raise PublishedError(f"{path}: line 1: separated by {words}, must be by commas; save it as CSV with commas")


def _row(line: int, values: dict[str, str] | str) -> PublishedRow:
    if isinstance(values, str):
        raise PublishedError(values)
    for column in COLUMNS:
        if "\0" in values[column]:
            raise PublishedError(f"column {column!r}: holds a zero byte: the file is damaged, fetch it again")
    page_url, audio_url = values["view_link"].strip(), values["download_link"].strip()
    source, source_id = _clip_of(page_url)
    try:
        urlsplit(audio_url)
    except ValueError as error:
        raise PublishedError(f"column 'download_link': {_short(audio_url)} is no address: {error}") from error
    if (named := _AUDIO_ID.search(audio_url)) and int(named[1] or named[2]) != int(source_id):
        raise PublishedError(f"column 'download_link': {audio_url} is not of clip {source_id}, as view_link is")
    return PublishedRow(
        line=line,
        source=source,
        source_id=source_id,
        page_url=page_url,
        audio_url=audio_url,
        title=values["title"].strip(),
        description=values["description"].strip(),
        tags=parse_tags(values["tags"]),
    )


_AUDIO_ID = re.compile(r"[?&]id=(\d{1,12})\b|/UPLOAD/[\w-]+/(\d{1,12})\.", re.I)


def _clip_of(page_url: str) -> tuple[str, str]:
    """Return the source and the id that a page's address names."""
    try:
        host = urlsplit(page_url).hostname
    except ValueError:  # http://[ is no address
        host = None
    for source, pages in PAGES.items():
        if host in hosts_of(source):
            if source_id := pages.id_of(page_url):
                return source, source_id
            raise PublishedError(f"column 'view_link': no id of a sound of {source} in {_short(page_url)}")
    known = ", ".join(urlsplit(pages.HOME).netloc for pages in PAGES.values())
    raise PublishedError(f"column 'view_link': {_short(page_url)} is of no known site; known are {known}")


def _string(literal: str) -> str:
    if "\\" not in literal:
        return literal[1:-1]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # "\d" is a mistake in a program, here it is two characters
            return str(ast.literal_eval(literal))
    except (ValueError, SyntaxError) as error:
        raise PublishedError(f"column 'tags': {_short(literal)} is no string: {error}") from error


def _short(text: str) -> str:
    return repr(text if len(text) <= 60 else f"{text[:60]}...")
