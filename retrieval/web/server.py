"""Runs the page: uvicorn with connections that have deadlines, stopped by Ctrl-C or SIGTERM within seconds."""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
from collections.abc import Callable
from types import FrameType

import uvicorn
from starlette.types import ASGIApp

from curation.errors import WavTextError
from retrieval.web.protocol import HEAD_BYTES, Patience, PatientProtocol

STOP_S = 3
"""For requests under way when the server is told to stop."""
_SEND_BUFFER = 2**17  # bytes that the kernel holds for a client which does not read, not some MB


class ServerError(WavTextError):
    """A place where the server cannot be."""


def bind(host: str, port: int) -> socket.socket:
    """Return a socket bound to a host and port, not yet listening; port 0 takes any free one.

    Raises:
        ServerError: If the port is taken or not allowed, or the host is not this machine's.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
    except (OSError, UnicodeError) as error:
        raise ServerError(
            f"{host!r} is no host that this machine knows; leave --host out, or give its address"
        ) from error
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)  # connections inherit it
        listener.bind(address)
    except OSError as error:
        listener.close()
        raise ServerError(_why(host, port, error)) from error
    return listener


def address_of(listener: socket.socket) -> str:
    """Return the address for a browser, such as http://127.0.0.1:8000."""
    host, port = listener.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def serve(
    app: ASGIApp, listener: socket.socket, *, on_ready: Callable[[], None], patience: Patience | None = None
) -> None:
    """Answer requests until Ctrl-C or SIGTERM.

    Args:
        app: With its Guard.
        listener: From ``bind``; closed at the end.
        on_ready: Called once requests are answered.
        patience: With slow clients; the usual one if None.
    """
    make_server(app, on_ready=on_ready, patience=patience).run(sockets=[listener])


def make_server(app: ASGIApp, *, on_ready: Callable[[], None], patience: Patience | None = None) -> Server:
    """Return a server whose ``run(sockets=[listener])`` lasts until its ``should_exit`` is set, or a signal comes."""
    protocol = type("_Protocol", (PatientProtocol,), {"patience": patience or Patience()})
    logging.getLogger("python_multipart").setLevel(logging.ERROR)  # a broken form is the client's affair
    config = uvicorn.Config(
        app,
        http=protocol,
        ws="none",
        loop="asyncio",
        log_config=None,
        log_level="error",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        h11_max_incomplete_event_size=HEAD_BYTES,
        timeout_keep_alive=3600,  # the protocol closes idle connections before
        timeout_graceful_shutdown=STOP_S,
    )
    return Server(config, on_ready)


class Server(uvicorn.Server):
    """uvicorn's server, which tells when it is ready, leaves no connection behind and takes a signal for a wish."""

    def __init__(self, config: uvicorn.Config, on_ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_ready = on_ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to answer."""
        await super().startup(sockets=sockets)
        self._on_ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Let answers under way end, for STOP_S; then end them, which is no news for the log."""
        logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
        await super().shutdown(sockets=sockets)
        for connection in list(self.server_state.connections):
            if isinstance(connection, PatientProtocol):
                connection.transport.abort()
        await asyncio.sleep(0)  # in which the connections learn of it

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Stop; at once when told twice. uvicorn would raise the signal again at the end, which is no exit code 0."""
        self.force_exit = self.should_exit
        self.should_exit = True


def _why(host: str, port: int, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"port {port} of {host} is taken, perhaps by another serve; choose another: --port 0 takes any free one"
    if error.errno == errno.EACCES:
        return f"port {port} is not for everyone to take; choose one from 1024 on, such as --port 8000"
    if error.errno == errno.EADDRNOTAVAIL:
        return f"{host} is no address of this machine; leave --host out, or give one that is"
    return f"cannot listen on port {port} of {host}: {error.strerror}"
