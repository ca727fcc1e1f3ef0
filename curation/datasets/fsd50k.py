"""Reads FSD50K (Fonseca et al. 2020, arXiv:2010.00475; doi.org/10.5281/zenodo.4060432): Freesound clips with classes.

The name of a sound's file is its Freesound id, so clips join with all that comes from Freesound. Title, description,
tags, licence and uploader stand in the metadata that its publishers give beside it; without them there are the labels
alone. Labels keep the spelling of the set's vocabulary, "Electric_guitar", by which results of others join.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from curation.datasets.places import Sounds, sounds_under, title_of, wrong_layout
from curation.datasets.provenance import license_of
from curation.datasets.tables import read_json, read_table
from curation.entries import Collection, Entry
from curation.errors import ManifestError
from curation.text import clean_tags, clean_text, valid_text

LAYOUT = """\
FSD50K.ground_truth/dev.csv       fname, labels, mids, split
FSD50K.ground_truth/eval.csv      fname, labels, mids; one of the two may be missing
FSD50K.dev_audio/<fname>.wav
FSD50K.eval_audio/<fname>.wav
FSD50K.metadata/dev_clips_info_FSD50K.json     title, description, tags, license, uploader by fname (optional)
FSD50K.metadata/eval_clips_info_FSD50K.json
or dev.csv or eval.csv alone: labels only
"""

PUBLISHED = {"dev": 40_966, "eval": 10_231}
"""Clips of version 1.0."""

_COLUMNS = ("fname", "labels", "mids")
_SPLITS = ("train", "val")  # of the dev part; the eval part is the test set


def read(place: Path, *, audio: Path | None) -> Collection:
    """Return the clips of both parts, dev first; a clip whose audio is not there has the audio_file where it should be.

    Args:
        place: The folder as LAYOUT has it, or dev.csv or eval.csv alone.
        audio: The folder in or under which the sounds lie.

    Raises:
        ManifestError: If files are missing or not as published; names file, line and column.
    """
    folder = place / "FSD50K.ground_truth"
    tables = {"dev": folder / "dev.csv", "eval": folder / "eval.csv"} if place.is_dir() else {"": place}
    if not any(table.is_file() for table in tables.values()):
        raise wrong_layout(place, "no FSD50K.ground_truth/dev.csv or eval.csv", LAYOUT)
    root = audio if audio is not None else (place if place.is_dir() else None)
    sounds = sounds_under(root)
    notes: list[str] = []
    entries: list[Entry] = []
    for part, table in tables.items():
        if not table.is_file():
            notes.append(f"no {table.name}: the clips of {part} are left out")
            continue
        found = _read_part(table, sounds, notes)
        if part and len(found) != PUBLISHED[part]:
            notes.append(f"{part} has {len(found)} clips, {PUBLISHED[part]} in version 1.0 as published")
        entries += found
    counts = Counter(entry.source_id for entry in entries)
    if repeated := [fname for fname, count in counts.items() if count > 1]:
        raise ManifestError(f"{place}: fname {repeated[0]} stands there {counts[repeated[0]]} times, must be once")
    return Collection(entries=entries, root=root, keep_duplicates=True, notes=notes)


def _read_part(table: Path, sounds: Sounds, notes: list[str]) -> list[Entry]:
    rows = list(read_table(table, required=_COLUMNS))
    part = "dev" if rows and "split" in rows[0][1] else "eval"
    info_file = table.parent.parent / "FSD50K.metadata" / f"{part}_clips_info_FSD50K.json"
    infos = _read_infos(info_file) if info_file.is_file() else {}
    entries = []
    for line, row in rows:
        fname = row["fname"].strip()
        audio_file = sounds.find(fname) or f"FSD50K.{part}_audio/{fname}.wav"
        entries.append(_entry(row, infos.get(fname, {}), audio_file, where=f"{table}: line {line}"))
    if not infos:
        notes.append(f"no {info_file.name}: the clips of {part} have labels, but no other text and no licence")
    elif bare := sum(entry.source_id not in infos for entry in entries):
        notes.append(f"{bare} clips of {part} are not in {info_file.name}")
    unknown = Counter(entry.license_url for entry in entries if entry.license_url and entry.license == "unknown")
    notes += [f"licence {url} has no name in the list: {count} clips of {part}" for url, count in unknown.items()]
    return entries


def _entry(row: dict[str, str], info: dict[str, Any], audio_file: str, *, where: str) -> Entry:
    fname, split = row["fname"].strip(), row.get("split", "test")
    labels = tuple(label for label in map(str.strip, row["labels"].split(",")) if label)
    if not (fname.isascii() and fname.isdigit()):
        raise ManifestError(f"{where}: fname is {row['fname']!r}, must be a Freesound id")
    if "split" in row and split not in _SPLITS:
        raise ManifestError(f"{where}: split is {split!r}, must be train or val")
    if not labels:
        raise ManifestError(f"{where}: labels is empty, must name a class")
    license_url = _text(info, "license")
    return Entry(
        source="fsd50k",
        source_id=fname,
        origin="freesound",
        origin_id=fname,
        page_url=f"https://freesound.org/s/{fname}/",
        title=clean_text(title_of(_text(info, "title"))),
        description=clean_text(_text(info, "description")),
        tags=tuple(clean_tags(map(str, info.get("tags") or ()))),
        labels=labels,
        author=clean_text(_text(info, "uploader")),
        license=license_of(license_url),
        license_url=license_url,
        split=split,
        audio_file=audio_file,
    )


def _read_infos(file: Path) -> dict[str, dict[str, Any]]:
    infos = read_json(file)
    if not isinstance(infos, dict) or not all(isinstance(info, dict) for info in infos.values()):
        raise ManifestError(f"{file}: must be one object a clip, by fname, in one object")
    for fname, info in infos.items():
        if not isinstance(info.get("tags") or [], list):
            raise ManifestError(f"{file}: {fname}: tags is {info['tags']!r}, must be a list")
    return infos


def _text(info: dict[str, Any], name: str) -> str:
    return valid_text(str(info.get(name) or ""))
