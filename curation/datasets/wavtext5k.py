"""Reads WavText5K as its authors published it: one CSV of 4,525 rows that names pages, downloads and texts.

A clip's source is the site that its page is of, and its source_id the site's own, so a clip has one clip_id whether
it comes from here or from a crawl. Sounds are looked for under the CSV's own file names, which hold a position in a
listing of 2022, and under the names that a crawl gives them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from curation.datasets.places import is_file_name, wrong_layout
from curation.datasets.provenance import origin_of
from curation.datasets.tables import read_table
from curation.entries import Collection, Entry
from curation.errors import ManifestError
from curation.text import clean_tags, clean_text

TABLE = "WavText5K.csv"
LAYOUT = """\
WavText5K.csv                        view_link, download_link, title, description, fname, tags
audio/<fname>
or audio/<source>-<id>.<extension>   such as audio/soundbible-2083.mp3
or <source>/audio/<id>.<extension>   as a crawl leaves them
or WavText5K.csv alone: text only
"""

_COLUMNS = ("view_link", "download_link", "title", "description", "fname", "tags")
_SITES = ("soundbible", "bigsoundbank")
_ITEM = re.compile(
    r"""\s*(?:(?P<string>'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")|(?P<element><(?P<name>\w+)\b.*?</(?P=name)>))\s*(,|$)""",
    re.S,
)


def read(place: Path, *, audio: Path | None) -> Collection:
    """Return the clips of the published list, in its order; one without audio has the audio_file where it should be.

    Args:
        place: The folder as LAYOUT has it, or the CSV alone.
        audio: The folder that holds the sounds, or the folder "audio", or one folder a site.

    Raises:
        ManifestError: If the file is missing or no such list, or a row is of no known site; names file and line.
    """
    file = place / TABLE if place.is_dir() else place
    if not file.is_file():
        raise wrong_layout(place, f"no {TABLE}", LAYOUT)
    root = audio if audio is not None else (place if place.is_dir() else None)
    sounds = _sounds(root) if root is not None else {}
    line_of: dict[str, int] = {}
    entries = []
    for line, row in read_table(file, required=_COLUMNS):
        entry = _entry(row, sounds, where=f"{file}: line {line}")
        first = line_of.setdefault(entry.clip_id, line)
        if first != line:
            raise ManifestError(f"{file}: line {line}: {entry.clip_id} is the clip of line {first} already")
        entries.append(entry)
    notes = ["the CSV names no licence, so every clip's is unknown; a crawl of the two sites finds them"]
    return Collection(entries=entries, root=root, keep_duplicates=True, notes=notes)


def _entry(row: Mapping[str, str], sounds: Mapping[str, str], *, where: str) -> Entry:
    page_url = row["view_link"].strip()
    source, source_id = origin_of(page_url)
    if source not in _SITES:
        raise ManifestError(f"{where}: view_link is {page_url[:80]!r}, must be a sound's page of {' or '.join(_SITES)}")
    fname = row["fname"].strip()
    if not is_file_name(fname):
        raise ManifestError(f"{where}: fname is {row['fname'][:80]!r}, must be the name of a file")
    names = (fname, Path(fname).stem, f"{source}-{source_id}", f"{source}/{source_id}")
    return Entry(
        source=source,
        source_id=source_id,
        origin=source,
        origin_id=source_id,
        page_url=page_url,
        audio_url=row["download_link"].strip(),
        title=clean_text(row["title"]),
        description=clean_text(row["description"]),
        tags=tuple(clean_tags(parse_tags(row["tags"], where=where))),
        audio_file=next((sounds[name] for name in names if name in sounds), f"audio/{fname}"),
    )


def parse_tags(text: str, *, where: str) -> list[str]:
    """Return the tags in the text of a Python list.

    In three rows the raw HTML of a tag stands in the list, unquoted, before the string that says the same; an element
    says the tag that its text is, and ``clean_tags`` then makes one of two.

    Args:
        text: ``['wind', 'storm']``, or blank.
        where: File and line, for errors.

    Raises:
        ManifestError: If it is no such list; names the character.
    """
    text = text.strip()
    if not text:
        return []
    if not (text.startswith("[") and text.endswith("]")):
        raise ManifestError(f"{where}: tags is {text[:80]!r}, must be a list like ['wind', 'storm']")
    tags, at, end = [], 1, len(text) - 1
    while text[at:end].strip():
        item = _ITEM.match(text, at, end)
        if item is None:
            raise ManifestError(f"{where}: tags: character {at + 1} must begin a tag in quotes: {text[at : at + 40]!r}")
        at = item.end()
        # clean_tags takes the markup out of an element, icons and all, and leaves its text.
        tags.append(item["element"] or re.sub(r"\\(.)", r"\1", item["string"][1:-1], flags=re.S))
    return tags


def _sounds(root: Path) -> dict[str, str]:
    """Return the sounds under a root, relative to it, by name, by name without extension and by "<source>/<id>"."""
    found: dict[str, str] = {}
    folders = {"": "", "audio": "", **{site: f"{site}/" for site in _SITES}}
    folders |= {f"{site}/audio": f"{site}/" for site in _SITES}
    for folder, prefix in folders.items():
        if not (root / folder).is_dir():
            continue
        for name in sorted(path.name for path in (root / folder).iterdir() if not path.name.startswith(".")):
            relative = f"{folder}/{name}".lstrip("/")
            found.setdefault(prefix + name, relative)
            found.setdefault(prefix + Path(name).stem, relative)
    return found
