"""Reads WavCaps (Mei et al. 2023, arXiv:2303.17395; huggingface.co/datasets/cvssp/WavCaps) into entries.

403,050 clips of four sources, each with one caption that a language model wrote from the source's own text; that text
is kept as title, description and tags. Ids are unique within a source only, so a clip's key is both:
"FreeSound_180913". Where the recording comes from is known by id for every clip, and that matters: WavCaps holds 89 %
of Clotho, 17.6 % of AudioCaps, 1,225 clips of WavText5K and much of SoundDescs. The blacklists published with it are
not applied: ``leakage`` finds the overlap with the set at hand, and ``--opt-out`` leaves clips out by id.
"""

from __future__ import annotations

import ast
import dataclasses
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from curation.datasets.places import Sounds, is_file_name, sounds_under, title_of, wrong_layout
from curation.datasets.tables import read_json
from curation.entries import Collection, Entry
from curation.errors import ManifestError
from curation.text import clean_tags, clean_text, valid_text

LAYOUT = """\
json_files/AudioSet_SL/as_final.json           {"data": [{"id", "caption", ...}]}; any of the four may be missing,
json_files/BBC_Sound_Effects/bbc_final.json    and they may lie in <source>/ or beside each other
json_files/FreeSound/fsd_final.json
json_files/SoundBible/sb_final.json
<any folders>/<source>/<any folders>/<id>.flac the split archives, joined with zip -FF and unpacked; <source> as above,
                                               or <source>_flac
or one of the JSON files: text only
"""


@dataclass(frozen=True, slots=True)
class _Source:
    name: str
    json_name: str
    published: int
    origin: str
    origin_id: Callable[[str], str] = str
    page: str = ""
    """Goes before href, or before the origin_id where there is no href."""
    license: str = "unknown"
    license_url: str = ""


def _video(wavcaps_id: str) -> str:
    return wavcaps_id.removeprefix("Y").removesuffix(".wav")


SOURCES = (
    _Source("AudioSet_SL", "as_final.json", 108_317, "youtube", _video, "https://www.youtube.com/watch?v="),
    _Source(
        "BBC_Sound_Effects",
        "bbc_final.json",
        31_201,
        "bbc",
        str.upper,
        license="remarc",
        license_url="https://sound-effects.bbcrewind.co.uk/licensing",
    ),
    _Source("FreeSound", "fsd_final.json", 262_300, "freesound", page="https://freesound.org"),
    _Source("SoundBible", "sb_final.json", 1_232, "soundbible", page="https://soundbible.com/"),
)


def read(place: Path, *, audio: Path | None) -> Collection:
    """Return WavCaps' clips; a clip whose audio is not there has the audio_file where it should be.

    Args:
        place: The folder as LAYOUT has it, or one JSON file.
        audio: The folder in and under which the audio lies, if not the same.

    Raises:
        ManifestError: If files are missing or not as documented (a Git LFS pointer, say); names file and place in it.
    """
    files = _json_files(place)
    root = audio if audio is not None else (place if place.is_dir() else None)
    sounds = sounds_under(root)
    entries: list[Entry] = []
    notes = [
        "captions are by a language model, not by people",
        "for academic use only, by its authors; licences of single sounds are not told",
    ]
    for source, file in files.items():
        below = sounds.below(source.name, f"{source.name}_flac")
        if len(files) == 1 and not len(below):
            below = sounds  # one source alone may lie anywhere
        found = _read_source(source, file, below)
        entries += found.values()
        if len(found) != source.published:
            notes.append(f"{source.name} has {len(found)} clips; as published: {source.published}")
    return Collection(entries=entries, root=root, keep_duplicates=True, notes=notes)


def _json_files(place: Path) -> dict[_Source, Path]:
    """Return the JSON file of each source that has one."""
    if place.is_file():
        named = [
            source for source in SOURCES if place.name.endswith(source.json_name) or place.parent.name == source.name
        ]
        if not named:
            names = ", ".join(source.json_name for source in SOURCES)
            raise wrong_layout(place, f"the name tells no source ({names})", LAYOUT)
        return {named[0]: place}
    files = {}
    for source in SOURCES:
        folders = ("", source.name, "json_files", f"json_files/{source.name}", f"data/json_files/{source.name}")
        candidates = (place / folder / source.json_name for folder in folders)
        if (file := next((file for file in candidates if file.is_file()), None)) is not None:
            files[source] = file
    if not files:
        raise wrong_layout(place, f"no {' or '.join(source.json_name for source in SOURCES)}", LAYOUT)
    return files


def _read_source(source: _Source, file: Path, sounds: Sounds) -> dict[str, Entry]:
    entries: dict[str, Entry] = {}
    for where, item in _items(file):
        key = item.get("id")
        key = str(key) if isinstance(key, int) else key
        if not (isinstance(key, str) and is_file_name(key) and key.isascii()):
            raise ManifestError(f"{where}: id is {key!r:.60}, must be a text that can name a file")
        entry = _entry(source, key, item, sounds, where)
        earlier = entries.setdefault(key, entry)
        if earlier is not entry:  # one recording, captioned again
            captions = tuple(dict.fromkeys(earlier.captions + entry.captions))
            entries[key] = dataclasses.replace(earlier, captions=captions)
    return entries


def _items(file: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    content = read_json(file)
    items = content.get("data") if isinstance(content, dict) else None
    if not isinstance(items, list):
        raise wrong_layout(file, 'no list under "data"', LAYOUT)
    for number, item in enumerate(items):
        where = f"{file}: data[{number}]"
        if not isinstance(item, dict):
            raise ManifestError(f"{where}: must be an object, found {item!r:.60}")
        yield where, item


def _entry(source: _Source, key: str, item: Mapping[str, Any], sounds: Sounds, where: str) -> Entry:
    if "caption" not in item:
        raise ManifestError(f"{where} (id {key}): caption is missing; found {', '.join(map(str, item))}")
    stem = key.removesuffix(".wav")
    origin_id = source.origin_id(key)
    caption = clean_text(_text(item, "caption", where))
    return Entry(
        source="wavcaps",
        source_id=f"{source.name}_{stem}",
        origin=source.origin,
        origin_id=origin_id,
        page_url=_page(source, origin_id, _text(item, "href", where)),
        audio_url=_text(item, "download_link", where),
        title=clean_text(_text(item, "title", where) or title_of(_text(item, "file_name", where))),
        description=clean_text(_text(item, "description", where)),
        tags=tuple(clean_tags(_tags(item, where))),
        captions=(caption,) if caption else (),
        author=clean_text(_text(item, "author", where)),
        license=source.license,
        license_url=source.license_url,
        audio_file=sounds.find(stem) or f"Audio/{source.name}/{stem}.flac",
    )


def _page(source: _Source, origin_id: str, href: str) -> str:
    if not source.page or "://" in href:
        return href
    if source.origin == "youtube":
        return source.page + origin_id
    return source.page + href if href else ""


def _text(item: Mapping[str, Any], name: str, where: str) -> str:
    """Return a text of an item, "" where it has none."""
    value = item.get(name)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise ManifestError(f"{where}: {name} must be a text, found {value!r:.60}")
    return valid_text(value)


def _tags(item: Mapping[str, Any], where: str) -> list[str]:
    """Return tags, or the BBC's categories, which stand there as the text of a Python list: "['Machines']"."""
    tags = item.get("tags")
    if tags is None:
        category = _text(item, "category", where)
        try:
            tags = ast.literal_eval(category) if category.startswith("[") else [category]
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            tags = [category]
    if not (isinstance(tags, list) and all(isinstance(tag, str) for tag in tags)):
        raise ManifestError(f"{where}: tags must be a list of texts, found {tags!r:.60}")
    return [valid_text(tag) for tag in tags]
