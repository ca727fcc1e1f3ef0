"""Reads one's own sounds from a folder: every file named as a sound, with the text that its name and place tell.

The title is the file's name put into words; folders are tags. Files named by the Universal Category System
(``DOORKnck_Knock on a glass door 1_BSB.wav``), by Freesound (``188423__user__airplane-prop.wav``) and by SoundBible
are understood. A text or JSON file of the same name beside a sound says more. A clip's key is its path in the folder,
with its extension: "a.wav" and "a.mp3" are two clips, and equal sound among them is found later, by its samples.
"""

from __future__ import annotations

import functools
import json
import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from curation.datasets.own_fields import license_notes, own_source, read_fields
from curation.datasets.places import AUDIO_SUFFIXES, wrong_layout
from curation.entries import Collection, Entry
from curation.errors import ConfigError, ManifestError
from curation.storage import is_local
from curation.text import clean_tags, clean_text

LAYOUT = """\
<any folders>/<any name>.wav      or .flac, .mp3, .ogg, .aiff, ...: a sound. Its title is its name in words, and the
                                  names of the folders are tags; names by UCS and by Freesound are understood
<any folders>/<same name>.txt     or <same name>.wav.txt: its description (optional)
<any folders>/<same name>.json    {"title", "description", "tags", "captions", "author", "license", "url", ...}
                                  (optional); keys as the columns of the reader csv
Hidden files and folders are passed over.
"""

SUFFIXES = (*AUDIO_SUFFIXES, ".wave", ".bwf", ".oga", ".snd", ".mka", ".wv", ".ape", ".mp2", ".amr", ".spx", ".ac3")
_LARGEST_SIDECAR = 2**20  # bytes; more is no description
_SHOWN = 8

_FREESOUND = re.compile(r"(?P<id>[0-9]{2,9})__(?P<author>.+?)__(?P<name>.+)")
# CatID, perhaps with a category of the user's own; a name; who made it, and more. Without the list of CatIDs at hand,
# the maker's sign must begin with a capital: "LRRain_in_garden_01" is no name by UCS.
_UCS = re.compile(
    r"(?P<code>[A-Z]{3,}[a-z]+[A-Za-z]{0,3})(?:-[^_]+)?_(?P<name>[^_]+)_(?P<maker>[A-Z][A-Za-z0-9]*)(?:_.*)?"
)
_BIGSOUNDBANK_ID = re.compile(r"\s*\(ID ([0-9]{3,6})\)\s*")
_SOUNDBIBLE_MARK = re.compile(r"[-_ ]SoundBible\.com-[0-9]+$", re.I)
_JOINT = re.compile(r"(?<=[a-z]{2})(?=[A-Z][a-z])|(?<=[A-Z])(?=[A-Z][a-z]{2})")
_DOT = re.compile(r"(?<![0-9])\.(?=\S)|(?<=[0-9])\.(?=[^\s0-9])")


@dataclass(frozen=True, slots=True)
class Named:
    """What a file's name tells."""

    title: str
    tags: tuple[str, ...] = ()
    origin: str = ""
    origin_id: str = ""
    author: str = ""


def read(place: Path, *, audio: Path | None) -> Collection:
    """Return one clip a sound in and under a folder, by path.

    Args:
        place: The folder.
        audio: Must be None: the folder itself holds the sounds.

    Raises:
        ConfigError: If the place is a file, or audio is given.
        ManifestError: If there is no sound.
    """
    if audio is not None:
        raise ConfigError(f"{audio}: the reader folder takes no --audio; name the folder of the sounds itself")
    if not place.is_dir():
        raise ConfigError(f"{place}: a file; the reader folder takes a folder, the reader csv a table")
    closed: list[str] = []
    files = sorted(_files_under(place, closed))
    sounds = [file for file in files if file.lower().endswith(SUFFIXES)]
    if not sounds:
        raise wrong_layout(place, "no file named as a sound", LAYOUT)
    source, there = own_source(place), set(files)
    used: set[str] = set()
    problems: dict[str, str] = {}
    unplaced: Counter[str] = Counter()
    entries = []
    for file in sounds:
        beside = [name for name in _sidecars(file) if name in there]
        used.update(beside)
        said = _said_beside(place, beside, problems)
        entries.append(_entry(source, file, said, problems, unplaced))
    notes = [*_notes(files, sounds, used, problems), *license_notes(unplaced)]
    if closed:
        notes.append(f"{len(closed)} folders could not be read and were left out, the first: {_readable(closed[0])}")
    return Collection(entries=entries, root=place, notes=notes)


def name_in_words(file_name: str) -> Named:
    """Return what a sound's file name tells.

    >>> name_in_words("dog_bark-01.wav").title, name_in_words("GlassBreak.wav").title
    ('dog bark 01', 'Glass Break')
    """
    stem = file_name[: -len(suffix)] if (suffix := _suffix(file_name)) else file_name
    if match := _FREESOUND.fullmatch(stem):
        number = match["id"].lstrip("0")
        return Named(_words(match["name"]), origin="freesound", origin_id=number, author=clean_text(match["author"]))
    if match := _UCS.fullmatch(stem):
        number_at = _BIGSOUNDBANK_ID.search(match["name"]) if match["maker"] == "BSB" else None
        title = _words(_BIGSOUNDBANK_ID.sub(" ", match["name"]) if number_at else match["name"])
        origin = ("bigsoundbank", f"{int(number_at[1]):04d}") if number_at else ("", "")
        return Named(title, (match["code"].lower(),), *origin)
    return Named(_words(_SOUNDBIBLE_MARK.sub("", stem)))


def _words(name: str) -> str:
    if re.search(r"%[0-9A-Fa-f]{2}", name):  # as a download may leave it
        name = unquote(name)
    words = _DOT.sub(" ", re.sub(r"[_+]|-+", " ", _JOINT.sub(" ", name)))
    return clean_text(words) or clean_text(name)


def _entry(source: str, file: str, said: dict[str, Any], problems: dict[str, str], unplaced: Counter[str]) -> Entry:
    *folders, name = _readable(file).split("/")
    named = name_in_words(name)
    fields: dict[str, Any] = {}
    description = ""
    for sidecar, value in said.items():
        if isinstance(value, str):
            description = description or clean_text(value)
            continue
        try:
            fields = fields or read_fields(value, where=_readable(sidecar), unplaced=unplaced)
        except ManifestError as error:
            problems[sidecar] = str(error)
    tags = (*fields.get("tags", ()), *_folder_tags(tuple(folders)), *named.tags)
    told = {
        "title": named.title,
        "description": description,
        "author": named.author,
        "origin": named.origin,
        "origin_id": named.origin_id,
    }
    if named.origin == "freesound":
        told["page_url"] = f"https://freesound.org/s/{named.origin_id}/"
    fields |= {name: value for name, value in told.items() if not fields.get(name)}
    fields["tags"] = tuple(dict.fromkeys(tags))
    return Entry(source=source, source_id=_readable(file), audio_file=file, **fields)


@functools.lru_cache
def _folder_tags(folders: tuple[str, ...]) -> list[str]:
    return clean_tags(map(_words, folders))


def _files_under(place: Path, closed: list[str]) -> Iterator[str]:
    """Yield every file in and under a folder, as a path relative to it, "/" only; hidden ones are left out.

    Folders in it that may not be read go into ``closed``.
    """
    if is_local(place):
        yield from _walk(place, "", {place.resolve()}, place.resolve(), closed)
        return
    files = [path.relative_to(place).as_posix() for path in place.glob("**/*")]
    folders = {file.rpartition("/")[0] for file in files}  # asking a store what each name is would take hours
    hidden = re.compile(r"(?:^|/)\.")
    yield from (file for file in files if file not in folders and not hidden.search(file))


def _walk(folder: Path, prefix: str, seen: set[Path], root: Path, closed: list[str]) -> Iterator[str]:
    try:
        with os.scandir(folder) as found:
            there = sorted((item for item in found if not item.name.startswith(".")), key=lambda item: item.name)
    except PermissionError:
        if not prefix:
            raise
        closed.append(prefix)
        return
    for item in there:
        if item.is_dir():
            path = folder / item.name
            if item.is_symlink():
                real = path.resolve()
                # Of a link into the folder itself the files are read where they are; one upwards would have no end.
                if real in seen or real.is_relative_to(root) or root.is_relative_to(real):
                    continue
                seen.add(real)
            yield from _walk(path, f"{prefix}{item.name}/", seen, root, closed)
        elif item.is_file() or item.is_symlink():  # a link to nothing is a sound that is missing
            yield prefix + item.name


def _sidecars(file: str) -> tuple[str, ...]:
    stem = file[: -len(_suffix(file))]
    return tuple(f"{name}{kind}" for kind in (".json", ".txt") for name in (stem, file))


def _suffix(file: str) -> str:
    return next((file[-len(suffix) :] for suffix in SUFFIXES if file.lower().endswith(suffix)), "")


def _said_beside(place: Path, sidecars: Sequence[str], problems: dict[str, str]) -> dict[str, Any]:
    """Return what stands in text files (text) and JSON files (an object), by their names."""
    said: dict[str, Any] = {}
    for name in sidecars:
        try:
            with (place / name).open("rb") as file:
                content = file.read(_LARGEST_SIDECAR + 1)
            if len(content) > _LARGEST_SIDECAR:
                raise ValueError(f"more than {_LARGEST_SIDECAR} bytes")
            is_utf_16 = content.startswith((b"\xff\xfe", b"\xfe\xff"))
            text = content.decode("utf-16" if is_utf_16 else "utf-8-sig")
            said[name] = _object(text) if name.endswith(".json") else text
        except (OSError, ValueError, RecursionError) as error:
            problems[name] = f"{_readable(name)}: {error}"
    return said


def _object(text: str) -> dict[str, Any]:
    found = json.loads(text)
    if not isinstance(found, dict):
        raise ValueError("must be a JSON object")
    return found


def _notes(files: Sequence[str], sounds: Sequence[str], used: set[str], problems: dict[str, str]) -> Iterator[str]:
    other = [file for file in files if not file.lower().endswith(SUFFIXES) and file not in used]
    if other:
        kinds = Counter(Path(file).suffix.lower() or "no extension" for file in other)
        named = ", ".join(f"{_readable(kind)} {count}" for kind, count in kinds.most_common(_SHOWN))
        more = f", {len(kinds) - _SHOWN} other kinds" if len(kinds) > _SHOWN else ""
        yield f"{len(other)} files are not named as sounds and were left out: {named}{more}"
    if problems:
        yield f"{len(problems)} files beside sounds could not be used, the first: {next(iter(problems.values()))}"
    if odd := sum(_readable(file) != file for file in sounds):
        yield f"{odd} sounds have names that are not UTF-8; their bytes stand as \\xNN in source_id and title"


def _readable(path: str) -> str:
    r"""Return a path as text that can be stored: bytes that are not UTF-8 as ``\xe9``."""
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
