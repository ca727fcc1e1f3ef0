"""An index's folder: its files, their names, and ``index.json``, which says what they were made from.

    index.json                      written last: naming a new key, it puts a new index in the old one's place
    vectors-<key>.safetensors       embeddings (N, D), their codes, text_embeddings (K, D)
    clips-<key>.parquet             which clip each row is: CLIP_SCHEMA
    texts-<key>.parquet             the K different texts of the clips: TEXT_SCHEMA
    faiss-<key>.index               cells for approximate search, where they were asked for
    parts/                          batches of a build that is under way, or was stopped

The key comes from the hashes of the model and of the manifests, so files of two builds never mix.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from crawler.items import open_whole
from curation.errors import WavTextError
from training.checkpoint import model_hash

INDEX_VERSION = 3
_OURS = re.compile(
    r"(vectors|embeddings|clips|texts|faiss)-(?P<key>[0-9a-f]{16})\.(safetensors|parquet|index)(\.part)?"
)
DTYPES = ("float32", "bfloat16")
"""What vectors are kept in."""

_TEXTS = pa.list_(pa.string())
CLIP_SCHEMA = pa.schema(
    [
        ("key", pa.string()),  # unique, for addresses: the clip_id; "~2" behind it where another clip has it already
        ("manifest", pa.int16()),  # number of the manifest in index.json
        ("sha256", pa.string()),  # of the clip's FLAC: one sound, one vector
        ("clip_id", pa.string()),
        ("source", pa.string()),
        ("source_id", pa.string()),  # the clip's own key there; of a folder's sounds, the file
        ("title", pa.string()),
        ("description", pa.string()),
        ("tags", _TEXTS),
        ("captions", _TEXTS),
        ("author", pa.string()),
        ("license", pa.string()),
        ("license_url", pa.string()),
        ("attribution", pa.string()),
        ("page_url", pa.string()),
        ("audio_path", pa.string()),  # relative to the manifest's folder
        ("duration_s", pa.float64()),
        ("split", pa.string()),
    ]
)
TEXT_SCHEMA = pa.schema(
    [
        ("text", pa.string()),
        ("row", pa.int64()),  # the first clip that has it
        ("clips", pa.int64()),  # how many have it
    ]
)


class IndexFolderError(WavTextError):
    """An index folder that cannot be used."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ManifestInfo:
    """A manifest that an index was made from."""

    folder: str
    """Absolute: audio_path is relative to it."""
    file: str
    """Absolute, of the Parquet table."""
    sha256: str
    size: int
    mtime_ns: int
    """Of the file when it was read: while both are the same, it is taken for unchanged."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexInfo:
    """What an index was made from: the content of ``index.json``."""

    version: int
    key: str
    """First 16 hex digits of SHA-256 over the model's and the manifests' hashes and the dtype; in the file names."""
    model: str
    """The model folder, absolute."""
    model_sha256: str
    """See ``model_identity``."""
    dtype: str
    num_clips: int
    num_texts: int
    embed_dim: int
    manifests: tuple[ManifestInfo, ...]


def model_identity(folder: Path) -> str:
    """Return the SHA-256 of what a model's vectors depend on: weights, config.json and the tokenizer's files."""
    digest = hashlib.sha256(model_hash(folder).encode())
    for file in sorted(each for each in folder.iterdir() if each.suffix in (".json", ".txt", ".model")):
        digest.update(f"{file.name} {hashlib.sha256(file.read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest()


def make_key(model_sha256: str, dtype: str, manifest_hashes: Sequence[str]) -> str:
    """Return the key of the index that these make."""
    return hashlib.sha256("\n".join((model_sha256, dtype, *manifest_hashes)).encode()).hexdigest()[:16]


def vectors_file(folder: Path, key: str) -> Path:
    """Return the file of the vectors."""
    return folder / f"vectors-{key}.safetensors"


def clips_file(folder: Path, key: str) -> Path:
    """Return the file of the row map."""
    return folder / f"clips-{key}.parquet"


def texts_file(folder: Path, key: str) -> Path:
    """Return the file of the texts."""
    return folder / f"texts-{key}.parquet"


def is_readable(audio: Path) -> bool:
    """Return whether a clip's audio is a file that is there and may be read."""
    return os.access(audio, os.R_OK) and audio.is_file()


def stale_files(folder: Path, key: str | None) -> list[Path]:
    """Return the files in a folder that are an index's, of this version or an earlier one, but not of this key."""
    found = [(file, _OURS.fullmatch(file.name)) for file in folder.iterdir()]
    return [file for file, match in found if match and match["key"] != key]


def write_info(folder: Path, info: IndexInfo) -> None:
    """Write index.json: from now on the folder holds this index."""
    with open_whole(folder / "index.json", "w") as file:
        file.write(json.dumps(asdict(info), indent=1) + "\n")


class OtherVersionError(IndexFolderError):
    """An index of another version of this code."""


def read_info(folder: Path) -> IndexInfo | None:
    """Return what an index was made from, or None where the folder holds no index.

    Raises:
        OtherVersionError: If it is of another version.
        IndexFolderError: If index.json is not one of ours.
    """
    path = folder / "index.json"
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (ValueError, RecursionError) as error:
        raise IndexFolderError(f"{path}: not JSON ({error}); remove the folder and make the index again") from error
    version = values.get("version") if isinstance(values, dict) else None
    if version is None or "model_sha256" not in values:
        raise IndexFolderError(f"{path}: not an index's; choose another folder, or remove the file")
    if version != INDEX_VERSION:
        raise OtherVersionError(
            f"{path}: index version {version}, this code reads {INDEX_VERSION}; make it again with: "
            f"wavtext5k-search index RUN MANIFEST --out {folder}"
        )
    try:
        return _info_of(values)
    except (KeyError, TypeError, ValueError) as error:
        raise IndexFolderError(f"{path}: {error}; remove the folder and make the index again") from error


def _info_of(values: dict[str, Any]) -> IndexInfo:
    manifests = tuple(ManifestInfo(**each) for each in values.pop("manifests"))
    info = IndexInfo(manifests=manifests, **values)
    _check(info)
    for manifest in manifests:
        _check(manifest)
    if not manifests or info.dtype not in DTYPES or not info.key.isalnum():
        raise ValueError("it names no manifest, an unknown dtype or no key")
    return info


def _check(info: IndexInfo | ManifestInfo) -> None:
    """Check that strings and whole numbers are such."""
    for name, kind in type(info).__annotations__.items():
        value = getattr(info, name)
        if kind in ("str", "int") and type(value).__name__ != kind:
            raise ValueError(f"{name} must be {kind}, got {value!r}")
