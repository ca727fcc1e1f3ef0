"""Caption data sets already on disk, one reader a data set: its files in, a ``curation.entries.Collection`` out.

Readers open captions and metadata, never audio; nothing is downloaded. A reader is a module here with ``LAYOUT`` (the
documented layout, for help and errors) and ``read(place, *, audio) -> Collection``.
"""

from __future__ import annotations

import difflib
import importlib
from pathlib import Path
from types import ModuleType

from curation.entries import Collection
from curation.errors import ConfigError

READERS = {
    "clotho": "curation.datasets.clotho",
    "audiocaps": "curation.datasets.audiocaps",
    "macs": "curation.datasets.macs",
    "sounddescs": "curation.datasets.sounddescs",
    "wavcaps": "curation.datasets.wavcaps",
    "fsd50k": "curation.datasets.fsd50k",
    "esc50": "curation.datasets.esc50",
    "wavtext5k": "curation.datasets.wavtext5k",
    "csv": "curation.datasets.own_csv",
    "folder": "curation.datasets.own_folder",
}
"""Module by the data set's name on the command line."""


def read_collection(name: str, place: Path, *, audio: Path | None = None) -> Collection:
    """Return the clips of a data set on disk.

    Args:
        name: One of READERS.
        place: The data set's folder as its publishers lay it out, or one caption file, whose text alone is read.
        audio: Where the sounds lie, if not where the layout says.

    Raises:
        ConfigError: If there is no reader of that name, or nothing at that place.
        ManifestError: If the files there are not laid out, or not written, as documented; names file and line.
    """
    check_named(name, place)
    collection: Collection = reader_of(name).read(place, audio=audio)
    return collection


def check_named(name: str, place: Path) -> None:
    """Refuse what ``read_collection`` cannot read because it is not there; nothing is opened.

    Raises:
        ConfigError: If there is no reader of that name, or nothing at that place.
    """
    reader = reader_of(name)
    if not place.exists():
        raise ConfigError(f"{place}: no such file or folder; a {name} folder holds:\n{reader.LAYOUT}")


def reader_of(name: str) -> ModuleType:
    """Return the module that reads a data set.

    Raises:
        ConfigError: If there is none; names the nearest.
    """
    if name not in READERS:
        near = difflib.get_close_matches(name, READERS, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise ConfigError(f"no reader for {name!r}{hint}; known: {', '.join(READERS)}")
    return importlib.import_module(READERS[name])
