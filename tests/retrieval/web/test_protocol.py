"""Clients that are slow, silent, many or mad: their connections end, and others are answered meanwhile."""

from __future__ import annotations

import http.client
import socket
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack

import pytest
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from retrieval.web.guard import STRICT_HEADERS
from retrieval.web.protocol import HEAD_BYTES, Patience
from tests.support.webserver import ask, connected, read_all, read_answer, running_server

HASTE = Patience(head_s=0.6, body_s=1.5, answer_s=0.8, leave_s=0.8, idle_s=0.8, tick_s=0.05, connections=40)
POST = b"POST /body HTTP/1.1\r\nHost: localhost\r\n"


class App:
    """An app that keeps a diary."""

    def __init__(self) -> None:
        self.gone = threading.Event()
        self.free = threading.Event()
        self.stopped = threading.Event()
        self.app = Starlette(
            routes=[
                Route("/", self.hello),
                Route("/body", self.body, methods=["POST"]),
                Route("/unread", self.hello, methods=["POST"]),
                Route("/long", self.long),
                Route("/busy", self.busy),
            ]
        )

    async def hello(self, request: Request) -> Response:
        return PlainTextResponse("hello")

    async def body(self, request: Request) -> Response:
        try:
            return PlainTextResponse(str(len(await request.body())))
        except ClientDisconnect:
            self.gone.set()
            return Response()

    async def long(self, request: Request) -> Response:
        async def pieces() -> AsyncIterator[bytes]:
            try:
                for _ in range(512):
                    yield bytes(2**14)
            finally:
                self.stopped.set()

        return StreamingResponse(pieces())

    def busy(self, request: Request) -> Response:
        self.free.wait(60)
        return PlainTextResponse("done")


@pytest.fixture
def diary() -> App:
    return App()


@pytest.fixture
def address(diary: App) -> Iterator[str]:
    with running_server(diary.app, patience=HASTE) as address:
        yield address


def test_a_silent_connection_is_closed_without_an_answer(address: str) -> None:
    with connected(address) as client:
        assert read_all(client) == b""


@pytest.mark.parametrize("part", [b"G", b"GET / HTTP/1.1\r\nHost: localhost\r\n", b"GET / HTTP/1.1\r\nHost: loc"])
def test_half_a_head_is_told_that_it_took_too_long(address: str, part: bytes) -> None:
    with connected(address) as client:
        client.sendall(part)
        answer = read_answer(client)
    assert (answer.status, answer.text) == (408, "The request took too long to arrive.\n")
    assert answer.headers.items() >= STRICT_HEADERS.items()


def test_a_head_that_comes_byte_by_byte_gets_no_more_time(address: str) -> None:
    with connected(address) as client:
        found = dribble(client, b"X-Filler: " + b"a" * 10_000, start=b"GET / HTTP/1.1\r\nHost: localhost\r\n")
    assert found.startswith(b"HTTP/1.1 408 ")


def test_a_second_half_request_on_a_connection_is_ended_too(address: str) -> None:
    with connected(address) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert read_answer(client).text == "hello"
        assert dribble(client, b"X-Filler: " + b"a" * 10_000, start=b"GET / HT").startswith(b"HTTP/1.1 408 ")


def test_a_body_that_trickles_is_ended_and_the_app_told(address: str, diary: App) -> None:
    with connected(address) as client:
        found = dribble(client, b"a" * 10_000, start=POST + b"Content-Length: 1000000\r\n\r\n")
    assert found.startswith(b"HTTP/1.1 408 ")
    assert diary.gone.wait(30)


def test_a_body_has_a_last_moment_however_fast_it_comes(address: str, diary: App) -> None:
    with connected(address) as client:
        start = POST + b"Content-Length: 1000000000000\r\n\r\n"
        found = dribble(client, b"a" * 1000, start=start, piece=bytes(2**14))
    assert found.startswith(b"HTTP/1.1 408 ")
    assert diary.gone.wait(30)


def test_a_body_at_a_fair_pace_is_taken(diary: App) -> None:
    patience = Patience(head_s=0.3, body_s=60, least_bytes_per_s=1000, tick_s=0.05)
    with running_server(diary.app, patience=patience) as address, connected(address) as client:
        client.sendall(POST + b"Content-Length: 150000\r\n\r\n")
        for _ in range(15):
            client.sendall(bytes(10_000))
            time.sleep(0.05)
        assert read_answer(client).text == "150000"


def test_who_does_not_read_is_dropped_and_the_app_told(address: str, diary: App) -> None:
    with connected(address) as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.sendall(b"GET /long HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert diary.stopped.wait(30)
        assert len(read_all(client)) < 2**20


def test_who_reads_slowly_gets_everything(address: str) -> None:
    with connected(address) as client:
        client.sendall(b"GET /long HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        size = 0
        while part := client.recv(2**17):
            size += len(part)
            time.sleep(0.01)
    assert size > 2**23


def test_an_idle_connection_is_closed(address: str) -> None:
    with connected(address) as client:
        for _ in range(3):
            client.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert read_answer(client).text == "hello"
        assert read_all(client) == b""


@pytest.mark.parametrize("more", [b"", b"Connection: close\r\n"])
def test_an_answer_is_read_by_who_is_still_sending(diary: App, more: bytes) -> None:
    with running_server(diary.app, patience=Patience(leave_s=60)) as address, connected(address) as client:
        client.sendall(b"POST /unread HTTP/1.1\r\nHost: localhost\r\nContent-Length: 20000000\r\n" + more + b"\r\n")
        client.sendall(bytes(20_000_000))
        assert read_answer(client).text == "hello"


@pytest.mark.parametrize("more", [b"", b"Connection: close\r\n"])
def test_who_goes_on_sending_after_the_answer_is_cut_off(address: str, more: bytes) -> None:
    with connected(address) as client:
        start = b"POST /unread HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000000000\r\n" + more + b"\r\n"
        assert dribble(client, b"a" * 10_000, start=start).endswith(b"hello")


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"\x00\x01\x02\r\n\r\n", 400),
        (b"\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET /\xff HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n", 400),
        (POST + b"Content-Length: -1\r\n\r\n", 400),
        (POST + b"Content-Length: 1e3\r\n\r\n", 400),
        (POST + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n", 400),
        (POST + b"Content-Length: " + b"9" * 30 + b"\r\n\r\n", 400),
        (POST + b"Transfer-Encoding: gzip\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Filler: " + b"a" * (HEAD_BYTES + 2**17), 431),
    ],
)
def test_what_is_no_http_gets_a_plain_answer(address: str, request_: bytes, status: int) -> None:
    with connected(address) as client:
        client.sendall(request_)
        answer = read_answer(client)
    assert answer.status == status
    assert answer.headers.items() >= STRICT_HEADERS.items()
    assert "server" not in answer.headers
    assert ask(address).text == "hello"


def test_a_body_that_breaks_off_its_framing_ends_the_wait_for_it(address: str, diary: App) -> None:
    with connected(address) as client:
        client.sendall(POST + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nno size\r\n")
        assert read_answer(client).status == 400
    assert diary.gone.wait(30)


def test_chunks_of_one_byte_and_requests_in_one_piece_are_taken(address: str) -> None:
    with connected(address) as client:
        client.sendall(POST + b"Transfer-Encoding: chunked\r\n\r\n" + b"1\r\na\r\n" * 50_000 + b"0\r\n\r\n")
        assert read_answer(client).text == "50000"
        client.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n" * 20)
        assert read_all(client).count(b"hello") == 20


@pytest.mark.parametrize("count", [60, pytest.param(400, marks=pytest.mark.long)])
def test_slow_heads_keep_nobody_out(diary: App, count: int) -> None:
    """More of them than there are places: the one that has waited longest makes room."""
    patience = Patience(connections=count * 2 // 3)
    with running_server(diary.app, patience=patience) as address, ExitStack() as stack:
        clients = []
        for _ in range(count):
            clients.append(stack.enter_context(connected(address)))
            clients[-1].sendall(b"GET / HTTP/1.1\r\nHost: loc")
            assert ask(address).text == "hello"
        assert sum(is_open(client) for client in clients) <= count * 2 // 3


def test_two_hundred_slow_heads_within_the_usual_limit_are_borne(diary: App) -> None:
    with running_server(diary.app) as address, ExitStack() as stack:
        clients = [stack.enter_context(connected(address)) for _ in range(200)]
        for client in clients:
            client.sendall(b"GET / HTTP/1.1\r\nHost: loc")
        for _ in range(20):
            assert ask(address).text == "hello"
        assert all(is_open(client) for client in clients)


def test_an_idle_connection_makes_room_before_one_that_sends(diary: App) -> None:
    server = running_server(diary.app, patience=Patience(connections=2))
    with server as address, connected(address) as sender, connected(address) as idle:
        sender.sendall(POST + b"Content-Length: 10\r\n\r\n12345")
        idle.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert read_answer(idle).text == "hello"
        assert ask(address).text == "hello"
        assert read_all(idle) == b""
        sender.sendall(b"67890")
        assert read_answer(sender).text == "10"


def test_beyond_the_limit_is_told_to_come_back_while_all_are_being_answered(diary: App) -> None:
    with running_server(diary.app, patience=Patience(connections=3)) as address, ExitStack() as stack:
        clients = [stack.enter_context(connected(address)) for _ in range(3)]
        for client in clients:
            client.sendall(b"GET /busy HTTP/1.1\r\nHost: localhost\r\n\r\n")
        time.sleep(0.3)  # in which the requests reach the app
        answer = ask(address)
        assert answer.status == 503
        assert "Wait a few seconds" in answer.text
        assert answer.headers["retry-after"] == "2"
        diary.free.set()
        assert [read_answer(client).text for client in clients] == ["done"] * 3
        assert ask(address).text == "hello"


def test_the_server_stops_whatever_its_clients_do(diary: App) -> None:
    with ExitStack() as stack:
        with running_server(diary.app) as address:
            for sent in (
                b"",
                b"GET / HT",
                b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
                POST + b"Content-Length: 10\r\n\r\n12345",
                b"GET /long HTTP/1.1\r\nHost: localhost\r\n\r\n",
                b"POST /unread HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\n",
                b"\x00\r\n\r\n",
            ):
                client = stack.enter_context(connected(address))
                client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                client.sendall(sent)
        assert diary.stopped.wait(30)
        with pytest.raises((http.client.HTTPException, OSError)):
            ask(address)


def dribble(client: socket.socket, data: bytes, *, start: bytes, piece: bytes = b"") -> bytes:
    """Send a start, then byte by byte (or piece by piece) until the server has had enough; return what it said."""
    client.sendall(start)
    client.settimeout(0.01)
    said = b""
    for byte in data:
        try:
            said += (part := client.recv(2**16))
            if not part:
                break
        except TimeoutError:
            pass
        except ConnectionError:
            break
        try:
            client.settimeout(60)
            client.sendall(piece or bytes([byte]))
            client.settimeout(0.01)
        except ConnectionError:
            break
    client.settimeout(60)
    return said + read_all(client)


def is_open(client: socket.socket) -> bool:
    client.settimeout(0)
    try:
        return client.recv(1) != b""
    except BlockingIOError:
        return True
    except ConnectionError:
        return False
