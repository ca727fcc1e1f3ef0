"""Reads Clotho 2.1 (Drossos et al. 2020, arXiv:1910.09387; doi.org/10.5281/zenodo.4783391) into entries.

File names repeat across splits, so a clip's key is its split and file name: "evaluation/Santa Motor.wav". The key
keeps Clotho's own names of the splits; the column ``split`` has train, val and test for development, validation and
evaluation. The metadata are ISO-8859-1, the captions UTF-8. A file name is the sound's name on Freesound, so its stem
is the title that the attribution needs.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from curation.datasets.licenses import license_of_url
from curation.datasets.places import is_file_name, names_in, title_of, wrong_layout
from curation.datasets.tables import read_table
from curation.entries import Collection, Entry
from curation.errors import ManifestError
from curation.text import clean_tags, clean_text

LAYOUT = """\
clotho_captions_development.csv   file_name, caption_1 ... caption_5
clotho_captions_validation.csv
clotho_captions_evaluation.csv    any of the three may be missing
clotho_metadata_development.csv   file_name, keywords, sound_id, sound_link, manufacturer, license (optional)
clotho_metadata_validation.csv
clotho_metadata_evaluation.csv
development/*.wav                 the .7z archives, unpacked
validation/*.wav
evaluation/*.wav
or as aac-datasets lays it out: CLOTHO_v2.1/clotho_csv_files and CLOTHO_v2.1/clotho_audio_files/development ...;
or one captions CSV whose name tells its split (clotho_train.csv, clotho_val.csv, clotho_test.csv): text only
"""

SPLITS = {"development": "train", "validation": "val", "evaluation": "test"}
PUBLISHED = {"development": 3839, "validation": 1045, "evaluation": 1045}
"""Clips of version 2.1."""

_SPLIT_WORDS = {
    **dict.fromkeys(("development", "dev", "train"), "development"),
    **dict.fromkeys(("validation", "val"), "validation"),
    **dict.fromkeys(("evaluation", "eval", "test"), "evaluation"),
}
_CAPTIONS = tuple(f"caption_{number}" for number in range(1, 6))
_METADATA = ("file_name", "keywords", "sound_id", "sound_link", "manufacturer", "license")
_CSV_FOLDERS = ("", "clotho_csv_files", "CLOTHO_v2.1/clotho_csv_files")
_AUDIO_FOLDERS = ("{split}", "clotho_audio_files/{split}", "CLOTHO_v2.1/clotho_audio_files/{split}")


def read(place: Path, *, audio: Path | None) -> Collection:
    """Return Clotho's clips; a clip whose audio is not there has the audio_file where it should be.

    Args:
        place: The folder as LAYOUT has it, or one captions CSV.
        audio: The folder of the folders development, validation and evaluation, or that of the one split read.

    Raises:
        ManifestError: If files are missing or not as documented; names file and line.
    """
    tables = _tables(place)
    root = audio if audio is not None else (place if place.is_dir() else None)
    entries: list[Entry] = []
    notes: list[str] = []
    for split, table in tables.items():
        metadata_file = table.with_name(f"clotho_metadata_{split}.csv")
        metadata = _read_metadata(metadata_file) if metadata_file.is_file() else {}
        folder = _audio_folder(root, split, alone=len(tables) == 1)
        found = _read_split(split, table, metadata, folder)
        entries += found
        notes += _split_notes(split, found, metadata, metadata_file)
    if absent := [split for split in SPLITS if split not in tables]:
        notes.append(f"no captions of {', '.join(absent)} there")
    return Collection(entries=entries, root=root, keep_duplicates=True, notes=[*notes, *_shared_recordings(entries)])


def _tables(place: Path) -> dict[str, Path]:
    """Return the captions CSV of each split that has one, in the order of SPLITS."""
    if place.is_file():
        words = re.split(r"[^a-z]+", place.name.lower())
        split = next((_SPLIT_WORDS[word] for word in words if word in _SPLIT_WORDS), None)
        if split is None:
            raise wrong_layout(place, f"the name tells no split ({', '.join(_SPLIT_WORDS)})", LAYOUT)
        return {split: place}
    for name in _CSV_FOLDERS:
        folder = place / name if name else place
        tables = {split: folder / f"clotho_captions_{split}.csv" for split in SPLITS}
        tables = {split: table for split, table in tables.items() if table.is_file()}
        if tables:
            return tables
    raise wrong_layout(place, "no clotho_captions_development.csv, _validation.csv or _evaluation.csv", LAYOUT)


def _read_metadata(file: Path) -> dict[str, dict[str, str]]:
    """Return the rows by file name, spelled as ``_plain`` has it: captions and metadata may differ in a ":"."""
    rows: dict[str, dict[str, str]] = {}
    for line, row in read_table(file, required=_METADATA, encoding="iso-8859-1"):
        if (name := _plain(row["file_name"])) in rows:
            raise ManifestError(f"{file}: line {line}: file_name {row['file_name']!r} stands there twice")
        rows[name] = row
    return rows


def _read_split(
    split: str, table: Path, metadata: dict[str, dict[str, str]], folder: tuple[str, set[str]]
) -> list[Entry]:
    entries = {}
    for line, row in read_table(table, required=("file_name", *_CAPTIONS)):
        name = row["file_name"]
        if not is_file_name(name):
            raise ManifestError(f"{table}: line {line}: file_name is {name!r}, must be the name of a file")
        if name in entries:
            raise ManifestError(f"{table}: line {line}: file_name {name!r} stands there twice; it must be unique")
        captions = tuple(filter(None, (clean_text(row[column]) for column in _CAPTIONS)))
        entries[name] = _entry(split, name, captions, metadata.get(_plain(name), {}), _audio_file(name, *folder))
    return list(entries.values())


def _entry(split: str, name: str, captions: tuple[str, ...], about: dict[str, str], audio_file: str) -> Entry:
    sound_id, link = about.get("sound_id", "").strip(), about.get("sound_link", "").strip()
    license_url = about.get("license", "").strip()
    return Entry(
        source="clotho",
        source_id=f"{split}/{name}",
        origin="freesound",
        origin_id=sound_id
        if re.fullmatch("[0-9]+", sound_id)
        else "",  # "Not found" where the sound has left Freesound
        page_url=link if link.startswith("http") else "",
        title=clean_text(title_of(name)),
        tags=tuple(clean_tags(about.get("keywords", "").split(";"))),
        captions=captions,
        author=clean_text(about.get("manufacturer", "")),
        license=license_of_url(license_url),
        license_url=license_url if license_url.startswith("http") else "",
        split=SPLITS[split],
        audio_file=audio_file,
    )


def _audio_folder(root: Path | None, split: str, *, alone: bool) -> tuple[str, set[str]]:
    """Return the folder of a split's audio, relative to the root, with "/" at its end, and the names in it."""
    names = [name.format(split=split) for name in _AUDIO_FOLDERS]
    if root is not None:
        for name in names:
            if (root / name).is_dir():
                return f"{name}/", set(names_in(root / name))
        if alone and any(root.glob("*.wav")):
            return "", set(names_in(root))
    return f"{names[0]}/", set()


def _audio_file(name: str, folder: str, there: set[str]) -> str:
    """Return where a clip's audio lies, or should lie.

    Three file names hold ":", which no Windows disk takes: archives have "_" there, white space around it gone. Others
    begin with a blank, which unpacking may lose.
    """
    spellings = (name, re.sub(r"\s*:\s*", "_", name), name.replace(":", "_"), name.strip())
    return folder + next((spelling for spelling in spellings if spelling in there), name)


def _plain(name: str) -> str:
    return re.sub(r"\s*[:_]\s*", "_", name).strip()


def _split_notes(
    split: str, entries: list[Entry], metadata: dict[str, dict[str, str]], metadata_file: Path
) -> Iterable[str]:
    if len(entries) != PUBLISHED[split]:
        yield f"{split} has {len(entries)} clips, {PUBLISHED[split]} in version 2.1 as published"
    if not metadata:
        yield f"no {metadata_file.name}: {split} has no Freesound ids, authors, licences and tags"
        return
    names = {_plain(entry.source_id.partition("/")[2]) for entry in entries}
    if without := len(names - metadata.keys()):
        yield f"{without} clips of {split} are not in {metadata_file.name}"
    if more := len(metadata.keys() - names):
        yield f"{more} rows of {metadata_file.name} are of no clip in {split}"
    if unknown := sum(entry.origin_id == "" for entry in entries) - without:
        yield f"{unknown} clips of {split} have no Freesound id in {metadata_file.name}"


def _shared_recordings(entries: list[Entry]) -> Iterable[str]:
    splits: defaultdict[str, dict[str, None]] = defaultdict(dict)
    for entry in entries:
        if entry.origin_id:
            splits[entry.origin_id][entry.split] = None
    shared = {sound: found for sound, found in sorted(splits.items()) if len(found) > 1}
    if shared:
        named = ", ".join(f"{sound} ({' and '.join(found)})" for sound, found in list(shared.items())[:10])
        yield f"{len(shared)} Freesound recordings are in two splits: {named}"
