"""Answers with a clip's FLAC, whole or in ranges, and with its thumbnail.

A clip is named by its key alone: what the disk calls it, and that it lies inside its manifest's folder, is the index's
to say. Thumbnails are drawn when they are first asked for, two at a time, and the latest ones are kept.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import stat
import unicodedata
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from email.utils import formatdate, parsedate_to_datetime
from pathlib import Path
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.types import Receive, Scope, Send

from curation.errors import AudioError
from retrieval.index import Clip, Index
from retrieval.web.errors import Refused
from retrieval.web.render import JOINERS
from retrieval.web.thumbnails import THUMBNAIL_VERSION, draw_thumbnail

KEPT_BYTES = 32 * 2**20
"""Of thumbnails: 1,500 or more."""
DRAWN_AT_ONCE = 2
LONGEST_NAME = 80
"""Characters of a title or an id in a file's name."""
LONGEST_FILE_NAME = 255
"""Bytes, as most file systems have it."""
_KEEP = {"cache-control": "private, max-age=600"}
_RANGES = re.compile(
    r"\s*bytes\s*=\s*(\d{1,18}-\d{0,18}|-\d{1,18})(\s*,\s*(\d{1,18}-\d{0,18}|-\d{1,18})){0,15}\s*",
    re.ASCII | re.IGNORECASE,
)
_KEPT = f" {JOINERS}"
_RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)


async def audio_response(index: Index, key: str, request: Request) -> Response:
    """Return a clip's FLAC, or the range of it that is asked for; to be saved under its name where "download" is 1.

    Raises:
        Refused: If the index has no such clip, or its file is gone.
    """
    row, path, status = await asyncio.to_thread(_find, index, key)
    headers = dict(_KEEP)
    if request.query_params.get("download") == "1":
        [clip] = await asyncio.to_thread(index.clips, [row])
        headers["content-disposition"] = content_disposition(download_name(clip))
    response = _Audio(path, headers=headers, media_type="audio/flac", stat_result=status)
    if _is_known(request, response.headers["etag"], status):
        return _not_modified(response)
    return response


async def thumbnail_response(index: Index, key: str, request: Request) -> Response:
    """Return a clip's waveform and spectrogram: a PNG.

    Raises:
        Refused: If the index has no such clip, its file is gone, or is no longer a sound.
    """
    _, path, status = await asyncio.to_thread(_find, index, key)
    content = f"{THUMBNAIL_VERSION} {path} {status.st_mtime_ns} {status.st_size}"
    etag = f'"{hashlib.sha256(content.encode(errors="surrogateescape")).hexdigest()[:32]}"'
    headers = {**_KEEP, "etag": etag, "last-modified": formatdate(status.st_mtime, usegmt=True)}
    response = Response(headers=headers, media_type="image/png")
    if _is_known(request, etag, status):
        return _not_modified(response)
    try:
        image = await _thumbnails(request).get(etag, path)
    except AudioError as error:
        raise Refused(404, "The audio of this clip cannot be read.") from error
    return Response(image, headers=headers, media_type="image/png")


def download_name(clip: Clip) -> str:
    """Return what a clip's file is called where it is saved: title and id, safe on every system, at most 255 bytes."""
    rest = f" ({_safe(clip.clip_id, LONGEST_FILE_NAME // 2)}).flac"
    return _safe(clip.name, LONGEST_FILE_NAME - len(rest.encode())) + rest


def content_disposition(name: str) -> str:
    """Return the header that saves an answer under a name (RFC 6266): in ASCII, then, for all who can, as it is."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    plain = re.sub(r"[^A-Za-z0-9 ._()-]", "_", plain)
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"


class Thumbnails:
    """The latest thumbnails, and the threads that draw more."""

    def __init__(self, *, kept_bytes: int = KEPT_BYTES) -> None:
        self._kept_bytes = kept_bytes
        self._num_bytes = 0
        self._images: OrderedDict[str, bytes] = OrderedDict()
        self._threads = ThreadPoolExecutor(DRAWN_AT_ONCE, thread_name_prefix="thumbnail")

    async def get(self, etag: str, path: Path) -> bytes:
        """Return the thumbnail of a file, under a name that changes with the file."""
        image = self._images.pop(etag, None)
        if image is None:
            image = await asyncio.get_running_loop().run_in_executor(self._threads, draw_thumbnail, path)
            self._num_bytes += len(image) - len(self._images.pop(etag, b""))
        self._images[etag] = image
        while self._num_bytes > self._kept_bytes:
            self._num_bytes -= len(self._images.popitem(last=False)[1])
        return image


class _Audio(FileResponse):
    """A file's answer that ignores a Range which is none (RFC 9110, 14.2); Starlette's own takes offence."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        ranges = [value.decode("latin-1") for name, value in scope["headers"] if name == b"range"]
        if len(ranges) > 1 or not all(map(_is_range, ranges)):
            scope = {**scope, "headers": [pair for pair in scope["headers"] if pair[0] != b"range"]}
        await super().__call__(scope, receive, send)


def _is_range(value: str) -> bool:
    if not _RANGES.fullmatch(value):
        return False
    return all(int(first) <= int(last) for first, last in re.findall(r"(\d+)-(\d+)", value))


def _find(index: Index, key: str) -> tuple[int, Path, os.stat_result]:
    row = index.row(key)
    if row is None:
        raise Refused(404, "There is no such clip in this index.")
    path = index.audio_file(row)
    try:
        status = None if path is None else path.stat()
    except OSError:
        status = None
    if path is None or status is None or not stat.S_ISREG(status.st_mode):
        raise Refused(404, "The audio of this clip can no longer be read: it has been moved or removed.")
    return row, path, status


def _thumbnails(request: Request) -> Thumbnails:
    """Return the app's thumbnails, made when they are first wanted."""
    state = request.app.state
    if not hasattr(state, "thumbnails"):
        state.thumbnails = Thumbnails()
    thumbnails: Thumbnails = state.thumbnails
    return thumbnails


def _is_known(request: Request, etag: str, status: os.stat_result) -> bool:
    """Return whether the client has what it asks for (RFC 9110, 13.2.2)."""
    if (known := request.headers.get("if-none-match")) is not None:
        return known.strip() == "*" or etag in {each.strip().removeprefix("W/") for each in known.split(",")}
    try:
        since = parsedate_to_datetime(request.headers.get("if-modified-since", ""))
        return int(status.st_mtime) <= since.timestamp()
    except (ValueError, OverflowError, OSError):
        return False


def _not_modified(response: Response) -> Response:
    kept = ("etag", "last-modified", "cache-control")
    return Response(status_code=304, headers={name: response.headers[name] for name in kept})


def _safe(name: str, most_bytes: int) -> str:
    """Return a text as part of a file name: no sign that a system forbids, none invisible, not too long.

    Joiners stay between others, as ``curation.text`` keeps them.
    """
    name = "".join("_" if sign in '/\\:*?"<>|' else sign for sign in unicodedata.normalize("NFC", name))
    name = "".join(sign for sign in name if unicodedata.category(sign)[0] not in "CZ" or sign in _KEPT)
    name = name.strip(_KEPT + ".")[:LONGEST_NAME]
    name = name.encode()[: most_bytes - 1].decode(errors="ignore")  # one byte less, for an underscore before it
    name = name.strip(_KEPT + ".") or "sound"
    return f"_{name}" if _RESERVED.fullmatch(name) else name
