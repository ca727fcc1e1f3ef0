"""The index: one embedding a clip, beside a Parquet table that says which clip each row is.

Reads a run's ``model/`` and a manifest; writes ``index.json`` (what it was made from), ``embeddings-<key>.safetensors``
and ``clips-<key>.parquet``. The key comes from the model's and the manifest's hashes, and ``index.json`` is written
last: a new index takes the place of the old one in a single rename, and a query can refuse a model that did not make
the vectors it is about to be compared with.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from crawler.items import open_whole
from curation.errors import ConfigError, WavTextError
from curation.manifest import manifest_folder, manifest_hash, read_manifest
from training.checkpoint import model_folder, model_hash

if TYPE_CHECKING:
    from training.models.clap import Clap

INDEX_VERSION = 1
CLIP_COLUMNS = (
    "clip_id",
    "source",
    "title",
    "description",
    "tags",
    "author",
    "license",
    "attribution",
    "page_url",
    "audio_path",
    "duration_s",
    "split",
)
"""What a result shows, and what it can be filtered by: enough to show it without the manifest."""


class IndexFolderError(WavTextError):
    """An index folder that cannot be used."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexInfo:
    """What an index was made from: the content of ``index.json``."""

    version: int
    key: str
    """First 16 hex digits of SHA-256 over model_sha256 and manifest_sha256; part of the file names."""
    model: str
    """The model folder, absolute."""
    model_sha256: str
    manifest: str
    """The manifest's folder, absolute: audio_path is relative to it."""
    manifest_sha256: str
    num_clips: int
    embed_dim: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Index:
    """An open index.

    Attributes:
        info: What it was made from.
        embeddings: Unit vectors (N, D), float32.
        clips: The N clips, in the rows' order, with CLIP_COLUMNS.
    """

    info: IndexInfo
    embeddings: np.ndarray
    clips: pa.Table

    @classmethod
    def open(cls, folder: Path | str) -> Index:
        """Return the index that lies in a folder.

        Raises:
            IndexFolderError: If there is none, it is of another version, or its files do not belong together.
        """
        folder = Path(folder)
        info = read_info(folder)
        if info is None:
            raise IndexFolderError(
                f"{folder} is not an index: it has no index.json; make one with: "
                f"wavtext5k-search index RUN MANIFEST --out {folder}"
            )
        embeddings_file, clips_file = _files(folder, info.key)
        try:
            embeddings = load_file(embeddings_file)["embeddings"]
            clips = pq.read_table(clips_file)
        except (OSError, SafetensorError, KeyError, pa.ArrowInvalid) as error:
            raise IndexFolderError(
                f"{folder}: damaged ({error}); remove the folder and make the index again"
            ) from error
        if absent := [name for name in CLIP_COLUMNS if name not in clips.column_names]:
            raise IndexFolderError(f"{folder}: damaged (no column {absent[0]!r}); remove it and make the index again")
        if embeddings.shape != (info.num_clips, info.embed_dim) or len(clips) != info.num_clips:
            raise IndexFolderError(
                f"{folder}: index.json speaks of {info.num_clips} clips x {info.embed_dim}, the files hold "
                f"{embeddings.shape} and {len(clips)}; remove the folder and make the index again"
            )
        return cls(info=info, embeddings=embeddings, clips=clips)

    def load_model(self, model: Path | None = None) -> Clap:
        """Return the model that made this index, for embedding queries.

        Args:
            model: Its folder, where it no longer lies where it lay.

        Raises:
            IndexFolderError: If the model is gone, or is another one.
        """
        wanted = Path(self.info.model) if model is None else model
        try:
            folder = model_folder(wanted)
        except ConfigError as error:
            raise IndexFolderError(f"no model at {wanted}; say where this index's model lies: --model") from error
        found = model_hash(folder)
        if found != self.info.model_sha256:
            raise IndexFolderError(
                f"{folder} is not the model that made this index (SHA-256 {found[:12]}, the index was made by "
                f"{self.info.model_sha256[:12]}): scores would mean nothing; run wavtext5k-search index again"
            )
        from training.models.clap import Clap

        return Clap.from_pretrained(folder)


def build_index(
    run: Path, manifest: Path, out: Path, *, progress: Callable[[int, int], None] = lambda done, total: None
) -> tuple[IndexInfo, bool]:
    """Embed every clip of a manifest and write the index.

    Args:
        run: A run folder, or a model folder.
        manifest: A manifest, or its folder.
        out: The index's folder; one that holds anything but an index is refused.
        progress: Called with clips done and clips in all.

    Returns:
        What the index was made from, and whether anything had to be done.

    Raises:
        ConfigError: If the run holds no model.
        IndexFolderError: If ``out`` is something else's, the manifest holds no clip or lacks audio, or the model is
            broken.
        ManifestError: If the manifest is not one.
        AudioError: If a clip's audio cannot be decoded; no index is written then.
    """
    model_dir = model_folder(run)
    clips = read_manifest(manifest).select(CLIP_COLUMNS)
    if not len(clips):
        raise IndexFolderError(f"{manifest}: the manifest holds no clip, so there is nothing to index")
    hashes = model_hash(model_dir), manifest_hash(manifest)
    key = hashlib.sha256("".join(hashes).encode()).hexdigest()[:16]
    old = read_info(out)
    if old is None and out.is_dir() and any(out.iterdir()):
        raise IndexFolderError(f"{out} holds something that is not an index; choose another folder with --out")
    folder = manifest_folder(manifest).resolve()
    if old is not None and old.key == key and all(file.is_file() for file in _files(out, key)):
        if (old.model, old.manifest) != (str(model_dir.resolve()), str(folder)):  # moved, but the same
            old = IndexInfo(**(asdict(old) | {"model": str(model_dir.resolve()), "manifest": str(folder)}))
            _write_info(out, old)
        return old, False
    paths = [folder / path for path in clips["audio_path"].to_pylist()]
    if missing := [path for path in paths if not path.is_file()]:
        raise IndexFolderError(
            f"{manifest}: {len(missing)} of {len(paths)} audio files are missing, the first is {missing[0]}; "
            "build the manifest again, or bring its audio folder"
        )
    from training.models.clap import Clap

    model = Clap.from_pretrained(model_dir)
    embeddings = model.embed_audio(_reported(paths, progress))
    if not np.isfinite(embeddings).all():
        raise IndexFolderError(f"{model_dir}: the model gives NaN or infinity; it is broken, train it again")
    info = IndexInfo(
        version=INDEX_VERSION,
        key=key,
        model=str(model_dir.resolve()),
        model_sha256=hashes[0],
        manifest=str(folder),
        manifest_sha256=hashes[1],
        num_clips=len(clips),
        embed_dim=embeddings.shape[1],
    )
    embeddings_file, clips_file = _files(out, key)
    with open_whole(embeddings_file) as file:
        file.write(save({"embeddings": embeddings}))
    with open_whole(clips_file) as file:
        pq.write_table(clips, file)
    _write_info(out, info)
    if old is not None and old.key != key:
        for stale in _files(out, old.key):
            stale.unlink(missing_ok=True)
    return info, True


def read_info(folder: Path) -> IndexInfo | None:
    """Return what an index was made from, or None where the folder holds no index.

    Raises:
        IndexFolderError: If index.json is not one of ours, or of another version.
    """
    path = folder / "index.json"
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (ValueError, RecursionError) as error:
        raise IndexFolderError(f"{path}: not JSON ({error}); remove the folder and make the index again") from error
    version = values.get("version") if isinstance(values, dict) else None
    if version != INDEX_VERSION:
        raise IndexFolderError(
            f"{path}: index version {version}, this code reads {INDEX_VERSION}; remove the folder and make it again"
        )
    try:
        return IndexInfo(**values)
    except TypeError as error:
        raise IndexFolderError(f"{path}: {error}; remove the folder and make the index again") from error


def _reported(paths: Sequence[Path], progress: Callable[[int, int], None]) -> Iterator[Path]:
    for done, path in enumerate(paths, start=1):
        yield path
        progress(done, len(paths))


def _write_info(folder: Path, info: IndexInfo) -> None:
    with open_whole(folder / "index.json", "w") as file:
        file.write(json.dumps(asdict(info), indent=1) + "\n")


def _files(folder: Path, key: str) -> tuple[Path, Path]:
    return folder / f"embeddings-{key}.safetensors", folder / f"clips-{key}.parquet"
