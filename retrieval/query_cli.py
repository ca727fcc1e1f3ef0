"""``wavtext5k-search query``: the command's words, and how results are printed."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from unicodedata import category

import typer

if TYPE_CHECKING:
    import numpy as np

    from retrieval.filters import Filters
    from retrieval.index import Index
    from retrieval.search import Hit, Ranked

_UNPRINTABLE = ("Cc", "Cf", "Cs", "Zl", "Zp")
_JOINERS = "\u200c\u200d"


def query(
    index: Annotated[Path, typer.Argument(help="An index folder.", show_default=False)],
    text: Annotated[str | None, typer.Argument(help="What the sound should be.", show_default=False)] = None,
    audio: Annotated[Path | None, typer.Option(help="Find what sounds like this file instead.")] = None,
    like: Annotated[str | None, typer.Option(metavar="KEY", help="Find what sounds like this clip instead.")] = None,
    words: Annotated[
        bool, typer.Option("--words", help="Rank texts for the sound, not clips (with --audio or --like).")
    ] = False,
    top: Annotated[int, typer.Option(min=1, help="How many to show.")] = 10,
    tag: Annotated[list[str] | None, typer.Option(help="Only clips with this tag; again: and this one.")] = None,
    source: Annotated[list[str] | None, typer.Option(help="Only of this source; again: or of this one.")] = None,
    license: Annotated[list[str] | None, typer.Option(help="Only under this licence; again: or this one.")] = None,  # noqa: A002
    split: Annotated[list[str] | None, typer.Option(help="Only of this split; again: or of this one.")] = None,
    min_s: Annotated[float | None, typer.Option(help="Only clips of so many seconds at least.")] = None,
    max_s: Annotated[float | None, typer.Option(help="Only clips of so many seconds at most.")] = None,
    probes: Annotated[
        int | None, typer.Option(min=1, help="Search approximately, in so many cells (see approximate).")
    ] = None,
    model: Annotated[Path | None, typer.Option(help="The model's folder, where it was moved.")] = None,
    stale: Annotated[bool, typer.Option("--stale", help="Search although a manifest has changed since.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the results as JSON.")] = False,
) -> None:
    """Rank the clips of an index for a text, for a sound, or for one of its own clips."""
    if (text is not None) + (audio is not None) + (like is not None) != 1:
        raise typer.BadParameter("give either a text, or --audio FILE, or --like KEY")
    if words and text is not None:
        raise typer.BadParameter("--words ranks texts for a sound: give --audio or --like, not a text")
    from retrieval.filters import Filters
    from retrieval.index import Index
    from retrieval.search import check_text, search_vector, texts_for

    try:
        filters = Filters(
            tags=tuple(tag or ()),
            sources=tuple(source or ()),
            licenses=tuple(license or ()),
            splits=tuple(split or ()),
            min_s=min_s,
            max_s=max_s,
        )
        if text is not None:
            check_text(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    if words and (filters != Filters() or probes is not None):
        raise typer.BadParameter("--words compares the texts of all clips: leave filters and --probes out")
    opened = Index.open(index)
    check_current(opened, stale=stale)
    check_filters(opened, filters)
    row, vector = _vector(opened, text=text, audio=audio, like=like, model=model)
    if words:
        found = texts_for(opened, vector, top=top)
        lines = [f"{hit.rank:3d}  {hit.score:+.3f}  {hit.count:4d} clips  {_printable(hit.text)}" for hit in found]
        print(json.dumps([asdict(hit) for hit in found]) if as_json else "\n".join(lines) or "no clip has a text")
        return
    hits = search_vector(opened, vector, top=top, filters=filters, skip_row=row, ranked=_ranked(opened, probes))
    if as_json:
        print(json.dumps([hit.as_dict() for hit in hits]))
    elif not hits and probes is not None:
        print("none in the cells that were searched; raise --probes, or leave it out")
    elif not hits:
        print("no clip has all of what was asked; ask for less")
    for hit in () if as_json else hits:
        _print_hit(hit)


def check_current(index: Index, *, stale: bool) -> None:
    """Check that the manifests are those that were indexed, unless that does not matter.

    Raises:
        IndexFolderError: If one changed, or is gone.
    """
    from retrieval.index import IndexFolderError

    changed = index.changed_manifests()
    if changed and not stale:
        raise IndexFolderError(f"{index.folder}: {changed[0]}; or go on with --stale")


def check_filters(index: Index, filters: Filters) -> None:
    """Check that values asked for occur in an index: a slip of the pen is no empty result.

    Raises:
        IndexFolderError: If one does not; names the nearest that does.
    """
    from difflib import get_close_matches

    from retrieval.filters import clean_tag
    from retrieval.index import IndexFolderError

    facets = index.facets()
    for option, asked, known in (
        ("--tag", tuple(map(clean_tag, filters.tags)), facets.tags),
        ("--source", filters.sources, facets.sources),
        ("--license", filters.licenses, facets.licenses),
        ("--split", filters.splits, facets.splits),
    ):
        for value in asked:
            if value not in known:
                spelt = {each.casefold(): each for each in known}
                near = [spelt[each] for each in get_close_matches(value.casefold(), spelt, n=3)] or list(known)[:3]
                there = f"it has {', '.join(near)}, ..." if near else "its clips have none"
                raise IndexFolderError(f"{option} {value}: no clip of the index has it; {there}")


def _vector(
    index: Index, *, text: str | None, audio: Path | None, like: str | None, model: Path | None
) -> tuple[int | None, np.ndarray]:
    """Return what to search with, and the row to leave out."""
    from curation.errors import AudioError
    from retrieval.index import IndexFolderError
    from retrieval.search import embed_text

    if like is not None:
        row = index.row(like)
        if row is None:
            raise IndexFolderError(f"{index.folder}: no clip {like!r} in it; keys are the third column of a result")
        return row, index.vectors[row].float().numpy()
    if audio is not None and not audio.is_file():
        raise AudioError(f"{audio}: " + ("not a file" if audio.exists() else "no such file"))
    clap = index.load_model(model)
    return None, clap.embed_audio([audio])[0] if audio is not None else embed_text(clap, str(text))


def _ranked(index: Index, probes: int | None) -> Ranked | None:
    """Return the approximate way to rank, if that was asked for."""
    if probes is None:
        return None
    from functools import partial

    from retrieval.approximate import Cells

    return partial(Cells(index).search, probes=probes)


def _print_hit(hit: Hit) -> None:
    clip, name = hit.clip, _printable(hit.clip.name)
    print(f"{hit.rank:3d}  {hit.score:+.3f}  {clip.key:<20}  {clip.duration_s:6.2f} s  {clip.license:<13}  {name}")
    if clip.file:
        print(f"{'':13}{_printable(clip.file)}")
    text = clip.description or (clip.captions[0] if clip.captions else "")
    if text and text != clip.name:
        print(f"{'':13}{_printable(text)}")


def _printable(text: str) -> str:
    """Return a text with what a terminal would act on as escapes; joiners are part of words and of emoji."""
    return "".join(
        sign.encode("unicode_escape").decode() if category(sign) in _UNPRINTABLE and sign not in _JOINERS else sign
        for sign in text
    )
