"""``wavtext5k-search serve``: the page of an index, on this machine's own address unless told otherwise."""

from __future__ import annotations

import ipaddress
import os
import socket
import sys
import threading
import webbrowser
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from curation.errors import WavTextError
from retrieval.query_cli import check_current

_OURS = ("crawler", "curation", "training", "retrieval")


class ServeError(WavTextError):
    """A page that cannot be served."""


def serve(
    index: Annotated[Path, typer.Argument(help="An index folder.", show_default=False)],
    host: Annotated[str, typer.Option(help="The address to answer on; 0.0.0.0: to the whole network.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any free one.")] = 8000,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(help="A further name that browsers may call the server by, behind a proxy; repeatable."),
    ] = None,
    model: Annotated[Path | None, typer.Option(help="The model's folder, where it was moved.")] = None,
    stale: Annotated[bool, typer.Option("--stale", help="Serve though a manifest has changed or is gone.")] = False,
    max_upload_mb: Annotated[int, typer.Option(min=1, max=1000, help="Of a sound to search with.")] = 50,
    open_page: Annotated[bool, typer.Option("--open", help="Open the page in a browser.")] = False,
) -> None:
    """Search an index in a browser: by text, by an uploaded sound, or by a clip that is like what you look for."""
    try:
        from retrieval.web.app import make_app
        from retrieval.web.guard import is_host_name
        from retrieval.web.server import address_of, bind
        from retrieval.web.server import serve as answer
        from retrieval.web.uploads import UploadLimits
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] in _OURS:
            raise
        raise ServeError(
            f'the page needs the serve extra ({error.name} is missing): pip install -e ".[serve]"'
        ) from error
    from retrieval.index import Index

    for name in [name for name in allow_host or () if not is_host_name(name)]:
        words = "give the host's name alone, such as sounds.example, without http:// and port"
        raise ServeError(f"--allow-host {name}: {words}")
    opened = Index.open(index)
    check_current(opened, stale=stale)
    with bind(host, port) as listener:
        names = ["localhost", host, *(allow_host or []), *([] if _is_loopback(listener) else _own_names())]
        app = make_app(
            opened,
            opened.load_model(model),
            limits=UploadLimits(max_bytes=max_upload_mb * 2**20),
            allowed_hosts=names,
        )
        address = address_of(listener)

        def say() -> None:
            _tell(f"serving  {len(opened)} clip{'s' if len(opened) != 1 else ''}    {address}    (Ctrl-C stops)")
            if open_page:  # in a thread: one that runs in the terminal returns when it is left
                threading.Thread(target=webbrowser.open, args=[address], daemon=True).start()

        if not _is_loopback(listener):
            _warn(f"warning: there is no login: whoever reaches {host} can search, hear every clip and upload sounds")
        answer(app, listener, on_ready=say)
    _warn("stopped")


def _tell(line: str) -> None:
    """Print a line on stdout; where nobody reads that any more, on stderr: the page is there all the same."""
    if sys.stdout is None:
        _warn(line)
        return
    try:
        print(line, flush=True)
    except OSError:
        with suppress(OSError):  # what is left in the stream would be an error again at the end
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        _warn(line)


def _warn(line: str) -> None:
    """Print a line on stderr, if anyone reads that."""
    if sys.stderr is not None:  # or print takes stdout
        with suppress(OSError):
            print(line, file=sys.stderr, flush=True)


def _is_loopback(listener: socket.socket) -> bool:
    return ipaddress.ip_address(listener.getsockname()[0].partition("%")[0]).is_loopback


def _own_names() -> list[str]:
    """Return what other machines may call this one."""
    name = socket.gethostname()
    return [name, f"{name.partition('.')[0]}.local"]
