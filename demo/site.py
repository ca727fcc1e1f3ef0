"""Serves a catalogue of sounds on this machine, in the page structure of a real site, faults and all.

Reads a catalogue (demo.catalogue) and a folder of audio; writes nothing. It stands in for the real sites in tests
and in the demo, so it keeps what makes them hard to read; the pages are in demo.pages, the HTTP server in demo.server.
A page is made anew for each request, in less than 0.1 ms; so a changed clip shows at once and nothing has to be kept.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Annotated
from urllib.parse import parse_qsl, unquote, urlsplit

import typer

from curation.errors import exit_on_error
from demo.catalogue import FAULTS, CatalogueError, Clip, check_catalogue, read_catalogue, write_catalogue
from demo.pages import bigsoundbank, pebbles, soundbible, soundbible_old
from demo.pages.answers import Answer, Layout, Shelf, page, small_page
from demo.server import SiteError, listen
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
    "pebbles": pebbles.respond,
}


def serve(
    catalogue: Path | Sequence[Clip],
    audio: Path,
    *,
    layout: str = "soundbible",
    port: int = 0,
    host: str = "127.0.0.1",
    robots: str | None = None,
    tdmrep: str | None = None,
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
        tdmrep: Text of /.well-known/tdmrep.json; None answers 404 there, as most sites do.
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
    return Site(
        Shelf(clips, audio, robots=robots, tdmrep=tdmrep), LAYOUTS[layout], address=(host, port), verbose=verbose
    )


class Site:
    """A running site; closed at the end of its ``with`` block."""

    def __init__(self, shelf: Shelf, respond: Layout, *, address: tuple[str, int], verbose: bool = False) -> None:
        self.requests: list[tuple[str, str, int]] = []
        """Method, path with its query as sent, and status of each answer, in order."""
        self._shelf = shelf
        self._respond = respond
        self._was_busy: set[tuple[int, bool]] = set()
        self._lock = threading.Lock()
        self._server = listen(self, address, verbose=verbose)
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

    def replace(self, clip: Clip) -> None:
        """Put a clip in the place of the one that has its id, from the next request on.

        Raises:
            CatalogueError: If no clip has its id, or one of its files is not in the audio folder; nothing changes then.
        """
        if clip.id not in self._shelf.by_id:
            raise CatalogueError(f"id {clip.id} ({clip.title!r}) is not in the catalogue, so it replaces nothing")
        check_catalogue([clip], self._shelf.audio)
        with self._lock:
            self._was_busy -= {(clip.id, False), (clip.id, True)}
            self._shelf = self._shelf.replaced(clip)

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
    """Serve a catalogue of sounds on this machine in the pages of SoundBible, BigSoundBank or a third, until Ctrl-C."""
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
