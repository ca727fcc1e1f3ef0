"""The connections of the page's server: none of them waits for ever, and none keeps others out.

uvicorn leaves slow clients to the proxy that it usually stands behind: a client that sends half a request, or does not
read its answer, is kept until it goes. Here every connection is looked at once a tick and closed when its client has
had its time; and where all places are taken, the client that keeps us waiting longest makes room for the next.

This overrides uvicorn's ``H11Protocol`` (0.54) and relies on these names and habits of it, which the tests go through:
``conn``, an h11 connection whose ``their_state`` tells what the client owes; ``cycle``, None until the first request,
with ``response_started``, ``response_complete``, ``disconnected`` and ``message_event``; ``flow.read_paused``, set
while the app does not take the body; ``connections``, all of the server's, kept by ``connection_made``
and ``connection_lost``; ``send_400_response``, called while h11's error is handled; and ``transport.close()``, which
ends a connection after its last answer.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import sys
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Literal, cast

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from retrieval.web.guard import STRICT_HEADERS

HEAD_BYTES = 128 * 2**10
"""Of a request's line and headers together, beyond which it gets no sentence of the Guard's, only a plain 431."""
_READ_BYTES = 2**15  # at once: a body in chunks of one byte takes 20 ms to parse, not asyncio's 256 KB and 190 ms
_AT_ONCE = struct.pack("ii", 1, 0)  # for SO_LINGER: wait 0 s, then reset
_REFUSED_TOO = 128  # connections beyond the limit that get to read why

Wait = Literal["idle", "head", "leaving", "answer", "body", "ours"]
_FIRST_TO_GO: tuple[Wait, ...] = ("idle", "head", "leaving", "answer", "body")


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long a client may take, and how many there may be."""

    head_s: float = 10.0
    """For a request's line and headers."""
    body_s: float = 75.0
    """For a request's body. What receives uploads gives up earlier, and says so better."""
    least_bytes_per_s: int = 4096
    """Of a body, on average, once it has taken ``head_s``."""
    answer_s: float = 30.0
    """Between two times that a client reads of an answer that waits for it: 48 KB at least, asyncio's two marks."""
    leave_s: float = 3.0
    """For a client that has its answer and still sends: cut off at once, it would not get to read it."""
    tick_s: float = 0.5
    idle_s: float = 10.0
    """From an answer to the next request."""
    connections: int = 512


class PatientProtocol(H11Protocol):
    """A connection whose client has so long, and no longer."""

    patience = Patience()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take a connection, if need be in the place of another."""
        self._raw = cast(asyncio.Transport, transport)
        cast(Any, transport).max_size = _READ_BYTES
        super().connection_made(self._raw)
        self.transport = cast(asyncio.Transport, _Parting(self._raw, self))
        self._num_bytes = self._num_reads = 0
        self._is_leaving = False
        self._key: tuple[object, ...] = ()
        self._look()
        self._timer = self.loop.call_later(self.patience.tick_s, self._tick)
        if len(self.connections) > self.patience.connections:
            self._make_room()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget a connection."""
        self._timer.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take what a client sends; nothing more of one that has its answer and is to go."""
        self._num_bytes += len(data)
        if not self._is_leaving:
            super().data_received(data)

    def resume_writing(self) -> None:
        """Go on with an answer of which the client has read some."""
        self._num_reads += 1
        super().resume_writing()

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP, or too much of it."""
        status = getattr(sys.exc_info()[1], "error_status_hint", 400)
        status = status if status < 500 else 400  # 501 for a coding that nobody uses: nothing is wrong with the server
        words = "The request's headers are too long" if status == 431 else "This is not HTTP as the server knows it"
        self._refuse(status, f"{words}.")

    def shutdown(self) -> None:
        """End the connection: once its answer is out if that is ours to give, else at once."""
        self._look()
        if self.wait == "ours":
            super().shutdown()
        else:
            self.transport.abort()

    def leave(self) -> bool:
        """Return whether a client that still sends is left some time to read its answer; then we only listen."""
        if self._is_leaving or self.conn.their_state is h11.SEND_BODY:
            self._is_leaving = True
            self.flow.resume_reading()
        return self._is_leaving

    def _tick(self) -> None:
        self._timer = self.loop.call_later(self.patience.tick_s, self._tick)
        if self._look() and not self._has_time():
            self._give_up()

    def _look(self) -> bool:
        """Find what we wait for; return whether it is the same as when last looked."""
        wait = self._wait()
        key = (wait, self.cycle, self._num_reads if wait == "answer" else 0)
        if key == self._key:
            return True
        self._key, self.wait = key, wait
        self.since, self._bytes_before = self.loop.time(), self._num_bytes
        return False

    def _wait(self) -> Wait:
        if self._is_leaving:
            return "leaving"
        if self.transport.get_write_buffer_size():
            return "answer"
        if self.conn.their_state is h11.IDLE:
            return "head" if self.cycle is None or self.conn.trailing_data[0] else "idle"
        if self.conn.their_state is h11.SEND_BODY:
            if self.cycle.response_complete:
                return "leaving"
            return "ours" if self.flow.read_paused else "body"
        return "ours"

    def _has_time(self) -> bool:
        taken_s, patience = self.loop.time() - self.since, self.patience
        if self.wait == "body" and taken_s > patience.head_s:
            size = self._num_bytes - self._bytes_before
            return taken_s <= patience.body_s and size >= taken_s * patience.least_bytes_per_s
        limits = {
            "idle": patience.idle_s,
            "head": patience.head_s,
            "leaving": patience.leave_s,
            "answer": patience.answer_s,
        }
        return taken_s <= limits.get(self.wait, taken_s)

    def _give_up(self) -> None:
        if self.wait == "body" or (self.wait == "head" and self._num_bytes):
            self._refuse(408, "The request took too long to arrive.")
        elif self.wait == "answer":
            self._drop()
        else:  # a browser's reserve that sent nothing yet would take an answer for that of a request to come
            self.transport.abort()

    def _drop(self) -> None:
        """End the connection and let go of what the kernel still holds for the client, at once."""
        self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
        self.transport.abort()

    def _refuse(self, status: int, sentence: str) -> None:
        """Answer in place of the app, and end the connection."""
        if self.conn.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            self._drop()
            return
        body = f"{sentence}\n".encode()
        headers = [*STRICT_HEADERS.items(), ("content-type", "text/plain; charset=utf-8")]
        headers += [("content-length", str(len(body))), ("connection", "close")]
        headers += [("retry-after", "2")] if status == 503 else []
        reason = HTTPStatus(status).phrase.encode()
        self._is_leaving = True
        for event in (
            h11.Response(status_code=status, headers=headers, reason=reason),
            h11.Data(data=body),
            h11.EndOfMessage(),
        ):
            self.transport.write(self.conn.send(event) or b"")
        if self.cycle is not None:  # an app that waits for the rest learns that there is none
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        self.transport.close()

    def _make_room(self) -> None:
        others = {each for each in self.connections if isinstance(each, PatientProtocol)} - {self}
        others = {each for each in others if not each._raw.is_closing()}
        if len(others) < self.patience.connections:
            return
        for each in others:
            each._look()
        waiting = [each for each in others if each.wait != "ours"]
        if waiting:
            min(waiting, key=lambda each: (_FIRST_TO_GO.index(each.wait), each.since))._drop()
        elif len(others) < self.patience.connections + _REFUSED_TOO:
            self._refuse(503, "Too many connections at once. Wait a few seconds and try again.")
        else:
            self._drop()


class _Parting:
    """A transport that, closed while the client still sends, ends our side only: its client can read the answer."""

    def __init__(self, transport: asyncio.Transport, protocol: PatientProtocol) -> None:
        self._transport, self._protocol = transport, protocol
        self._is_closed = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def is_closing(self) -> bool:
        return self._is_closed or self._transport.is_closing()

    def close(self) -> None:
        if self._is_closed:
            return
        self._is_closed = True
        if self._protocol.leave() and not self._transport.is_closing():
            self._transport.write_eof()
        else:
            self._transport.close()
