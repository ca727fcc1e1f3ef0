"""The page's own server around any ASGI app, in a thread, on a free port; and a client that says what it is told."""

from __future__ import annotations

import http.client
import io
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from starlette.types import ASGIApp

from retrieval.web.protocol import Patience
from retrieval.web.server import address_of, bind, make_server

STOP_S = 60.0


@contextmanager
def running_server(app: ASGIApp, *, patience: Patience | None = None) -> Iterator[str]:
    """Yield the address, such as http://127.0.0.1:40123, of a server that runs until the block ends."""
    listener = bind("127.0.0.1", 0)
    address = address_of(listener)
    ready = threading.Event()
    server = make_server(app, on_ready=ready.set, patience=patience)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        assert ready.wait(STOP_S), "the server did not start"
        yield address
    finally:
        server.should_exit = True
        thread.join(STOP_S)
        assert not thread.is_alive(), "the server did not stop"


@dataclass(frozen=True)
class Answer:
    """What came back: of headers the names are in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()


@contextmanager
def connected(address: str, *, timeout_s: float = STOP_S) -> Iterator[socket.socket]:
    """Yield a socket connected to an address."""
    host, _, port = address.removeprefix("http://").rpartition(":")
    with socket.create_connection((host, int(port)), timeout=timeout_s) as client:
        yield client


def read_answer(client: socket.socket, *, method: str = "GET") -> Answer:
    """Return the next answer on a socket; http.client.HTTPException where there is none."""
    response = http.client.HTTPResponse(client, method=method)
    try:
        response.begin()
        body = response.read()
    finally:
        response.close()
    return Answer(response.status, {name.lower(): value for name, value in response.getheaders()}, body)


def read_all(client: socket.socket) -> bytes:
    """Return all that comes until the other side ends or resets the connection."""
    found = io.BytesIO()
    try:
        while part := client.recv(2**16):
            found.write(part)
    except ConnectionError:
        pass
    return found.getvalue()


def ask(
    address: str,
    path: str = "/",
    *,
    method: str = "GET",
    headers: Mapping[str, str] | None = None,
    body: bytes | None = None,
) -> Answer:
    """Return the answer to a request on a connection of its own; Host and Content-Length unless given otherwise."""
    sent = {"Host": address.removeprefix("http://")}
    if body is not None:
        sent["Content-Length"] = str(len(body))
    sent |= headers or {}
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in sent.items() if value != "")]
    with connected(address) as client:
        client.sendall("\r\n".join([*lines, "", ""]).encode("latin-1") + (body or b""))
        return read_answer(client, method=method)


def form(*parts: tuple[str, str | None, bytes], boundary: str = "----a-boundary-of-some-length") -> tuple[str, bytes]:
    """Return Content-Type and body of a multipart form of (name, file name, content)."""
    pieces = []
    for name, filename, content in parts:
        file = "" if filename is None else f'; filename="{filename}"\r\nContent-Type: application/octet-stream'
        head = f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"{file}\r\n\r\n'
        pieces.append(head.encode() + content + b"\r\n")
    return f"multipart/form-data; boundary={boundary}", b"".join(pieces) + f"--{boundary}--\r\n".encode()
