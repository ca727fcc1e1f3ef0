"""Stands before the page: refuses what no page of ours asks for, and puts strict headers on every answer.

A browser sends to 127.0.0.1 whatever any site tells it to. So a Host that is a name must be one of ours (DNS
rebinding: a foreign name that points here; an address in numbers cannot be rebound, hence always passes), and what
changes or costs something must come from our own page, as ``Sec-Fetch-Site`` and ``Origin`` say. Programs send
neither header, and pass.
"""

from __future__ import annotations

import ipaddress
import logging
import re
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import contextmanager

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from retrieval.web.errors import Refused

MAX_ADDRESS_BYTES = 16 * 2**10
"""Of path and query as sent: 1,000 characters of any script take 9 or 12 KB, and filters some more."""
MAX_HEADERS_BYTES = 32 * 2**10
"""Cookies of all servers on one host name come along, whatever their port."""
POSTS_AT_ONCE = 8
"""Uploads of all clients; each may hold some 100 MB of sound until its search is done."""
POSTS_OF_ONE_CLIENT = 4

STRICT_HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "media-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",  # with no-referrer, a browser's own form would come with the Origin "null"
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), display-capture=(), geolocation=(), microphone=(), payment=(), usb=()",
}
_HOST = re.compile(r"(\[[0-9a-fA-F:.]{2,45}\]|[A-Za-z0-9._-]{1,253})(:[0-9]{1,5})?", re.ASCII)
_ASTRAY = re.compile(r"[\x00-\x1f\x7f\\\ufffd]|(^|/)\.\.(/|$)")  # control characters, bytes of no Unicode, parents
_logger = logging.getLogger(__name__)


class Guard:
    """The app inside its protections.

    Args:
        app: Any ASGI app.
        allowed_hosts: Names that the server goes by, without port. Addresses in numbers need not be among them.
        max_body_bytes: Of a request; refused before it is read where Content-Length tells, else as soon as it is
            more.
    """

    def __init__(self, app: ASGIApp, *, allowed_hosts: Collection[str], max_body_bytes: int) -> None:
        self._app = app
        self._hosts = {_plain(host) for host in allowed_hosts}
        self._max_body_bytes = max_body_bytes
        self._posts: Counter[str] = Counter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] == "http":
            await self._answer(scope, receive, send)
        else:
            await send({"type": "websocket.close", "code": 1008, "reason": "no websockets here"})

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        answer = _Answer(send)
        try:
            _check_address(scope)
            _check_headers(scope, self._max_body_bytes)
            self._check_host(scope)
            _check_sender(scope)
            with self._place(scope):
                await self._app(scope, _counted(receive, self._max_body_bytes), answer.send)
        except Refused as refused:
            if answer.started:
                raise
            await _said(refused, scope)(scope, receive, answer.send)
        except ClientDisconnect:
            pass  # nobody is there to be answered
        except Exception:
            if answer.started and not answer.ended:
                raise  # the server logs it and ends the connection, for nothing else tells that the answer is cut
            _logger.exception("%s %s failed", scope["method"], scope["path"])
            if not answer.started:
                broken = Refused(500, "Something went wrong in the server; its log says what.")
                await _said(broken, scope)(scope, receive, answer.send)

    def _check_host(self, scope: Scope) -> None:
        hosts = Headers(scope=scope).getlist("host")
        match = _HOST.fullmatch(hosts[0]) if len(hosts) == 1 else None
        if match is None:
            raise Refused(400, "The request needs one Host header with a host in it.")
        host = _plain(match[1])
        if host not in self._hosts and not _is_address(host):
            raise Refused(421, f"This server does not go by the name {host}; use the address that it printed.")

    @contextmanager
    def _place(self, scope: Scope) -> Iterator[None]:
        if scope["method"] != "POST":
            yield
            return
        client = (scope.get("client") or ("",))[0]
        if self._posts[client] >= POSTS_OF_ONE_CLIENT or self._posts.total() >= POSTS_AT_ONCE:
            raise Refused(503, "Too many uploads at once. Wait a few seconds and try again.")
        self._posts[client] += 1
        try:
            yield
        finally:
            self._posts[client] -= 1
            self._posts += Counter()  # lets go of clients that have none


class _Answer:
    """The way out: adds the headers, and knows how far the answer is."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.started = self.ended = False

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.started = True
            message = {**message, "headers": list(message.get("headers", []))}
            headers = MutableHeaders(raw=message["headers"])
            for name, value in STRICT_HEADERS.items():
                headers[name] = value
            headers.setdefault("cache-control", "no-cache")
            if message["status"] == 503:
                headers.setdefault("retry-after", "2")
        elif not message.get("more_body", False):
            self.ended = True
        await self._send(message)


def _check_address(scope: Scope) -> None:
    size = len(scope.get("raw_path") or scope["path"].encode()) + len(scope["query_string"])
    if size > MAX_ADDRESS_BYTES:
        raise Refused(
            414,
            f"The address is too long: {size} bytes, at most {MAX_ADDRESS_BYTES}. Search with fewer words or filters.",
        )
    if not scope["path"].startswith("/") or _ASTRAY.search(scope["path"]):
        raise Refused(400, "The address is none of this server's.")


def _check_headers(scope: Scope, max_body_bytes: int) -> None:
    headers = Headers(scope=scope)
    if sum(len(name) + len(value) for name, value in scope["headers"]) > MAX_HEADERS_BYTES:
        raise Refused(431, f"The request's headers are too long: at most {MAX_HEADERS_BYTES} bytes.")
    length = headers.get("content-length", "0")
    if not (length.isascii() and length.isdigit()) or ("transfer-encoding" in headers and "content-length" in headers):
        raise Refused(400, "The request's Content-Length makes no sense.")
    if scope["method"] != "POST" and (int(length) or "transfer-encoding" in headers):
        raise Refused(400, f"A {scope['method']} request has no body.")
    if int(length) > max_body_bytes:
        raise _too_large(max_body_bytes)


def _check_sender(scope: Scope) -> None:
    headers = Headers(scope=scope)
    site, mode = headers.get("sec-fetch-site", "none"), headers.get("sec-fetch-mode", "navigate")
    is_ours = site in ("same-origin", "none")
    if scope["method"] == "POST" and "origin" in headers:
        is_ours = is_ours and headers["origin"].partition("://")[2].lower() == headers["host"].lower()
    is_visit = (mode, headers.get("sec-fetch-dest", "document")) == ("navigate", "document")  # and in no frame
    if not is_ours and (scope["method"] == "POST" or not is_visit):
        raise Refused(403, "This request comes from another site's page; open this server's own page instead.")


def _counted(receive: Receive, max_body_bytes: int) -> Receive:
    size = 0

    async def receive_counted() -> Message:
        nonlocal size
        message = await receive()
        size += len(message.get("body", b""))
        if size > max_body_bytes:
            raise _too_large(max_body_bytes)
        return message

    return receive_counted


def _too_large(max_body_bytes: int) -> Refused:
    return Refused(
        413, f"The upload is too large: at most {max_body_bytes / 2**20:.0f} MB. Cut out the part that matters."
    )


def _said(refused: Refused, scope: Scope) -> Response:
    """Return the answer: plain text, and JSON as from the API itself where the API was asked."""
    if scope["path"].startswith("/api/"):
        return JSONResponse({"error": refused.message}, refused.status)
    return PlainTextResponse(f"{refused.message}\n", refused.status)


def is_host_name(name: str) -> bool:
    """Return whether a text is what a Host header can name, without a port; an address in numbers is, too."""
    match = _HOST.fullmatch(name)
    return _is_address(name) or (match is not None and not match[2])


def _plain(host: str) -> str:
    return host.lower().rstrip(".").strip("[]")


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
