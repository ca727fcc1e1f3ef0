"""Reads AudioCaps 1 and 2 (Kim et al. 2019, aclanthology.org/N19-1011; github.com/cdjkim/audiocaps) into entries.

A table has one row a caption; rows of one youtube_id and start_time are one clip: 49,838 in train with one caption
each, 495 in val and 975 in test with five. The two versions are told apart by the text only, so a folder may hold one
of them. The audio is 10 s of a YouTube video that everybody fetches alone, names as they like, and misses 10 to 25 %
of: see LAYOUT for the names known here. Each video has a licence of its own, which the tables do not tell.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from curation.datasets.places import Sounds, names_in, sounds_under, wrong_layout
from curation.datasets.tables import read_table
from curation.entries import Collection, Entry
from curation.errors import ManifestError
from curation.text import clean_text

LAYOUT = """\
train.csv, val.csv, test.csv      audiocap_id, youtube_id, start_time, caption; any of the three may be missing;
                                  also in dataset/, dataset2.0/ or AUDIOCAPS/, or named audiocaps_v1_train.csv,
                                  audiocaps_v2_val.csv, train_v2.csv, train_fixed.csv; one version in one folder
<any folders>/<name>.<suffix>     audio; a folder named train, val or test holds that split's; <name> is the first of
                                  <youtube_id>_<start>              (as aac-datasets: audio_32000Hz/train/*.flac)
                                  <youtube_id>_<start>_<end>        (in seconds, or in milliseconds)
                                  Y<youtube_id>_<start>, <youtube_id>, Y<youtube_id>, <audiocap_id>
or one of the tables: text only
"""

PUBLISHED = {"train": (49838, 91254, 91256), "val": (495,), "test": (975,)}
"""Clips of a split: of version 1, and of version 2, whose train.csv has 91,254 of the 91,256 that its README counts."""

_TABLE = re.compile(r"(?:audiocaps_)?(?:v[12]_)?(train|val|test)(?:_v[12]|_fixed)?\.csv", re.I)
_SPLIT = re.compile(r"(?<![a-z])(train|val|test)(?![a-z])", re.I)
_FOLDERS = ("", "AUDIOCAPS", "dataset", "dataset2.0")
_YOUTUBE_ID = re.compile(r"[A-Za-z0-9_-]+")


@dataclass(slots=True)
class _Clip:
    youtube_id: str
    start: str
    audiocap_ids: list[str] = field(default_factory=list)
    captions: list[str] = field(default_factory=list)


def read(place: Path, *, audio: Path | None) -> Collection:
    """Return AudioCaps' clips; a clip whose audio is not there has the audio_file where it should be.

    Args:
        place: The folder as LAYOUT has it, or one table.
        audio: The folder in and under which the audio lies, if not the same.

    Raises:
        ManifestError: If files are missing or not as documented; names file and line.
    """
    tables = _tables(place)
    root = audio if audio is not None else (place if place.is_dir() else None)
    sounds = sounds_under(root)
    entries: list[Entry] = []
    notes: list[str] = []
    for split, table in tables.items():
        clips = _read_clips(table)
        in_split = sounds.below(split)
        entries += [_entry(clip, split, _audio_file(clip, split, in_split, sounds)) for clip in clips]
        if len(clips) not in PUBLISHED[split]:
            published = ", ".join(map(str, PUBLISHED[split]))
            notes.append(f"{split} has {len(clips)} clips; as published: {published}")
    _check_unique(entries, tables)
    return Collection(entries=entries, root=root, keep_duplicates=True, notes=[*notes, *_alike_but_for_case(entries)])


def _tables(place: Path) -> dict[str, Path]:
    """Return the table of each split that has one."""
    if place.is_file():
        if (found := _SPLIT.search(place.stem)) is None:
            raise wrong_layout(place, "the name tells no split (train, val, test)", LAYOUT)
        return {found[1].lower(): place}
    folders = [folder for name in _FOLDERS if (folder := place / name if name else place).is_dir()]
    found_tables: dict[str, list[Path]] = {"train": [], "val": [], "test": []}
    for folder in folders:
        for name in names_in(folder):
            if named := _TABLE.fullmatch(name):
                found_tables[named[1].lower()].append(folder / name)
    for split, tables in found_tables.items():
        if len(tables) > 1:
            named_tables = ", ".join(str(table.relative_to(place)) for table in tables)
            raise ManifestError(
                f"{place}: {len(tables)} tables of {split}: {named_tables}; one version at a time: name the folder of "
                "one, or one table with --audio FOLDER, or move the others away"
            )
    if not any(found_tables.values()):
        raise wrong_layout(place, "no train.csv, val.csv or test.csv", LAYOUT)
    return {split: tables[0] for split, tables in found_tables.items() if tables}


def _read_clips(table: Path) -> list[_Clip]:
    clips: dict[tuple[str, str], _Clip] = {}
    for line, row in read_table(table, required=("youtube_id", "start_time", "caption")):
        youtube_id, start = row["youtube_id"].strip(), row["start_time"].strip()
        if not _YOUTUBE_ID.fullmatch(youtube_id):
            raise ManifestError(f"{table}: line {line}: youtube_id is {youtube_id!r}, must be letters, digits, _ and -")
        if not re.fullmatch(r"\d+(\.\d+)?", start):
            raise ManifestError(f"{table}: line {line}: start_time is {start!r}, must be a number of seconds")
        start = _plain(float(start))
        clip = clips.setdefault((youtube_id, start), _Clip(youtube_id, start))
        clip.audiocap_ids.append(row.get("audiocap_id", "").strip())
        if caption := clean_text(row["caption"]):
            clip.captions.append(caption)
    return list(clips.values())


def _entry(clip: _Clip, split: str, audio_file: str) -> Entry:
    return Entry(
        source="audiocaps",
        source_id=f"{clip.youtube_id}_{clip.start}",
        origin="youtube",
        origin_id=clip.youtube_id,
        page_url=f"https://www.youtube.com/watch?v={clip.youtube_id}",
        captions=tuple(clip.captions),
        split=split,
        audio_file=audio_file,
    )


def _audio_file(clip: _Clip, split: str, in_split: Sounds, sounds: Sounds) -> str:
    names = list(_file_names(clip))
    return in_split.find(*names) or sounds.find(*names) or f"{split}/{names[0]}.flac"


def _file_names(clip: _Clip) -> Iterator[str]:
    begin = float(clip.start)
    yield f"{clip.youtube_id}_{clip.start}"
    yield f"{clip.youtube_id}_{clip.start}_{_plain(begin + 10)}"
    yield f"{clip.youtube_id}_{_plain(begin * 1000)}_{_plain(begin * 1000 + 10_000)}"
    yield f"Y{clip.youtube_id}_{clip.start}"
    yield clip.youtube_id
    yield f"Y{clip.youtube_id}"
    yield from filter(None, clip.audiocap_ids)


def _plain(seconds: float) -> str:
    return str(int(seconds)) if seconds == int(seconds) else str(seconds)


def _check_unique(entries: Sequence[Entry], tables: dict[str, Path]) -> None:
    splits: dict[str, str] = {}
    for entry in entries:
        if (earlier := splits.setdefault(entry.source_id, entry.split)) != entry.split:
            raise ManifestError(
                f"{tables[entry.split]}: clip {entry.source_id} is also in {tables[earlier].name}; "
                "a clip is in one split: are the two tables of one version?"
            )


def _alike_but_for_case(entries: Sequence[Entry]) -> Iterable[str]:
    """Say which clips would share a file on a disk that ignores case (macOS, Windows)."""
    keys: dict[str, str] = {}
    for entry in entries:
        if (other := keys.setdefault(entry.source_id.lower(), entry.source_id)) != entry.source_id:
            yield f"{other} and {entry.source_id} differ by case only: keep their files on a disk that minds case"
