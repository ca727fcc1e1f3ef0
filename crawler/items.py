"""The raw layout: what a crawl leaves on disk, and the only module of the crawler that others read.

``<raw>/<source>/records/<source_id>.json`` holds one CrawlRecord, written when the audio beside it
(``<raw>/<source>/audio/``) is whole. Standard library only, so that curation needs no Scrapy to read a crawl.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
import typing
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

try:
    import fcntl
except ModuleNotFoundError:  # Windows: there "one at a time in a folder" is the user's to keep
    fcntl = None  # type: ignore[assignment]

LICENSES = (
    "cc0-1.0",
    "public-domain",
    "cc-by-3.0",
    "cc-by-4.0",
    "cc-by-sa-3.0",
    "cc-by-nc-3.0",
    "cc-by-nc-4.0",
    "cc-sampling-plus-1.0",
    "remarc",
    "personal-use",
    "unknown",
)
"""Closed list: a licence that a page prints is mapped onto one of these, and kept as printed beside it."""

CRAWL_REPORT = "crawl_report.json"

_SOURCE = re.compile(r"[a-z0-9_]+")
_SOURCE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_CLIP_ID = re.compile(rf"{_SOURCE.pattern}-{_SOURCE_ID.pattern}")
_AUDIO_FILE = re.compile(r"audio/[A-Za-z0-9][A-Za-z0-9._-]{0,140}")


class RecordError(ValueError):
    """A record that breaks the raw layout; the message names the field."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class CrawlRecord:
    """One clip as the site gives it: text decoded and unescaped, ends stripped; a missing text is "", never None."""

    source: str
    """The site: ``[a-z0-9_]+``."""
    source_id: str
    """As in the site's address (BigSoundBank's with four digits at least); safe as a file name."""
    page_url: str
    audio_url: str
    """Where the audio was asked for, before redirects."""
    audio_file: str
    """Relative to ``<raw>/<source>``, "/" only: ``audio/<source_id>.<ext>``, extension from the content."""
    title: str
    description: str
    tags: tuple[str, ...]
    author: str
    license: str
    """One of LICENSES."""
    license_raw: str
    """As the page says it."""
    license_url: str
    extra: dict[str, Any] = dataclasses.field(default_factory=dict)
    """What the page also tells; ``extra["selectors"]`` says which selector gave each field."""
    sha256: str
    """Of the audio file, as served."""
    bytes: int
    content_type: str
    retrieved_at: str
    """UTC, ISO 8601, to the second."""

    def __post_init__(self) -> None:
        for field in _TEXT_FIELDS:
            if not isinstance(getattr(self, field), str):
                raise RecordError(f"{field} must be a string, got {getattr(self, field)!r}")
        if not _SOURCE.fullmatch(self.source):
            raise RecordError(f"source {self.source!r} must match {_SOURCE.pattern}")
        if not _SOURCE_ID.fullmatch(self.source_id):
            raise RecordError(f"source_id {self.source_id!r} must match {_SOURCE_ID.pattern}")
        if not (isinstance(self.tags, tuple) and all(isinstance(tag, str) for tag in self.tags)):
            raise RecordError(f"tags must be strings, got {self.tags!r}")
        if self.license not in LICENSES:
            raise RecordError(f"license {self.license!r} is not one of {', '.join(LICENSES)}")
        if not isinstance(self.bytes, int) or isinstance(self.bytes, bool) or self.bytes < 0:
            raise RecordError(f"bytes must be a whole number, 0 or more, got {self.bytes!r}")
        if not isinstance(self.extra, dict):
            raise RecordError(f"extra must be an object, got {self.extra!r}")
        if not _AUDIO_FILE.fullmatch(self.audio_file):
            raise RecordError(f"audio_file {self.audio_file!r} must be a file in audio/: {_AUDIO_FILE.pattern}")

    def to_json(self) -> str:
        """Return the record as the text of its file: sorted keys, UTF-8 kept, a line end at the end."""
        text = json.dumps(dataclasses.asdict(self), ensure_ascii=False, indent=1, sort_keys=True) + "\n"
        return text.encode("utf-8", "backslashreplace").decode()  # half of a surrogate pair has no UTF-8, but an escape

    @classmethod
    def from_json(cls, text: str, *, allow_unknown: bool = False) -> CrawlRecord:
        """Return the record that a file holds.

        Args:
            text: Of the file.
            allow_unknown: Leave out fields that this version does not know, for who only asks whether a clip is stored.

        Raises:
            RecordError: If the text is not JSON, or a field is missing, unknown or of the wrong type.
        """
        try:
            values = json.loads(text)
        except (ValueError, RecursionError) as error:  # also a number of 5,000 digits, and brackets without end
            raise RecordError(f"not JSON: {error}") from error
        if not isinstance(values, dict):
            raise RecordError(f"must be a JSON object, got {type(values).__name__}")
        names = {field.name for field in dataclasses.fields(cls)}
        if missing := sorted(names - values.keys()):
            raise RecordError(f"missing: {', '.join(missing)}")
        if (unknown := sorted(values.keys() - names)) and not allow_unknown:
            raise RecordError(f"unknown: {', '.join(unknown)}")
        values = {name: value for name, value in values.items() if name in names}
        if not isinstance(values["tags"], list):
            raise RecordError(f"tags must be a list, got {values['tags']!r}")
        return cls(**(values | {"tags": tuple(values["tags"])}))


_TEXT_FIELDS = tuple(name for name, kind in typing.get_type_hints(CrawlRecord).items() if kind is str)


def record_file(raw: Path, source: str, source_id: str) -> Path:
    """Return where the record of one clip lies under the raw folder."""
    return raw / source / "records" / f"{source_id}.json"


def read_opt_outs(file: Path) -> frozenset[str]:
    """Return the lines of an opt-out list: clip_ids (``soundbible-2083``) and addresses of pages or audio files.

    One a line; "#" begins a comment, at a line's beginning or after a space.

    Raises:
        OSError: If it cannot be read.
        RecordError: If it is not UTF-8 text, or a line is neither; names the file and the line.
    """
    try:
        text = file.read_text(encoding="utf-8-sig")  # a mark that Windows puts first is no part of a clip_id
    except UnicodeDecodeError as error:
        raise RecordError(
            f"{file}: not UTF-8 text ({error}); save it as UTF-8, one clip_id or address a line"
        ) from error
    found = set()
    for number, line in enumerate(text.splitlines(), start=1):
        name = re.sub(r"(?:^|\s)#.*", "", line).strip()
        if not name:
            continue
        if "://" not in name:
            source, hyphen, source_id = name.partition("-")
            name = source.lower() + hyphen + source_id
        if not (_CLIP_ID.fullmatch(name) or _is_address(name)):
            raise RecordError(
                f"{file}: line {number}: {line.strip()!r} is neither a clip_id, such as soundbible-2083, "
                "nor an address, such as https://soundbible.com/2083-Crickets.html"
            )
        found.add(name)
    return frozenset(found)


def _is_address(text: str) -> bool:
    try:
        return urlsplit(text).scheme in ("http", "https") and bool(urlsplit(text).hostname)
    except ValueError:  # http://[
        return False


def address_key(line: str) -> str:
    """Return what two spellings of an address have in common: http or https, with or without www.; else the line.

    >>> address_key("http://www.soundbible.com/2083-x.html") == address_key("https://soundbible.com/2083-x.html")
    True
    """
    return re.sub(r"^https?://(?:www\.)?", "//", line, flags=re.I)


def take_lock(path: Path) -> IO[bytes]:
    """Hold a lock until the returned file is closed or the process ends, however it ends: a kill leaves none behind.

    Args:
        path: The lock's file, in a folder that is there; it is made if it is missing, and stays.

    Returns:
        The open file. Where there are no such locks (Windows, some network disks) it is open, and holds nothing.

    Raises:
        BlockingIOError: If another process holds it.
        OSError: If the file cannot be opened.
    """
    file = path.open("ab")
    try:
        if fcntl is not None:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        raise
    except OSError:
        pass  # a file system that knows no locks
    return file


@contextmanager
def open_whole(path: Path, mode: str = "wb", *, sync: bool = True) -> Iterator[IO[Any]]:
    """Open a file that appears under its name only when it is whole.

    Bytes go to ``<name>.part`` beside it, are flushed to the disk, and the name is taken at the end of the block;
    if the block raises, or the process is killed, what stood under the name before still stands there.

    Args:
        path: The file. Its folder is made if it is missing.
        mode: "wb" or "w" (UTF-8, line ends as written).
        sync: False leaves the flushing to the system: after a power cut the file may be there, and be shorter. For
            many small files whose reader looks at their size, or sees that they are cut.

    Raises:
        OSError: As the file system says, with the file's name; the partial file is removed.
    """
    part = path.with_name(path.name + ".part")
    text = {} if "b" in mode else {"encoding": "utf-8", "newline": ""}
    if not path.parent.is_dir():
        path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with part.open(mode, **text) as file:  # type: ignore[call-overload]
            yield file
            file.flush()
            if sync:
                os.fsync(file.fileno())
        part.replace(path)
    except BaseException as error:
        with suppress(OSError):
            part.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno is not None and error.filename is None:
            error.filename = str(path)  # a full disk, said by write(), names no file by itself
        raise
