"""How ``stats`` and ``figures`` are told which clips: manifests, and caption data sets whose text alone is read."""

from __future__ import annotations

import dataclasses
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from curation.commands.options import wrong_usage
from curation.errors import ConfigError
from curation.storage import place

if TYPE_CHECKING:
    from curation.tables import NamedClips

Manifests = Annotated[
    list[Path] | None, typer.Argument(parser=place, metavar="MANIFEST...", help="Folders of manifests, or the files.")
]
Captions = Annotated[
    list[Any] | None,
    typer.Option(
        metavar="NAME FILE",
        help="A caption data set, as import knows it, whose text alone is read: wavtext5k WavText5K.csv. Repeatable.",
    ),
]


class PairsCommand(TyperCommand):
    """A command whose --captions takes two words each time; Typer knows lists and pairs, no lists of pairs."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        for parameter in self.params:
            if parameter.name == "captions":
                parameter.nargs = 2


def read_sets(
    manifests: Sequence[Path] | None, captions: Sequence[tuple[str, str]] | None, *, columns: Sequence[str] = ()
) -> list[NamedClips]:
    """Return the clips of manifests and of caption data sets, each under a name of its own.

    Args:
        manifests: Folders or files.
        captions: Readers' names and places.
        columns: Of manifests, beside those that tables count.

    Raises:
        typer.BadParameter: If there is neither, or no such reader or file; before anything is read.
        ManifestError: If one cannot be read.
    """
    from curation.datasets import check_named, read_collection
    from curation.tables import clips_of_collection, clips_of_manifest

    if not manifests and not captions:
        raise typer.BadParameter("name a manifest, or --captions NAME FILE")
    try:
        for name, file in captions or ():
            check_named(name, place(file))
    except ConfigError as error:
        raise wrong_usage(error) from error
    places, sets = [], []
    for manifest in manifests or ():
        places.append(str(manifest).encode("utf-8", "replace").decode())
        sets.append(clips_of_manifest(manifest, columns=columns))
    for name, file in captions or ():
        places.append(f"{name} {file}")
        try:
            collection = read_collection(name, place(file))
        except ConfigError as error:
            raise wrong_usage(error) from error
        for note in collection.notes:
            print(f"{name}: {note}", file=sys.stderr)
        sets.append(clips_of_collection(name, collection))
    return _with_own_names(sets, places)


def _with_own_names(sets: list[NamedClips], places: list[str]) -> list[NamedClips]:
    """Name those that share a name by where they lie."""
    taken = Counter(named.name for named in sets)
    return [
        dataclasses.replace(named, name=where) if taken[named.name] > 1 else named
        for named, where in zip(sets, places, strict=True)
    ]
