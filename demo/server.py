"""The HTTP side of the stand-in site: answers go out over kept-alive connections, with validators.

Reads the files that answers name; writes nothing. A page has an ETag, a file an ETag and a Last-Modified, and whoever
sends them back gets 304 while nothing has changed. ETags come from the bytes sent, so that a page which reads the same
counts as the same, whatever was done to the catalogue.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import shutil
import socket
import sys
import threading
from collections.abc import Mapping
from email.message import Message
from email.utils import formatdate, mktime_tz, parsedate_tz
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Protocol

from curation.errors import WavTextError
from demo.pages.answers import Answer

RETRY_AFTER_S = 1
"""What a busy clip's 503 asks the crawler to wait."""


class SiteError(WavTextError):
    """The site cannot listen; the message says where and what to do."""


class Respondent(Protocol):
    """What a server serves."""

    requests: list[tuple[str, str, int]]

    def answer(self, method: str, target: str) -> Answer:
        """Return the answer to a request; the target is its path and query as sent."""


def listen(site: Respondent, address: tuple[str, int], *, verbose: bool = False) -> Server:
    """Return a server that listens but does not serve yet.

    Raises:
        SiteError: If the port cannot be had.
    """

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        server_version = "stand-in"
        disable_nagle_algorithm = True
        wbufsize = 1 << 16
        timeout = 60

        def do_GET(self) -> None:
            self._send(site.answer(self.command, self.path))

        do_HEAD = do_GET  # noqa: N815

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            self._send(site.answer(self.command, self.path))

        def _send(self, answer: Answer) -> None:
            length = len(answer.body) if isinstance(answer.body, bytes) else answer.body.stat().st_size
            validators = _validators(answer.body) if answer.status == 200 and self.command != "POST" else {}
            is_unchanged = _is_unchanged(self.headers, validators)
            status = 304 if is_unchanged else answer.status
            site.requests.append((self.command, self.path, status))
            self.send_response(status)
            for name, value in (*answer.headers, *validators.items()):
                self.send_header(name, value)
            if is_unchanged:
                self.end_headers()
                return
            self.send_header("Content-Type", answer.content_type)
            self.send_header("Content-Length", str(length))
            if answer.location:
                self.send_header("Location", answer.location)
            if status == 503:
                self.send_header("Retry-After", str(RETRY_AFTER_S))
            self.end_headers()
            if self.command == "HEAD":
                return
            if isinstance(answer.body, bytes):
                self.wfile.write(answer.body)
            else:
                with answer.body.open("rb") as opened:
                    shutil.copyfileobj(opened, self.wfile, 1 << 18)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            if verbose:
                super().log_message(format, *args)

    host, port = address
    try:
        return Server(address, Handler)
    except OSError as error:
        reason = error.strerror or str(error)
        of_port = error.errno in (errno.EADDRINUSE, errno.EACCES)
        advice = "name another port with --port, or take a free one with --port 0" if of_port else "name another --host"
        raise SiteError(f"cannot listen on port {port} of {host}: {reason}; {advice}") from error


def _validators(body: bytes | Path) -> dict[str, str]:
    """Return the headers by which a later request can ask whether an answer has changed."""
    if isinstance(body, bytes):
        return {"ETag": f'"{hashlib.sha1(body, usedforsecurity=False).hexdigest()[:16]}"'}
    file = body.stat()
    return {
        "ETag": f'"{file.st_mtime_ns:x}-{file.st_size:x}"',
        "Last-Modified": formatdate(file.st_mtime, usegmt=True),
    }


def _is_unchanged(asked: Message, validators: Mapping[str, str]) -> bool:
    """Return whether a request has what these validators stand for; an ETag counts before a date (RFC 9110, 13.2.2)."""
    if not validators:
        return False
    if (known := asked.get("If-None-Match")) is not None:
        tags = {tag.strip().removeprefix("W/") for tag in known.split(",")}
        return "*" in tags or validators["ETag"] in tags
    since, modified = (
        parsedate_tz(text or "") for text in (asked.get("If-Modified-Since"), validators.get("Last-Modified"))
    )
    return since is not None and modified is not None and mktime_tz(modified) <= mktime_tz(since)


class Server(ThreadingHTTPServer):
    """An HTTP server whose connections end with it: a kept-alive one would else hold its thread and socket."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        self._open: set[socket.socket] = set()
        self._closed = threading.Condition()
        super().__init__(address, handler)

    def server_bind(self) -> None:
        """Bind without asking for the host's name, which can take seconds where there is no name server."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])

    def process_request(self, request: socket.socket, client_address: tuple[str, int]) -> None:  # type: ignore[override]
        with self._closed:
            self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: socket.socket) -> None:  # type: ignore[override]
        super().shutdown_request(request)
        with self._closed:
            self._open.discard(request)
            self._closed.notify_all()

    def server_close(self) -> None:
        super().server_close()
        with self._closed:
            for connection in self._open:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
            self._closed.wait_for(lambda: not self._open, timeout=5)

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing of a client that went away; show anything else, which is a bug."""
        if not isinstance(sys.exception(), (ConnectionError, TimeoutError)):
            super().handle_error(request, client_address)  # type: ignore[arg-type]
