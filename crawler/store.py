"""Stores a clip whole or not at all: its audio, then its record. No Scrapy: the spiders and the replay share it.

Writes ``<raw>/<source>/audio/<id>.<ext>`` and then ``records/<id>.json``; a record on disk therefore means that its
audio is whole.
"""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

from crawler.items import CrawlRecord, RecordError, open_whole, record_file, take_lock
from crawler.licenses import LICENSE_URLS, license_of
from crawler.pages.fields import AudioLink, PageFields
from crawler.rejections import RejectionError

EXTENSIONS = ("wav", "flac", "ogg", "mp3", "aac", "aiff", "m4a", "caf", "wma")
"""Of the audio files that crawler.sniffing knows."""

NEXT_STEP = "mend that and run the same command again"


def is_full(error: OSError) -> bool:
    """Return whether a disk, or what a user may have of it, is full."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def words_of(error: OSError) -> str:
    """Return what the file system says, for a message."""
    if is_full(error):
        return "no space left on the disk"
    name = f" ({Path(os.fsdecode(error.filename)).name})" if isinstance(error.filename, str | bytes | Path) else ""
    return (error.strerror or str(error)) + name


class BusyFolderError(Exception):
    """Another crawl or replay is at work in a folder."""


def claim_folder(folder: Path) -> IO[bytes]:
    """Make a site's folder if need be, hold its lock, and remove what a killed run left half-written.

    Args:
        folder: ``<raw>/<source>``.

    Returns:
        The lock: close it to end it.

    Raises:
        BusyFolderError: If another run holds it; the message says what to do.
        OSError: If nothing can be written there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        lock = take_lock(folder / ".lock")  # a second run would remove what the first is writing
    except BlockingIOError as error:
        raise BusyFolderError(f"another crawl is at work in {folder}; wait for it to end") from error
    for place in (".", "records", "audio", "site"):  # where runs write, and nobody else's files
        for part in (folder / place).glob("*.part"):
            if part.is_file():
                part.unlink(missing_ok=True)
    return lock


def record_of(
    source: str,
    fields: PageFields,
    link: AudioLink,
    *,
    body: bytes,
    extension: str,
    content_type: str,
    rejected: Sequence[tuple[AudioLink, RejectionError]] = (),
) -> CrawlRecord:
    """Return the record of a clip whose audio has come.

    Args:
        source: The site.
        fields: What the clip's page tells.
        link: Where the audio came from, in its public form.
        body: The audio, as served.
        extension: Of the audio, from its content.
        content_type: As the server says.
        rejected: The better addresses that gave no audio, in their public form, with the reasons.
    """
    name = license_of(fields.license_raw)
    extra = {**fields.extra, "selectors": {**fields.selectors, "audio": link.selector}}
    if rejected:
        extra["audio_not_used"] = {other.url: str(why.reason) for other, why in rejected}
    return CrawlRecord(
        source=source,
        source_id=fields.source_id,
        page_url=fields.page_url,
        audio_url=link.url,
        audio_file=f"audio/{fields.source_id}.{extension}",
        title=fields.title,
        description=fields.description,
        tags=fields.tags,
        author=fields.author,
        license=name,
        license_raw=fields.license_raw,
        license_url=fields.license_url or LICENSE_URLS.get(name, ""),
        extra=extra,
        sha256=hashlib.sha256(body).hexdigest(),
        bytes=len(body),
        content_type=content_type,
        retrieved_at=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def write_clip(raw: Path, record: CrawlRecord, body: bytes) -> None:
    """Write the audio, then the record; audio that an earlier crawl had of the clip in another format is removed.

    Raises:
        OSError: If one of them cannot be written; neither is there then.
    """
    audio = raw / record.source / record.audio_file
    with open_whole(audio) as file:
        file.write(body)
    try:
        with open_whole(record_file(raw, record.source, record.source_id), "w") as file:
            file.write(record.to_json())
    except Exception:
        audio.unlink(missing_ok=True)
        raise
    for extension in EXTENSIONS:
        other = audio.with_name(f"{record.source_id}.{extension}")
        if other != audio:
            other.unlink(missing_ok=True)


def stored_record(raw: Path, source: str, source_id: str, *, verify: bool = False) -> CrawlRecord | None:
    """Return a clip's record if it is whole and its audio has the size that it tells; None otherwise.

    Args:
        raw: The folder of all sources.
        source: The site.
        source_id: The clip.
        verify: Read the audio too, and compare its SHA-256.
    """
    try:
        text = record_file(raw, source, source_id).read_text(encoding="utf-8")
        record = CrawlRecord.from_json(text, allow_unknown=True)  # a newer version's is not asked and written again
        if (record.source, record.source_id) != (source, source_id):
            return None
        audio = raw / source / record.audio_file
        if audio.stat().st_size != record.bytes:
            return None
        if verify:
            with audio.open("rb") as file:
                if hashlib.file_digest(file, "sha256").hexdigest() != record.sha256:
                    return None
    except (OSError, RecordError, UnicodeDecodeError):
        return None
    return record
