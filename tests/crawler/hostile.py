"""A site that misbehaves on purpose: every path answers as told, below the level at which a catalogue could say it."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass(frozen=True)
class Reply:
    """What a path answers with; ``length`` is what Content-Length claims, the body's own length by default."""

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    length: int | None = None
    hang_up: bool = False
    """Close the connection without an answer."""


class HostileSite:
    """A running site."""

    def __init__(self, base_url: str, requests: list[str]) -> None:
        self.base_url = base_url
        self.requests = requests


@contextmanager
def serve_replies(replies: Mapping[str, Reply]) -> Iterator[HostileSite]:
    """Serve the replies by path (query included) until the block ends; any other path is a 404."""
    requests: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            requests.append(self.path)
            reply = replies.get(self.path, Reply(404, b"gone"))
            self.close_connection = True
            if reply.hang_up:
                return
            self.send_response(reply.status)
            headers = {"Content-Type": "text/html; charset=utf-8", "Connection": "close", **reply.headers}
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(reply.body) if reply.length is None else reply.length))
            self.end_headers()
            self.wfile.write(reply.body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        yield HostileSite(f"http://127.0.0.1:{server.server_address[1]}", requests)
        server.shutdown()
        thread.join()
