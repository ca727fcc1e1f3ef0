"""Receives an uploaded sound: a form's file, or a bare body for programs, onto the disk and through a decoder.

The form is read as it comes, by python-multipart's parser, straight into a temporary file without a name: memory
stays at a piece of the body. Starlette's own form reader bounds sizes as well, but decodes fields in any character set
that the client names, and with punycode that takes time by the square of their length.
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
import logging
import tempfile
import unicodedata
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, TypeVar

import numpy as np
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import ClientDisconnect, Request

from retrieval.web.decoding import Decoders, UploadLimits
from retrieval.web.errors import Refused
from retrieval.web.render import JOINERS

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

__all__ = ["Sound", "UploadLimits", "receive_sound"]

FIELD = "sound"
"""The field of a program's form that holds the file."""
PAGE_FIELD = "file"
"""And of the page's own form, which is also sent as an address, where "sound" is a token."""
MAX_PARTS = 200
"""The page sends its filters along."""
MAX_HEADER_BYTES = 4096
"""Of one header of one field; a file's name is in it."""
MAX_TEXT_BYTES = 64 * 2**10
"""Of all other fields together."""
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
LONGEST_NAME = 120
_LOOK_S = 0.2
"""Between two looks whether the client is still there."""
_logger = logging.getLogger(__name__)
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Sound:
    """An uploaded sound.

    Attributes:
        name: What the file was called, without folders and control characters; "" where it was not called anything.
        waveform: Mono, float32 (S,) in [-1, 1].
        sample_rate: Hz.
        sha256: Of the file's bytes.
    """

    name: str
    waveform: np.ndarray
    sample_rate: int
    sha256: str

    @property
    def duration_s(self) -> float:
        """Seconds."""
        return len(self.waveform) / self.sample_rate


async def receive_sound(request: Request, *, sample_rate: int, limits: UploadLimits) -> Sound:
    """Return the sound that a request brings, mono at a rate in Hz.

    Args:
        request: A multipart form with a file in the field "sound", or a body of type audio/* or
            application/octet-stream. What else is in the form is put into ``request.state.fields``, names and values,
            as it comes: there also where the sound is refused.

    Raises:
        Refused: If there is none in it, or it costs more than the limits allow; 507 where the disk is full,
            500 where it fails otherwise.
        ClientDisconnect: If the client goes away; its decoder is killed.
    """
    decoders = _decoders(request, limits)
    try:
        decoders.prepare()
        with tempfile.TemporaryFile(prefix="wavtext5k-") as file:
            upload = await _receive(request, file, limits)
            waveform = await _unless_gone(request, decoders.decode(file, sample_rate=sample_rate))
    except OSError as error:
        _logger.warning("an upload could not be stored: %s", error)
        if error.errno in _FULL:
            raise Refused(507, "The server has no room for this sound.") from error
        raise Refused(500, "The server could not store this sound; its log says why.") from error
    return Sound(
        name=_plain_name(upload.name),
        waveform=waveform,
        sample_rate=sample_rate,
        sha256=upload.hash.hexdigest(),
    )


async def _receive(request: Request, file: IO[bytes], limits: UploadLimits) -> _Upload:
    content_type = request.headers.get("content-type", "")
    kind = content_type.partition(";")[0].strip().lower()
    upload = _Upload(file, limits.max_bytes)
    if kind == "multipart/form-data":
        request.state.fields = []
        body: _Form | _Upload = _Form(content_type, upload, request.state.fields)
    elif kind.startswith("audio/") or kind == "application/octet-stream":
        body = upload
    else:
        raise Refused(415, f'Send the sound as a form (multipart/form-data) with a file in the field "{FIELD}".')
    try:
        async with asyncio.timeout(limits.receive_timeout_s):
            async for piece in request.stream():
                await asyncio.to_thread(body.feed, piece)
    except TimeoutError as error:
        raise Refused(408, f"The upload took more than {limits.receive_timeout_s:g} s. Send a smaller file.") from error
    body.finish()
    await asyncio.to_thread(file.flush)
    return upload


async def _unless_gone(request: Request, work: Coroutine[None, None, T]) -> T:
    """Return what work returns, and cancel it when the client goes away meanwhile."""
    task = asyncio.create_task(work)
    try:
        while not (await asyncio.wait({task}, timeout=_LOOK_S))[0]:
            if await request.is_disconnected():
                raise ClientDisconnect
        return task.result()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def _decoders(request: Request, limits: UploadLimits) -> Decoders:
    """Return the app's decoders, made when they are first wanted."""
    state = request.app.state
    if not hasattr(state, "decoders") or state.decoders.limits != limits:
        state.decoders = Decoders(limits)
    decoders: Decoders = state.decoders
    return decoders


class _Upload:
    """The file as it arrives, and what came with it; also a body that is nothing but the file."""

    def __init__(self, file: IO[bytes], max_bytes: int) -> None:
        self._file, self._max_bytes = file, max_bytes
        self.num_bytes = 0
        self.hash = hashlib.sha256()
        self.name = ""

    def feed(self, piece: bytes) -> None:
        """Take the next bytes of the file."""
        self.num_bytes += len(piece)
        if self.num_bytes > self._max_bytes:
            most = f"{self._max_bytes / 2**20:.0f} MB"
            raise Refused(413, f"The file is too large: at most {most}. Cut out the part that matters.")
        self.hash.update(piece)
        self._file.write(piece)

    def finish(self) -> None:
        """Check that something came."""
        if self.num_bytes == 0:
            raise Refused(400, "The file is empty." if self.name else "No file was chosen.")


class _Form:
    """A multipart form as it arrives; its fields that are no file go into a list."""

    def __init__(self, content_type: str, upload: _Upload, fields: list[tuple[str, str]]) -> None:
        boundary = parse_options_header(content_type)[1].get(b"boundary", b"")
        if not 1 <= len(boundary) <= 70:  # RFC 2046
            raise Refused(400, "The form is broken: its Content-Type names no boundary.")
        callbacks: MultipartCallbacks = {
            "on_part_begin": self._begin,
            "on_header_field": self._header_name,
            "on_header_value": self._header_value,
            "on_header_end": self._header_end,
            "on_headers_finished": self._begin_content,
            "on_part_data": self._content,
            "on_part_end": self._end_part,
            "on_end": self._end_form,
        }
        self._parser = MultipartParser(boundary, callbacks)
        self._upload, self._fields = upload, fields
        self._is_whole = self._has_file = False
        self._num_parts = self._num_text_bytes = 0

    def feed(self, piece: bytes) -> None:
        """Take the next bytes of the form."""
        try:
            self._parser.write(piece)
        except FormParserError as error:
            raise Refused(400, "The form is broken: it is not multipart/form-data as it says.") from error

    def finish(self) -> None:
        """Check that the form is whole and a file was in it."""
        if not self._is_whole:
            raise Refused(400, "The form is broken: it ends before its end.")
        if not self._has_file:
            raise Refused(400, f'The form has no file in its field "{FIELD}".')
        self._upload.finish()

    def _begin(self) -> None:
        self._num_parts += 1
        if self._num_parts > MAX_PARTS:
            raise Refused(400, f"The form has more than {MAX_PARTS} fields.")
        self._header, self._value, self._disposition, self._text = b"", b"", b"", bytearray()

    def _header_name(self, data: bytes, start: int, end: int) -> None:
        self._header = _joined(self._header, data[start:end])

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value = _joined(self._value, data[start:end])

    def _header_end(self) -> None:
        if self._header.lower() == b"content-disposition":
            self._disposition = self._value
        self._header = self._value = b""

    def _begin_content(self) -> None:
        options = parse_options_header(self._disposition)[1]
        self._name = options.get(b"name", b"").decode("utf-8", errors="replace")
        self._is_file = self._name in (FIELD, PAGE_FIELD) and b"filename" in options
        if self._is_file:
            if self._has_file:
                raise Refused(400, "The form has more than one file; search with one sound at a time.")
            self._has_file = True
            self._upload.name = options.get(b"filename", b"").decode("utf-8", errors="replace")

    def _content(self, data: bytes, start: int, end: int) -> None:
        if self._is_file:
            self._upload.feed(data[start:end])
            return
        self._text += data[start:end]
        self._num_text_bytes += end - start
        if self._num_text_bytes > MAX_TEXT_BYTES:
            raise Refused(400, f'The form holds too much besides the file in its field "{FIELD}".')

    def _end_part(self) -> None:
        if not self._is_file:
            self._fields.append((self._name, self._text.decode("utf-8", errors="replace")))

    def _end_form(self) -> None:
        self._is_whole = True


def _joined(header: bytes, more: bytes) -> bytes:
    if len(header) + len(more) > MAX_HEADER_BYTES:
        raise Refused(400, "The form is broken: a field's header is too long.")
    return header + more


def _plain_name(name: str) -> str:
    """Return a file's name as it can be shown: no folders (some programs send them), nothing invisible."""
    name = name.replace("\\", "/").rpartition("/")[2]
    seen = (sign for sign in name if unicodedata.category(sign)[0] != "C" or sign in JOINERS)
    return "".join(seen).strip()[:LONGEST_NAME]
