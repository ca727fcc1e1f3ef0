"""Reads SoundDescs (Koepke et al. 2022, arXiv:2112.09418; github.com/akoepke/audio-retrieval-benchmark) into entries.

The catalogue text of 32,979 recordings of the BBC's archive, one each, up to 4,475 s long. The split lists say which
recordings belong to the set; descriptions of others are left out and counted. The pickles hold plain dictionaries by
id and are read as that and nothing else (``curation.datasets.pickles``); JSON of the same name and content is read in
their place. The descriptions themselves were not at hand when this was written: they are taken to be one text, or a
list of texts, by id, as the repository's own code and the other two files have it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from curation.datasets.pickles import read_plain_pickle
from curation.datasets.places import is_file_name, sounds_under, wrong_layout
from curation.datasets.tables import read_json, read_text
from curation.entries import Collection, Entry
from curation.errors import ManifestError
from curation.text import clean_tags, clean_text

LAYOUT = """\
descriptions.pkl      {id: description}, or descriptions.json; also in sounddescs_data/, as the repository has it
categories.pkl        {id: [category, ...]} (optional)
train_list.txt        ids, one a line; also in data/SoundDescs/; any of the three may be missing
val_list.txt
test_list.txt
download_links.txt    addresses, one a line (optional)
<any folders>/<id>.*  audio, whatever the case of its name: audios/<id>/<id>.wav as the repository's script unpacks it
or descriptions.pkl alone: text only, without splits
"""

PUBLISHED = {"train": 23085, "val": 4947, "test": 4947}
"""Clips of a split."""

_FOLDERS = ("", "sounddescs_data")
_LIST_FOLDERS = ("", "data/SoundDescs", "sounddescs_data")
_LICENSE_PAGE = "https://sound-effects.bbcrewind.co.uk/licensing"
_NO_CATEGORY = "none"  # what categories.pkl has for 707 ids


def read(place: Path, *, audio: Path | None) -> Collection:
    """Return SoundDescs' clips; a clip whose audio is not there has the audio_file where it should be.

    Args:
        place: The folder as LAYOUT has it, or the file of descriptions.
        audio: The folder in and under which the audio lies, if not the same.

    Raises:
        ManifestError: If files are missing or not as documented; names the file and the id or line.
    """
    folder = place if place.is_dir() else place.parent
    file = place if place.is_file() else _find(folder, "descriptions")
    if file is None:
        raise wrong_layout(place, "no descriptions.pkl or descriptions.json", LAYOUT)
    descriptions = _read_texts(file)
    categories_file = _find(folder, "categories")
    categories = _read_texts(categories_file) if categories_file is not None else {}
    splits = _read_splits(folder) if place.is_dir() else {}
    links = _read_links(folder)

    root = audio if audio is not None else (place if place.is_dir() else None)
    sounds = sounds_under(root, spelling=str.lower)
    entries = [
        Entry(
            source="sounddescs",
            source_id=key,
            origin="bbc",
            origin_id=key.upper(),  # as in the BBC's addresses
            audio_url=links.get(key.lower(), ""),
            tags=tuple(tag for tag in clean_tags(categories.get(key, [])) if tag != _NO_CATEGORY),
            captions=tuple(filter(None, map(clean_text, descriptions.get(key, [])))),
            license="remarc",
            license_url=_LICENSE_PAGE,
            split=splits.get(key, ""),
            audio_file=sounds.find(key) or f"audios/{key}/{key}.wav",
        )
        for key in splits or descriptions
    ]
    return Collection(entries=entries, root=root, keep_duplicates=True, notes=_notes(splits, descriptions, categories))


def _find(folder: Path, name: str) -> Path | None:
    files = [folder / below / f"{name}{suffix}" for below in _FOLDERS for suffix in (".pkl", ".json")]
    return next((file for file in files if file.is_file()), None)


def _read_texts(file: Path) -> dict[str, list[str]]:
    """Return the texts of each id."""
    content = read_json(file) if file.suffix == ".json" else read_plain_pickle(file)
    if not isinstance(content, dict):
        raise ManifestError(f"{file}: a {type(content).__name__}, expected a dictionary by id")
    return {_checked_key(key, file): _texts(value, f"{file}: {key!r}") for key, value in content.items()}


def _texts(value: Any, where: str) -> list[str]:
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise ManifestError(f"{where}: must be a text or a list of texts, found {value!r:.80}")
    return texts


def _checked_key(key: Any, file: Path) -> str:
    if not (isinstance(key, str) and is_file_name(key) and key.isascii()):
        raise ManifestError(f"{file}: id {key!r:.40} must be a text that can name a file")
    return key


def _read_splits(folder: Path) -> dict[str, str]:
    """Return the split of each id that a list has."""
    splits: dict[str, str] = {}
    for split in PUBLISHED:
        files = [folder / below / f"{split}_list.txt" for below in _LIST_FOLDERS]
        file = next((file for file in files if file.is_file()), None)
        for line, text in enumerate(read_text(file).splitlines() if file is not None else [], start=1):
            if not (key := text.strip()):
                continue
            if not is_file_name(key):
                raise ManifestError(f"{file}: line {line}: {key!r:.60} is no id, such as nhu05051033")
            if (earlier := splits.setdefault(key, split)) != split:
                raise ManifestError(f"{file}: line {line}: {key} is also in {earlier}; a clip is in one split")
    return splits


def _read_links(folder: Path) -> dict[str, str]:
    """Return the address of each recording by its id in small letters."""
    file = next((file for name in _FOLDERS if (file := folder / name / "download_links.txt").is_file()), None)
    links = read_text(file).split() if file is not None else []
    return {link.rsplit("/", 1)[-1].partition(".")[0].lower(): link for link in links}


def _notes(
    splits: Mapping[str, str], descriptions: Mapping[str, list[str]], categories: Mapping[str, list[str]]
) -> list[str]:
    notes = ["the BBC's RemArc licence: personal, educational and research use"]
    if not splits:
        return [*notes, "no split lists: all descriptions are read, and split by hash"]
    counts = {split: sum(found == split for found in splits.values()) for split in PUBLISHED}
    for split, count in counts.items():
        if count != PUBLISHED[split]:
            notes.append(f"{split} has {count} clips; as published: {PUBLISHED[split]}")
    if without := len(splits.keys() - descriptions.keys()):
        notes.append(f"{without} ids of the split lists have no description")
    if more := len(descriptions.keys() - splits.keys()):
        notes.append(f"{more} descriptions are of no id in the split lists and are left out")
    if not categories:
        notes.append("no categories.pkl: no tags")
    return notes
