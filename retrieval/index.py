"""The index: one embedding a clip, a Parquet table that says which clip each row is, and the clips' texts embedded.

Opened by memory map: nothing is read until it is asked for, so a million clips open as fast as a hundred. Columns that
filters and facets want are read once, when first wanted; the clips that a result shows, by their row groups. What is
returned never changes after opening, and may be asked by several threads.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from curation.errors import ConfigError
from curation.manifest import manifest_hash
from retrieval.codes import Codes
from retrieval.layout import (
    CLIP_SCHEMA,
    TEXT_SCHEMA,
    IndexFolderError,
    IndexInfo,
    ManifestInfo,
    clips_file,
    is_readable,
    model_identity,
    read_info,
    texts_file,
    vectors_file,
)
from training.checkpoint import model_folder

if TYPE_CHECKING:
    from training.models.clap import Clap

ROW_GROUP = 1024
"""Rows of the row map that are read at once to show one."""
_GROUPS_KEPT = 128
_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@dataclass(frozen=True, slots=True, kw_only=True)
class Clip:
    """A clip of an index, as a result shows it."""

    row: int
    manifest: int
    """Number of its manifest in the index."""
    key: str
    """Unique in the index: the clip_id, with "~2" behind it where another manifest has one of the same name."""
    clip_id: str
    source: str
    source_id: str
    """Its own key there; of an imported folder, the file as the user knows it."""
    title: str
    description: str
    tags: tuple[str, ...]
    captions: tuple[str, ...]
    author: str
    license: str
    license_url: str
    attribution: str
    page_url: str
    audio_path: str
    duration_s: float
    split: str

    @property
    def name(self) -> str:
        """What to call it: its title, else its first caption, else its clip_id."""
        return self.title or next(iter(self.captions), "") or self.clip_id

    @property
    def file(self) -> str:
        """What its source calls it, such as doors/creak.wav; "" where that is a number of a page."""
        is_said = bool(self.page_url) and self.clip_id == f"{self.source}-{self.source_id}"
        return "" if is_said else self.source_id


@dataclass(frozen=True, slots=True, kw_only=True)
class Facets:
    """What an index's clips can be filtered by: each value and the number of clips that have it, most first."""

    sources: dict[str, int]
    licenses: dict[str, int]
    splits: dict[str, int]
    tags: dict[str, int]
    longest_s: float
    total_s: float


@dataclass(frozen=True, kw_only=True, eq=False)
class Index:
    """An open index.

    Attributes:
        folder: Where it lies.
        info: What it was made from.
        vectors: Unit vectors (N, D), float32 or bfloat16, memory-mapped.
        codes: The same in 8 bits, for the scan.
        text_vectors: Unit vectors (K, D) of the clips' different texts.
    """

    folder: Path
    info: IndexInfo
    vectors: Tensor
    codes: Codes
    text_vectors: Tensor
    _clips: pq.ParquetFile
    _texts: pq.ParquetFile
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _columns: dict[str, pa.ChunkedArray] = field(default_factory=dict)
    _groups: OrderedDict[int, pa.Table] = field(default_factory=OrderedDict)
    _seen: dict[str, tuple[tuple[int, int], bool]] = field(default_factory=dict)

    @classmethod
    def open(cls, folder: Path | str) -> Index:
        """Return the index that lies in a folder.

        Raises:
            IndexFolderError: If there is none, it is of another version, or its files do not belong together.
        """
        folder = Path(folder)
        info = _info(folder)
        while True:
            try:
                return cls._open(folder, info)
            except IndexFolderError:
                before, info = info, _info(folder)
                if info.key == before.key:
                    raise  # else a new index has just taken the old one's place

    @classmethod
    def _open(cls, folder: Path, info: IndexInfo) -> Index:
        try:
            with safe_open(vectors_file(folder, info.key), framework="pt") as tensors:
                index = cls(
                    folder=folder,
                    info=info,
                    vectors=tensors.get_tensor("embeddings"),
                    codes=Codes(**{name: tensors.get_tensor(name) for name in ("codes", "scale", "lost", "length")}),
                    text_vectors=tensors.get_tensor("text_embeddings"),
                    _clips=pq.ParquetFile(clips_file(folder, info.key), memory_map=True),
                    _texts=pq.ParquetFile(texts_file(folder, info.key), memory_map=True),
                )
        except (OSError, SafetensorError, pa.ArrowInvalid) as error:
            raise _damaged(folder, str(error)) from error
        index._check()
        return index

    def __len__(self) -> int:
        """Return the number of clips."""
        return self.info.num_clips

    @property
    def embeddings(self) -> np.ndarray:
        """The clips' unit vectors (N, D) as float32, read-only: the memory map, or a copy where that is bfloat16."""
        vectors = self.vectors.float().numpy()
        vectors.flags.writeable = False  # else a notebook that centres them in place would change what is searched
        return vectors

    def column(self, name: str) -> pa.ChunkedArray:
        """Return a column of the row map (layout.CLIP_SCHEMA), N values; read once.

        Raises:
            KeyError: If there is no such column.
        """
        if name not in CLIP_SCHEMA.names:
            raise KeyError(f"no column {name!r}; the row map has {', '.join(CLIP_SCHEMA.names)}")
        with self._lock:
            if name not in self._columns:
                self._columns[name] = self._clips.read([name]).column(0)
            return self._columns[name]

    def clips(self, rows: Sequence[int]) -> list[Clip]:
        """Return the clips of some rows, in the order asked.

        Raises:
            IndexError: If there is no such row.
        """
        if any(not 0 <= row < len(self) for row in rows):
            raise IndexError(f"rows must be between 0 and {len(self) - 1}")
        values: dict[int, dict[str, Any]] = {}
        for group in sorted({row // ROW_GROUP for row in rows}):
            here = [row for row in dict.fromkeys(rows) if row // ROW_GROUP == group]
            places = [row - group * ROW_GROUP for row in here]
            values |= zip(here, self._group(group).take(places).to_pylist(), strict=True)
        return [_clip(row, values[row]) for row in rows]

    def _group(self, number: int) -> pa.Table:
        """Return a row group; the last ones used are kept."""
        with self._lock:  # a ParquetFile is not for several threads
            if number not in self._groups:
                self._groups[number] = self._clips.read_row_group(number)
            self._groups.move_to_end(number)
            while len(self._groups) > _GROUPS_KEPT:
                self._groups.popitem(last=False)
            return self._groups[number]

    def row(self, key: str) -> int | None:
        """Return the row of a key, or None."""
        try:
            found = pc.index(self.column("key"), pa.scalar(key, pa.string())).as_py()
        except (pa.ArrowInvalid, UnicodeEncodeError):  # half of a surrogate pair
            return None
        return None if found < 0 else int(found)

    def facets(self) -> Facets:
        """Return what the clips can be filtered by."""
        return self._facets

    @cached_property
    def _facets(self) -> Facets:
        durations = self.column("duration_s")
        return Facets(
            sources=_counts(self.column("source")),
            licenses=_counts(self.column("license")),
            splits=_counts(self.column("split")),
            tags=_counts(pc.list_flatten(self.column("tags"))),
            longest_s=float(pc.max(durations).as_py()),
            total_s=float(pc.sum(durations).as_py()),
        )

    @cached_property
    def texts(self) -> pa.Table:
        """The K different texts, in the rows' order, with TEXT_SCHEMA."""
        return self._texts.read()

    def audio_file(self, row: int) -> Path | None:
        """Return a clip's FLAC; None where it cannot be read, or would lie outside of its manifest's ``audio``."""
        return self.audio_of(self.clips([row])[0])

    def audio_of(self, clip: Clip) -> Path | None:
        """Return what ``audio_file`` would, of a clip that is at hand."""
        folder = Path(self.info.manifests[clip.manifest].folder)
        path = (folder / clip.audio_path).resolve()
        if not path.is_relative_to((folder / "audio").resolve()):
            return None
        return path if is_readable(path) else None

    def changed(self) -> list[str]:
        """Return a sentence for all that is not as it was when the index was made, or opened; nothing: []."""
        with suppress(IndexFolderError, OSError):
            if (now := read_info(self.folder)) is not None and now.key != self.info.key:
                return [f"{self.folder.name}: the index has been made again since; start this program again to use it"]
        return self.changed_manifests()

    def changed_manifests(self) -> list[str]:
        """Return a sentence for each manifest that is not as it was when the index was made."""
        said = [self._changed(manifest) for manifest in self.info.manifests]
        return [each for each in said if each]

    def _changed(self, manifest: ManifestInfo) -> str:
        """Return what became of a manifest since; "" if nothing did. It is read once for each state of its file."""
        path = Path(manifest.file)
        name = f"{path.parent.name}/{path.name}"
        try:
            status = path.stat()
        except OSError:
            return f"{name}: the manifest is gone, and with it the sounds perhaps"
        state = status.st_size, status.st_mtime_ns
        if state == (manifest.size, manifest.mtime_ns):
            return ""
        if manifest.file not in self._seen or self._seen[manifest.file][0] != state:
            same = status.st_size == manifest.size and manifest_hash(path) == manifest.sha256
            self._seen[manifest.file] = state, same
        if self._seen[manifest.file][1]:
            return ""
        return f"{name}: the manifest has changed since it was indexed; run wavtext5k-search index again"

    def load_model(self, model: Path | str | None = None, *, device: str = "cpu") -> Clap:
        """Return the model that made this index, for embedding queries.

        Args:
            model: Its folder, where it no longer lies where it lay.
            device: Where it computes.

        Raises:
            IndexFolderError: If the model is gone, or is another one.
        """
        wanted = Path(self.info.model if model is None else model)
        try:
            folder = model_folder(wanted)
        except ConfigError as error:
            raise IndexFolderError(f"no model at {wanted}; say where this index's model lies: --model") from error
        found = model_identity(folder)
        if found != self.info.model_sha256:
            raise IndexFolderError(
                f"{folder} is not the model that made this index (SHA-256 {found[:12]}, the index was made by "
                f"{self.info.model_sha256[:12]}): scores would mean nothing; run wavtext5k-search index again"
            )
        from training.models.clap import Clap

        return Clap.from_pretrained(folder, device=device)

    def _check(self) -> None:
        """Check that the files are of one index."""
        info, shape = self.info, (self.info.num_clips, self.info.embed_dim)
        names = {*self._clips.schema_arrow.names, *self._texts.schema_arrow.names}
        if absent := [name for name in (*CLIP_SCHEMA.names, *TEXT_SCHEMA.names) if name not in names]:
            raise _damaged(self.folder, f"no column {absent[0]!r}")
        found = {tuple(self.vectors.shape), tuple(self.codes.codes.shape), (self._clips.metadata.num_rows, shape[1])}
        lengths = {len(self.codes.scale), len(self.codes.lost), len(self.codes.length)}
        if (
            found != {shape}
            or lengths != {info.num_clips}
            or {len(self.text_vectors), self._texts.metadata.num_rows} != {info.num_texts}
        ):
            raise IndexFolderError(
                f"{self.folder}: index.json speaks of {info.num_clips} clips x {info.embed_dim} and {info.num_texts} "
                f"texts, the files hold {sorted(found)}; remove the folder and make the index again"
            )
        if self.vectors.dtype != _DTYPES[info.dtype] or self.codes.codes.dtype != torch.int8:
            raise _damaged(self.folder, f"vectors of {self.vectors.dtype}")


def _info(folder: Path) -> IndexInfo:
    info = read_info(folder)
    if info is None:
        raise IndexFolderError(
            f"{folder} is not an index: it has no index.json; make one with: "
            f"wavtext5k-search index RUN MANIFEST --out {folder}"
        )
    return info


def _clip(row: int, values: dict[str, Any]) -> Clip:
    values = {name: value for name, value in values.items() if name != "sha256"}
    return Clip(row=row, **values | {name: tuple(values[name]) for name in ("tags", "captions")})


def _counts(values: pa.ChunkedArray) -> dict[str, int]:
    """Return each value and how often it is there, most first, alike ones by name."""
    counted = [(each["values"], each["counts"]) for each in pc.value_counts(values).to_pylist()]
    return dict(sorted(counted, key=lambda pair: (-pair[1], pair[0])))


def _damaged(folder: Path, reason: str) -> IndexFolderError:
    return IndexFolderError(f"{folder}: damaged ({reason}); remove the folder and make the index again")


__all__ = ["CLIP_SCHEMA", "ROW_GROUP", "TEXT_SCHEMA", "Clip", "Facets", "Index", "IndexFolderError"]
