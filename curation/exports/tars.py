"""WebDataset shards: tars in which ``<key>.flac``, ``<key>.json`` and ``<key>.txt`` stand together, one clip a key.

Laid out for the two trainers that read such tars. LAION-CLAP finds them by ``<split>/sizes.json`` (and calls the
validation split "valid"); it takes "text", a list, and "tag" of the JSON. open_clip counts clips by the same file and
draws one of "text". Clips stand in the order of a hash: readers shuffle within a buffer of a few thousand clips, and in
the order of clip_id that would be clips of one source and one subject.
"""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Iterable, Mapping, Sequence
from typing import IO

from curation.exports.shards import ExportedClip, Shard, ShardWriter, numbered
from curation.front_matter import hub_features
from curation.manifest import SCHEMA

SHARDS = "{folder}/{folder}-{{number:06d}}.tar"
SIZES_FILE = "sizes.json"


README_FEATURES: list[dict[str, object]] = [
    {"name": "flac", "dtype": "audio"},
    {
        "name": "json",
        "struct": [
            {"name": "text", "list": "string"},
            {"name": "tag", "list": "string"},
            {"name": "original_data", "struct": hub_features(SCHEMA)},
        ],
    },
    {"name": "txt", "dtype": "string"},
    {"name": "__key__", "dtype": "string"},
    {"name": "__url__", "dtype": "string"},
]
"""For README.md: from the tars alone ``datasets`` guesses, and fails where the first five clips have no tags."""


def split_folder(split: str, splits: Iterable[str]) -> str:
    """Return the folder of a split: its name, or "valid" for val unless that is another split's."""
    return "valid" if split == "val" and "valid" not in splits else split


def plan_tars(parts: Sequence[list[int]], split: str, folder: str) -> list[Shard]:
    """Return the shards of one split."""
    return numbered(parts, split, SHARDS.format(folder=folder))


def shuffled(rows: Sequence[int], clip_ids: Sequence[str]) -> list[int]:
    """Return rows in the order of a hash of their clip_id, which another clip does not change."""
    return sorted(rows, key=lambda row: hashlib.sha256(clip_ids[row].encode()).digest())


def key_of(clip_id: str) -> str:
    """Return a clip's key in a tar: readers take what follows the first "." for the kind of file.

    >>> key_of("freesound-1.b")
    'freesound-1%2Eb'
    """
    return clip_id.replace(".", "%2E")  # no clip_id has a "%" in it, so no two clips have one key


def sizes_files(shards: Iterable[Shard]) -> dict[str, bytes]:
    """Return the content of each split's sizes.json by its name: how many clips there are in each tar."""
    folders: dict[str, dict[str, int]] = {}
    for shard in shards:
        folder, _, name = shard.name.rpartition("/")
        folders.setdefault(folder, {})[name] = len(shard.rows)
    return {f"{folder}/{SIZES_FILE}": json.dumps(sizes, indent=1).encode() for folder, sizes in folders.items()}


class TarShard:
    """One shard; the same clips give the same bytes."""

    def __init__(self, file: IO[bytes]) -> None:
        self._tar = tarfile.TarFile(fileobj=file, mode="w", format=tarfile.PAX_FORMAT)

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(self, *error: object) -> None:
        self._tar.close()

    def write(self, clips: Sequence[ExportedClip]) -> None:
        """Append clips."""
        for clip in clips:
            if clip.audio is None or not clip.texts:
                raise ValueError(f"{clip.row['clip_id']}: a clip in a tar has sound and text")
            key = key_of(clip.row["clip_id"])
            self._add(f"{key}.flac", clip.audio)
            self._add(f"{key}.json", json.dumps(_description(clip), ensure_ascii=False).encode())
            self._add(f"{key}.txt", clip.texts[0].encode())

    def _add(self, name: str, content: bytes) -> None:
        header = tarfile.TarInfo(name)  # time, owner and group are 0
        header.size = len(content)
        self._tar.addfile(header, io.BytesIO(content))


def _description(clip: ExportedClip) -> Mapping[str, object]:
    """Return a clip's JSON, in the form of the LAION audio data sets: all that is neither text nor tag is original."""
    row = clip.row
    return {"text": clip.texts, "tag": list(dict.fromkeys([*row["tags"], *row["labels"]])), "original_data": row}
