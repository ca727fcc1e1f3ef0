"""Serves a catalogue of sounds on this machine, in the page structure of either site, faults and all.

Reads a catalogue (demo.catalogue) and a folder of audio; writes nothing. It stands in for the real sites in tests
and in the demo, so it keeps what makes them hard to read; the pages are in demo.pages. Standard library only: it must
run wherever a test runs, and 900 pages with their audio go out in seconds over kept-alive connections.
"""

from __future__ import annotations

import contextlib
import errno
import shutil
import signal
import socket
import sys
import threading
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Annotated
from urllib.parse import parse_qsl, unquote, urlsplit

import typer

from curation.errors import WavTextError, exit_on_error
from demo.catalogue import FAULTS, CatalogueError, Clip, check_catalogue, read_catalogue, write_catalogue
from demo.pages import bigsoundbank, soundbible, soundbible_old
from demo.pages.answers import Answer, Layout, Shelf, page, small_page
from demo.version import Version

__all__ = [
    "serve",
    "Site",
    "SiteError",
    "Clip",
    "CatalogueError",
    "FAULTS",
    "LAYOUTS",
    "read_catalogue",
    "write_catalogue",
    "check_catalogue",
]

LAYOUTS: dict[str, Layout] = {
    "soundbible": soundbible.respond,
    "soundbible-old": soundbible_old.respond,
    "bigsoundbank": bigsoundbank.respond,
}

RETRY_AFTER_S = 1
"""What a busy clip's 503 asks the crawler to wait."""


class SiteError(WavTextError):
    """The site cannot listen; the message says where and what to do."""


def serve(
    catalogue: Path | Sequence[Clip],
    audio: Path,
    *,
    layout: str = "soundbible",
    port: int = 0,
    host: str = "127.0.0.1",
    robots: str | None = None,
    verbose: bool = False,
) -> Site:
    """Serve a catalogue from a thread in the background, until the returned site is closed.

    Args:
        catalogue: A catalogue file, or clips.
        audio: The folder that the clips' audio files are in.
        layout: One of LAYOUTS.
        port: 0 takes a free one; ``site.base_url`` tells which.
        host: The address to listen on.
        robots: Text of robots.txt; None gives the layout's own, which allows all that a crawl needs.
        verbose: Log each request to stderr.

    Returns:
        The running site, a context manager: ``with serve(clips, folder) as site: ...``.

    Raises:
        CatalogueError: If the catalogue or one of its files is not in order; nothing listens then.
        SiteError: If the port cannot be had.
        ValueError: For an unknown layout.
    """
    if layout not in LAYOUTS:
        raise ValueError(f"layout must be one of {', '.join(LAYOUTS)}, got {layout!r}")
    clips = read_catalogue(catalogue) if isinstance(catalogue, Path) else list(catalogue)
    check_catalogue(clips, audio)
    return Site(Shelf(clips, audio, robots), LAYOUTS[layout], address=(host, port), verbose=verbose)


class Site:
    """A running site; closed at the end of its ``with`` block."""

    def __init__(self, shelf: Shelf, respond: Layout, *, address: tuple[str, int], verbose: bool = False) -> None:
        self.requests: list[tuple[str, str, int]] = []
        """Method, path with its query as sent, and status of each answer, in order."""
        self._shelf = shelf
        self._respond = respond
        self._was_busy: set[tuple[int, bool]] = set()
        self._lock = threading.Lock()
        self._server = _listen(self, address, verbose=verbose)
        host, port = self._server.server_address[:2]
        self.base_url = f"http://{host!s}:{port}"
        """Where the site is, without a slash at the end."""
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), name="site", daemon=True)
        self._thread.start()

    def __enter__(self) -> Site:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the site and its connections; a second call does nothing."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def __len__(self) -> int:
        return len(self._shelf.newest)

    def answer(self, method: str, target: str) -> Answer:
        """Return what the site answers to a request, after the faults of the clip it asks for."""
        url = urlsplit(target)
        if method == "POST" and url.path != "/download.php":
            return page("", status=405)
        answer = self._respond(self._shelf, unquote(url.path), dict(parse_qsl(url.query, keep_blank_values=True)))
        if answer.clip is not None and answer.clip.fault == "busy":
            with self._lock:
                key = (answer.clip.id, answer.is_audio)
                if key not in self._was_busy:
                    self._was_busy.add(key)
                    return page(small_page("Busy"), status=503)
        return answer


class _Server(ThreadingHTTPServer):
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


def _listen(site: Site, address: tuple[str, int], *, verbose: bool) -> _Server:
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
            site.requests.append((self.command, self.path, answer.status))
            self.send_response(answer.status)
            self.send_header("Content-Type", answer.content_type)
            self.send_header("Content-Length", str(length))
            if answer.location:
                self.send_header("Location", answer.location)
            if answer.status == 503:
                self.send_header("Retry-After", str(RETRY_AFTER_S))
            self.end_headers()
            if self.command == "HEAD":
                return
            if isinstance(answer.body, bytes):
                self.wfile.write(answer.body)
            else:
                with answer.body.open("rb") as file:
                    shutil.copyfileobj(file, self.wfile, 1 << 18)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            if verbose:
                super().log_message(format, *args)

    host, port = address
    try:
        return _Server(address, Handler)
    except OSError as error:
        reason = error.strerror or str(error)
        of_port = error.errno in (errno.EADDRINUSE, errno.EACCES)
        advice = "name another port with --port, or take a free one with --port 0" if of_port else "name another --host"
        raise SiteError(f"cannot listen on port {port} of {host}: {reason}; {advice}") from error


app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


@app.command(epilog="Example: python -m demo.site --catalogue runs/site/catalogue.jsonl --audio runs/site/audio")
def main(
    catalogue: Annotated[Path, typer.Option(help="JSON Lines, one clip a line; demo.sounds writes one.")],
    audio: Annotated[Path, typer.Option(help="Folder of the audio files that the catalogue names.")],
    layout: Annotated[str, typer.Option(help=f"Whose pages: {', '.join(LAYOUTS)}.")] = "soundbible",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 8000,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    verbose: Annotated[bool, typer.Option("--verbose", help="Log each request to stderr.")] = False,
    version: Version = False,
) -> None:
    """Serve a catalogue of sounds on this machine in the pages of SoundBible or BigSoundBank, until Ctrl-C."""
    if layout not in LAYOUTS:
        raise typer.BadParameter(f"{layout!r} is not one of {', '.join(LAYOUTS)}", param_hint="--layout")
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    with exit_on_error(), serve(catalogue, audio, layout=layout, port=port, host=host, verbose=verbose) as site:
        print(f"{site.base_url}  {layout}, {len(site)} clips; Ctrl-C ends it", flush=True)
        stop.wait()


if __name__ == "__main__":
    app()
