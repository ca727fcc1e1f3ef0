"""``wavtext5k-search index``: the command's words, and its progress."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

LINE_EVERY_S = 5.0
"""Between two lines of progress where there is no terminal for a bar."""


def index(
    run: Annotated[Path, typer.Argument(help="A run folder (or its model folder).", show_default=False)],
    manifests: Annotated[
        list[Path], typer.Argument(metavar="MANIFEST...", help="Manifests, or their folders.", show_default=False)
    ],
    out: Annotated[Path, typer.Option(help="The index's folder.", show_default=False)],
    dtype: Annotated[
        str, typer.Option(help="Keep vectors as float32, or as bfloat16 in some 0.6 of the room.")
    ] = "float32",
    device: Annotated[str, typer.Option(help="Where the model computes: auto, cpu, cuda, cuda:1, ...")] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print what was made as JSON.")] = False,
) -> None:
    """Embed every clip of one or more manifests, so that queries can find it.

    Run it again with manifests that have changed, or with more of them: only clips that are new are embedded. A build
    that was stopped goes on where it was.
    """
    from retrieval.building import build_index
    from retrieval.layout import DTYPES

    if dtype not in DTYPES:
        raise typer.BadParameter(f"--dtype must be {' or '.join(DTYPES)}, got {dtype!r}")
    with _Progress() as progress:
        built = build_index(run, manifests, out, dtype=dtype, device=_device(device), progress=progress.show)
    if as_json:
        counts = {name: getattr(built, name) for name in ("embedded", "same_clips", "renamed_clips", "was_built")}
        print(json.dumps(asdict(built.info) | counts))
        return
    info = built.info
    word = "indexed   " if built.was_built else "up to date"
    print(f"{word} {info.num_clips} clips x {info.embed_dim}    {out}")
    if built.was_built and built.embedded < info.num_clips:
        print(f"embedded   {built.embedded} clips, the others were done")
    if built.same_clips:
        print(f"left out   {built.same_clips} clips that an earlier manifest has too")
    if built.renamed_clips:
        print(f"renamed    {built.renamed_clips} clips, whose clip_id another sound has: their keys end in ~2")


def _device(name: str) -> str:
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:
        raise typer.BadParameter(f"--device {name}: {str(error).splitlines()[0]}") from error
    return name


class _Progress:
    """A bar for each kind of work; lines now and then where there is no terminal."""

    def __init__(self) -> None:
        self._bar: Any = None
        self._what = ""
        self._said = time.monotonic()

    def __enter__(self) -> _Progress:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def show(self, what: str, done: int, total: int) -> None:
        """Show that so many clips, or texts, are done."""
        from tqdm import tqdm

        if what != self._what:
            self.__exit__()
            self._what = what
            self._bar = tqdm(total=total, unit=what[:-1], desc=f"embedding {what}", disable=None, leave=False)
        self._bar.update(done - self._bar.n)
        if self._bar.disable and (done == total or time.monotonic() - self._said >= LINE_EVERY_S):
            self._bar.n = done  # a disabled bar does not count
            self._said = time.monotonic()
            print(f"embedding  {done} of {total} {what}", file=sys.stderr)
