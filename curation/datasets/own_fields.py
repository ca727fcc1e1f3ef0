"""What a person may say of an own sound, in a table's row or in a JSON file beside the sound: names and their meaning.

Each field has a few names that people and tools give it. Values are texts, or lists where a field takes several; a
list written as text is JSON, or Python's own, else parts between ";" or, where there is none, between ",".
"""

from __future__ import annotations

import ast
import hashlib
import json
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from curation.datasets.provenance import license_of, origin_of
from curation.errors import ManifestError
from curation.text import clean_tags, clean_text, valid_text

NAMES = {
    "audio": ("audio", "file", "filename", "file_name", "path", "filepath", "audio_file", "audio_path"),
    "source_id": ("source_id", "id"),
    "title": ("title", "name"),
    "description": ("description",),
    "tags": ("tags", "keywords"),
    "captions": ("captions", "caption", "text"),
    "labels": ("labels", "label", "category", "class"),
    "fold": ("fold",),
    "split": ("split",),
    "author": ("author", "artist", "creator", "username", "uploader"),
    "license": ("license", "licence"),
    "license_url": ("license_url", "licence_url"),
    "page_url": ("page_url", "url", "source_url", "link"),
    "audio_url": ("audio_url",),
    "origin": ("origin",),
    "origin_id": ("origin_id",),
}
"""What each field of an Entry may be called; ``caption_1``, ``caption_2``, ... are captions too."""

_FIELD_OF = {name: field for field, names in NAMES.items() for name in names}
_NUMBERED = re.compile(r"caption_?([0-9]{1,3})")
_TEXTS = (
    *("title", "description", "author", "fold", "split", "page_url", "audio_url", "origin", "origin_id"),
    *("license", "license_url"),
)
_SPLITS = {"training": "train", "validation": "val", "valid": "val", "testing": "test"}
_LONGEST_SLUG = 40


def field_of(name: str) -> str:
    """Return the field that a column or key stands for: "Caption 1" is "captions"; "" for one that has no meaning."""
    plain = re.sub(r"[\s-]+", "_", name.strip().lower())
    return "captions" if _NUMBERED.fullmatch(plain) else _FIELD_OF.get(plain, "")


def read_fields(said: Mapping[str, Any], *, where: str, unplaced: Counter[str]) -> dict[str, Any]:
    """Return what is said of a sound, as arguments of an Entry; audio and source_id are left to the reader.

    Args:
        said: Values by column or key; those without a meaning are passed over.
        where: File and line, for errors.
        unplaced: Counts the words for licences that the closed list has no name for.

    Raises:
        ManifestError: If a value cannot be what its name says.
    """
    found: dict[str, list[tuple[str, Any]]] = {}
    for name, value in said.items():
        if (field := field_of(name)) and value not in (None, "", []):
            found.setdefault(field, []).append((name, value))
    texts = {field: _text(*found[field][0], where=where) for field in _TEXTS if field in found}
    lists = {field: _list(*found[field][0], where=where) for field in ("tags", "labels") if field in found}
    fields: dict[str, Any] = {name: clean_text(texts.get(name, "")) for name in ("title", "description", "author")}
    fields["tags"] = tuple(clean_tags(lists.get("tags", ())))
    fields["labels"] = tuple(filter(None, map(clean_text, lists.get("labels", ()))))
    fields["captions"] = tuple(dict.fromkeys(_captions(found.get("captions", ()), where)))
    fields["fold"] = _fold(texts.get("fold", ""), where)
    fields["split"] = _split(texts.get("split", ""))
    fields |= {name: texts.get(name, "") for name in ("page_url", "audio_url")}
    fields |= _origin(texts)
    fields |= _license(texts, unplaced)
    return fields


def own_source(place: Path) -> str:
    """Return the source of own sounds: "own_" and the name of the folder that they or their table lie in.

    So sounds of two folders have two sources, and clips of both can be told apart in one index, while a folder that
    moves to another disk keeps its clip_ids. Two folders of one name need new names before they are put together.
    """
    folder = place if place.is_dir() else place.parent
    name = folder.name if folder.name not in ("", "..") else folder.resolve().name
    plain = unicodedata.normalize("NFKD", name)
    ascii_name = "".join(sign for sign in plain if sign.isascii())
    slug = re.sub(r"[^a-z0-9]+", "_", ascii_name.lower()).strip("_")
    is_cut = len(slug) > _LONGEST_SLUG or any(not unicodedata.combining(sign) and not sign.isascii() for sign in plain)
    if is_cut:  # as clip_ids do: what the cleaning makes equal, a hash keeps apart
        slug = f"{slug[:_LONGEST_SLUG]}_{hashlib.sha256(name.encode('utf-8', 'replace')).hexdigest()[:6]}".lstrip("_")
    return f"own_{slug}" if slug else "own"


def license_notes(unplaced: Counter[str]) -> list[str]:
    """Return a note on the licences that are "unknown" although something is said of them."""
    if not unplaced:
        return []
    named = ", ".join(f"{words[:60]!r} {count}" for words, count in sorted(unplaced.items())[:8])
    more = f", and {len(unplaced) - 8} more" if len(unplaced) > 8 else ""
    return [f"no name in the list of licences, so unknown: {named}{more}"]


def _text(name: str, value: Any, *, where: str) -> str:
    if _is_text(value):
        return valid_text(str(value))
    raise ManifestError(f"{where}: {name} is {str(value)[:60]}, must be text")


def _is_text(value: Any) -> bool:
    return isinstance(value, (str, int, float)) and not isinstance(value, bool)


def _list(name: str, value: Any, *, where: str) -> list[str]:
    if isinstance(value, str):
        value = _written_list(name, value, where) if value.lstrip().startswith("[") else _parts(value)
    if isinstance(value, list) and all(map(_is_text, value)):
        return [str(item) for item in value]
    raise ManifestError(f"{where}: {name} is {str(value)[:60]}, must be text or a list of texts")


def _written_list(name: str, text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        pass
    try:
        return ast.literal_eval(text.strip())  # what pandas writes: ['a', 'b']
    except (ValueError, SyntaxError, MemoryError, RecursionError) as error:
        raise ManifestError(f'{where}: {name} is {text[:60]!r}, must be a list such as ["wind", "storm"]') from error


def _parts(text: str) -> list[str]:
    return text.split(";" if ";" in text else ",")


def _captions(values: Iterable[tuple[str, Any]], where: str) -> list[str]:
    """Return captions in the order of their numbers; a sentence holds commas, so only a list with brackets is one."""

    def number(item: tuple[str, Any]) -> int:
        digits = re.search(r"[0-9]+$", item[0].strip())
        return int(digits[0]) if digits else 0

    captions: list[str] = []
    for name, value in sorted(values, key=number):
        captions += [value] if _is_sentence(name, value) else _list(name, value, where=where)
    return [cleaned for caption in captions if (cleaned := clean_text(caption))]


def _is_sentence(name: str, value: Any) -> bool:
    """Return whether a text is one caption, as "[Music]" is in a column that is not called captions."""
    if not isinstance(value, str) or not (value.lstrip().startswith("[") and value.rstrip().endswith("]")):
        return isinstance(value, str)
    if name.strip().lower() == "captions":
        return False
    try:
        return not isinstance(_written_list(name, value, ""), list)
    except ManifestError:
        return True


def _fold(text: str, where: str) -> int:
    if not text:
        return -1
    if not re.fullmatch(r"[0-9]{1,4}(\.0)?", text):  # spreadsheets write 1.0
        raise ManifestError(f"{where}: fold is {text!r}, must be a whole number, 0 or more")
    return int(text.removesuffix(".0"))


def _split(text: str) -> str:
    return _SPLITS.get(text.lower(), text.lower())


def _origin(texts: Mapping[str, str]) -> dict[str, str]:
    origin, origin_id = texts.get("origin", "").lower(), texts.get("origin_id", "")
    if not (origin and origin_id):
        origin, origin_id = origin_of(texts.get("page_url", ""))
    return {"origin": origin, "origin_id": origin_id}


def _license(texts: Mapping[str, str], unplaced: Counter[str]) -> dict[str, str]:
    words, url = texts.get("license", ""), texts.get("license_url", "")
    found = license_of(words)
    if found == "unknown":
        found = license_of(url)
    if found == "unknown" and (words or url) and words.lower() != "unknown":
        unplaced[words or url] += 1
    return {"license": found, "license_url": url or (words if words.startswith(("http://", "https://")) else "")}
