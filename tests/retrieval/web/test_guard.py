"""What no page of ours asks for is refused before the app sees it, and every answer has the strict headers."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import AsyncIterator, Iterator

import anyio.to_thread
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from retrieval.web.errors import Refused
from retrieval.web.guard import MAX_ADDRESS_BYTES, MAX_HEADERS_BYTES, POSTS_OF_ONE_CLIENT, STRICT_HEADERS, Guard
from tests.support.webserver import Answer, ask, connected, read_all, read_answer, running_server

MOST = 1000


async def path(request: Request) -> Response:
    return PlainTextResponse(request.url.path)


async def body(request: Request) -> Response:
    return PlainTextResponse(str(len(await request.body())))


async def unguarded(request: Request) -> Response:
    return PlainTextResponse("", headers={"content-security-policy": "default-src *", "cache-control": "no-store"})


async def refusing(request: Request) -> Response:
    raise Refused(422, "A sentence of the app's.")


async def broken(request: Request) -> Response:
    raise ZeroDivisionError


async def refusal(request: Request, error: Exception) -> Response:
    assert isinstance(error, Refused)
    return PlainTextResponse(error.message, status_code=error.status)


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("static")
    (folder / "style.css").write_text("body {}")
    app = Starlette(
        routes=[
            Route("/unguarded", unguarded),
            Route("/refusing", refusing),
            Route("/broken", broken),
            Route("/body", body, methods=["POST"]),
            Mount("/static", StaticFiles(directory=folder)),
            Route("/{path:path}", path),
        ],
        exception_handlers={Refused: refusal},
    )
    with running_server(
        Guard(app, allowed_hosts=["localhost", "[::1]", "Sounds.Example"], max_body_bytes=MOST)
    ) as found:
        yield found


def check(answer: Answer, status: int, words: str = "") -> None:
    assert answer.status == status, answer
    assert words in answer.text
    assert answer.headers.items() >= STRICT_HEADERS.items()
    assert "server" not in answer.headers


def test_every_answer_has_the_strict_headers(address: str) -> None:
    check(ask(address), 200, "/")
    check(ask(address, "/static/style.css"), 200, "body {}")
    check(ask(address, "/static/none.css"), 404)
    check(ask(address, method="HEAD"), 200)
    check(ask(address, "/unguarded", method="POST"), 405)
    check(ask(address, "/refusing"), 422, "A sentence of the app's.")


def test_the_app_cannot_loosen_them_but_decides_on_its_caching(address: str) -> None:
    answer = ask(address, "/unguarded")
    check(answer, 200)
    assert answer.headers["cache-control"] == "no-store"
    assert ask(address).headers["cache-control"] == "no-cache"


def test_a_bug_is_logged_and_answered(address: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR):
        check(ask(address, "/broken"), 500)
        ended = time.monotonic() + 30
        while "GET /broken failed" not in caplog.text or "ZeroDivisionError" not in caplog.text:  # once it is answered
            assert time.monotonic() < ended
            time.sleep(0.01)
    check(ask(address), 200)


def test_a_bug_outside_of_the_apps_own_care_is_answered_too(caplog: pytest.LogCaptureFixture) -> None:
    async def bare(scope: object, receive: object, send: object) -> None:
        raise ZeroDivisionError

    with running_server(Guard(bare, allowed_hosts=[], max_body_bytes=MOST)) as address:
        check(ask(address, "/some/where"), 500, "Something went wrong in the server")
    assert "GET /some/where failed" in caplog.text


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "localhost:8000",
        "LOCALHOST",
        "localhost.",
        "sounds.example",
        "127.0.0.1",
        "192.168.1.7:80",
        "[::1]",
    ],
)
def test_hosts_that_are_ours_or_addresses_in_numbers_pass(address: str, host: str) -> None:
    check(ask(address, headers={"Host": host}), 200)


@pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example", "1.2.3.4.evil.example", "0x7f000001"])
def test_a_foreign_name_is_refused(address: str, host: str) -> None:
    check(ask(address, headers={"Host": host}), 421, f"does not go by the name {host}")


@pytest.mark.parametrize("host", ["a b", "localhost/", "user@localhost", "localhost:port", "[::1", "lo<b>cal", " "])
def test_a_host_that_is_none_is_refused(address: str, host: str) -> None:
    check(ask(address, headers={"Host": host}), 400)


def test_a_request_without_host_is_refused(address: str) -> None:
    with connected(address) as client:
        client.sendall(b"GET / HTTP/1.0\r\n\r\n")
        check(read_answer(client), 400, "needs one Host")


@pytest.mark.parametrize(
    "target",
    [
        "/../etc/passwd",
        "/static/../../etc/passwd",
        "/static/%2e%2e/%2E%2e/etc/passwd",
        "/static/..%2fetc",
        "/..",
        "/a/..",
        "/static/..%5cetc",
        "/%00",
        "/static/style.css%00.png",
        "/%0d%0aSet-Cookie:a=b",
        "/%1b[2J",
        "/%7f",
        "/%ff%fe",
        "/%c0%ae%c0%ae/",
        "http://evil.example/",
        "*",
        "etc/passwd",
    ],
)
def test_addresses_that_lead_elsewhere_are_refused(address: str, target: str) -> None:
    check(ask(address, target), 400, "none of this server's")


@pytest.mark.parametrize("target", ["/...", "/a..b", "/%252e%252e/x", "//etc/passwd", "/caf%C3%A9", "/a%20b", "/%"])
def test_odd_addresses_that_lead_nowhere_else_reach_the_app(address: str, target: str) -> None:
    check(ask(address, target), 200)


def test_the_api_is_refused_in_json(address: str) -> None:
    answer = ask(address, "/api/search", headers={"Host": "evil.example"})
    check(answer, 421)
    assert answer.headers["content-type"] == "application/json"
    assert json.loads(answer.body)["error"].startswith("This server does not go by the name evil.example")


def test_nothing_outside_of_static_files_is_served(address: str) -> None:
    for target in ("/static//etc/passwd", "/static/%252e%252e/etc/passwd", "/static/", "/static"):
        answer = ask(address, target)
        assert answer.status in (404, 307, 200)
        assert "root:" not in answer.text


def test_a_long_address_is_told_so(address: str) -> None:
    check(ask(address, "/?q=" + "a" * (MAX_ADDRESS_BYTES - 3)), 200)
    check(
        ask(address, "/?q=" + "a" * (MAX_ADDRESS_BYTES - 2)), 414, "The address is too long: 16385 bytes, at most 16384"
    )
    check(ask(address, "/" + "%E7%8C%AB" * 10_000), 414, "90001 bytes")


def test_many_headers_are_told_so(address: str) -> None:
    check(ask(address, headers={"Cookie": "a" * (MAX_HEADERS_BYTES - 100)}), 200)
    check(ask(address, headers={"Cookie": "a" * MAX_HEADERS_BYTES}), 431)
    check(ask(address, headers={f"X-{number}": "a" for number in range(10_000)}), 431)


def test_a_body_within_the_limit_passes(address: str) -> None:
    check(ask(address, "/body", method="POST", body=bytes(MOST)), 200, str(MOST))
    check(ask(address, "/body", method="POST"), 200, "0")
    check(ask(address, headers={"Content-Length": "0"}), 200)


def test_a_body_beyond_the_limit_is_refused_before_it_comes(address: str) -> None:
    with connected(address) as client:
        client.sendall(b"POST /body HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2000000000\r\n\r\n")
        check(read_answer(client), 413, "too large")
    check(ask(address, "/body", method="POST", body=bytes(MOST + 1)), 413)


def test_a_client_that_asks_first_is_never_told_to_send_too_much(address: str) -> None:
    with connected(address) as client:
        more = b"Expect: 100-continue\r\nContent-Length: 2000000000\r\n\r\n"
        client.sendall(b"POST /body HTTP/1.1\r\nHost: localhost\r\n" + more)
        assert client.recv(2**16).startswith(b"HTTP/1.1 413 ")


@pytest.mark.parametrize("sizes", [(1, MOST), (MOST + 1,), (1,) * (MOST + 1)])
def test_chunks_are_counted(address: str, sizes: tuple[int, ...]) -> None:
    chunks = b"".join(b"%x\r\n%b\r\n" % (size, bytes(size)) for size in sizes) + b"0\r\n\r\n"
    with connected(address) as client:
        client.sendall(b"POST /body HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks)
        check(read_answer(client), 413, "too large")


def test_framing_in_two_ways_is_refused(address: str) -> None:
    with connected(address) as client:
        more = b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n"
        client.sendall(b"POST /body HTTP/1.1\r\nHost: localhost\r\n" + more)
        check(read_answer(client), 400, "Content-Length")


def test_a_body_where_none_belongs_is_refused(address: str) -> None:
    check(ask(address, body=b"a"), 400, "A GET request has no body.")
    check(ask(address, method="HEAD", body=b"a"), 400)


OURS = {"Host": "localhost:8000"}


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Origin": "http://localhost:8000"},
        {"Origin": "HTTP://LocalHost:8000", "Sec-Fetch-Site": "same-origin"},
        {"Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "cors"},
        {"Sec-Fetch-Site": "none"},
    ],
)
def test_a_post_of_our_own_page_or_of_a_program_passes(address: str, headers: dict[str, str]) -> None:
    check(ask(address, "/body", method="POST", body=b"abc", headers=OURS | headers), 200, "3")


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "http://localhost"},
        {"Origin": "http://localhost:3000"},
        {"Origin": "null"},
        {"Origin": "http://localhost:8000.evil.example"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"},
        {"Sec-Fetch-Site": "same-site", "Origin": "http://localhost:8000"},
        {"Sec-Fetch-Site": "anything"},
    ],
)
def test_a_post_of_another_site_is_refused(address: str, headers: dict[str, str]) -> None:
    check(ask(address, "/body", method="POST", body=b"abc", headers=OURS | headers), 403, "another site's page")


def test_another_site_may_link_to_us_but_not_take_from_us(address: str) -> None:
    foreign = {"Sec-Fetch-Site": "cross-site"}
    check(ask(address, headers=foreign | {"Sec-Fetch-Mode": "navigate"}), 200)
    visit = foreign | {"Sec-Fetch-Mode": "navigate"}
    check(ask(address, headers=visit | {"Sec-Fetch-Dest": "document"}), 200)
    for element in ("iframe", "frame", "embed", "object", "fencedframe"):
        check(ask(address, headers=visit | {"Sec-Fetch-Dest": element}), 403, "another site's page")
        check(ask(address, headers={"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": element}), 200)
    for mode in ("no-cors", "cors", "websocket"):
        check(ask(address, headers=foreign | {"Sec-Fetch-Mode": mode}), 403)


def test_a_client_has_only_so_many_uploads_at_once() -> None:
    free = anyio.Event()

    async def wait(request: Request) -> Response:
        if not free.is_set():
            await free.wait()
        return PlainTextResponse("done")

    async def release(request: Request) -> Response:
        free.set()
        return PlainTextResponse("")

    app = Starlette(routes=[Route("/wait", wait, methods=["POST"]), Route("/", release)])
    with running_server(Guard(app, allowed_hosts=[], max_body_bytes=MOST)) as address:
        clients = [connected(address) for _ in range(POSTS_OF_ONE_CLIENT)]
        sockets = [client.__enter__() for client in clients]
        for client in sockets:
            client.sendall(b"POST /wait HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        while (answer := ask(address, "/wait", method="POST")).status != 503:
            pass
        check(answer, 503, "Too many uploads at once")
        assert answer.headers["retry-after"] == "2"
        ask(address)
        assert [read_answer(client).text for client in sockets] == ["done"] * POSTS_OF_ONE_CLIENT
        check(ask(address, "/wait", method="POST"), 200, "done")
        for opened in clients:
            opened.__exit__(None, None, None)


def test_what_is_no_http_request_is_closed() -> None:
    sent = []

    async def send(message: dict[str, object]) -> None:
        sent.append(message)

    async def never(*_: object) -> None:
        raise AssertionError

    anyio.run(Guard(never, allowed_hosts=[], max_body_bytes=MOST), {"type": "websocket"}, never, send)
    assert [message["type"] for message in sent] == ["websocket.close"]


def test_an_answer_that_breaks_off_ends_its_connection(caplog: pytest.LogCaptureFixture) -> None:
    async def half(request: Request) -> Response:
        async def pieces() -> AsyncIterator[bytes]:
            yield b"half"
            raise ZeroDivisionError

        return StreamingResponse(pieces())

    app = Guard(Starlette(routes=[Route("/", half)]), allowed_hosts=[], max_body_bytes=MOST)
    with running_server(app) as address, connected(address) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        found = read_all(client)
    assert b"half" in found
    assert not found.endswith(b"0\r\n\r\n")  # the end of chunks
    assert "ZeroDivisionError" in caplog.text
