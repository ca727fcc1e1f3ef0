"""``wavtext5k-search``: parse, call one function, print."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer

from curation.errors import AudioError, exit_on_error

LINE_EVERY_S = 5.0
"""Between two lines of progress where there is no terminal for a bar."""

app = typer.Typer(
    epilog='Example: wavtext5k-search query runs/demo/index "a low bell struck twice"',
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    no_args_is_help=True,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"wavtext5k {version('wavtext5k')}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[bool, typer.Option("--version", callback=_print_version, is_eager=True)] = False,
) -> None:
    """Index a manifest with a trained model, and find its clips by text or by sound."""


@app.command(epilog="Example: wavtext5k-search index runs/demo/run runs/demo/curated --out runs/demo/index")
@exit_on_error()
def index(
    run: Annotated[Path, typer.Argument(help="A run folder (or its model folder).", show_default=False)],
    manifest: Annotated[Path, typer.Argument(help="A manifest, or its folder.", show_default=False)],
    out: Annotated[Path, typer.Option(help="The index's folder.", show_default=False)],
    as_json: Annotated[bool, typer.Option("--json", help="Print what was made as JSON.")] = False,
) -> None:
    """Embed every clip of a manifest, so that queries can find it."""
    from tqdm import tqdm

    from retrieval.index import build_index

    said = time.monotonic()
    with tqdm(unit="clip", desc="embedding", disable=None, leave=False) as bar:

        def advance(done: int, total: int) -> None:
            nonlocal said
            bar.total = total
            bar.update(done - bar.n)
            if bar.disable and (done == total or time.monotonic() - said >= LINE_EVERY_S):
                said = time.monotonic()
                print(f"embedding  {done} of {total} clips", file=sys.stderr)

        info, was_built = build_index(run, manifest, out, progress=advance)
    if as_json:
        print(json.dumps(asdict(info) | {"was_built": was_built}))
    else:
        word = "indexed   " if was_built else "up to date"
        print(f"{word} {info.num_clips} clips x {info.embed_dim}    {out}")


@app.command(epilog='Example: wavtext5k-search query runs/demo/index "rain on a roof" --top 5')
@exit_on_error()
def query(
    index: Annotated[Path, typer.Argument(help="An index folder.", show_default=False)],
    text: Annotated[str | None, typer.Argument(help="What the sound should be.", show_default=False)] = None,
    audio: Annotated[Path | None, typer.Option(help="Find what sounds like this file instead.")] = None,
    top: Annotated[int, typer.Option(min=1, help="How many clips to show.")] = 10,
    model: Annotated[Path | None, typer.Option(help="The model's folder, where it was moved.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the clips as JSON.")] = False,
) -> None:
    """Rank the clips of an index for a text, or for a sound."""
    if (text is None) == (audio is None):
        raise typer.BadParameter("give either a text or --audio FILE")
    if text is not None and not text.strip():
        raise typer.BadParameter("the text is empty; write what the sound should be")
    if text is not None and any("\ud800" <= sign <= "\udfff" for sign in text):
        raise typer.BadParameter("the text is not valid Unicode; is the terminal's encoding UTF-8?")
    from retrieval.index import Index
    from retrieval.search import search_audio, search_text

    opened = Index.open(index)
    if audio is not None and not audio.is_file():
        raise AudioError(f"{audio}: " + ("not a file" if audio.exists() else "no such file"))
    clap = opened.load_model(model)
    if audio is not None:
        hits = search_audio(opened, clap, audio, top=top)
    else:
        hits = search_text(opened, clap, str(text), top=top)
    if as_json:
        print(json.dumps([asdict(hit) for hit in hits]))
        return
    for hit in hits:
        print(f"{hit.rank:3d}  {hit.score:+.3f}  {hit.clip_id:<20}  {hit.duration_s:6.2f} s  {hit.title}")
        if hit.description:
            print(f"{'':13}{hit.description}")


def main() -> None:
    """Run ``wavtext5k-search``."""
    app(prog_name="wavtext5k-search")


if __name__ == "__main__":
    main()
