"""Builds an index: embeds what no earlier build has embedded, and puts the vectors in the manifests' order.

A vector belongs to the bytes of a clip's file (sha256, from the manifest) and to the model, so clips that an index of
the same model has already, or that a stopped build got done, are not embedded again: more clips cost what is new, and a
retitled or moved clip nothing.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch

from crawler.items import open_whole
from curation.errors import WavTextError
from curation.manifest import manifest_file, manifest_folder, manifest_hash, read_manifest
from curation.text import render_caption
from retrieval.codes import encode
from retrieval.index import ROW_GROUP, Index
from retrieval.layout import (
    CLIP_SCHEMA,
    DTYPES,
    INDEX_VERSION,
    TEXT_SCHEMA,
    IndexFolderError,
    IndexInfo,
    ManifestInfo,
    OtherVersionError,
    clips_file,
    is_readable,
    make_key,
    model_identity,
    read_info,
    stale_files,
    texts_file,
    vectors_file,
    write_info,
)
from retrieval.vectorstore import Pieces, VectorStore, write_tensors
from training.checkpoint import model_folder, read_description

if TYPE_CHECKING:
    from training.models.clap import Clap

BATCH = 256
"""Clips, or texts, embedded between two writes: what a kill costs."""
_DTYPES = {name: getattr(torch, name) for name in DTYPES}
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """What a build did."""

    info: IndexInfo
    embedded: int
    """Clips that the model heard in this run."""
    same_clips: int
    """Clips of a later manifest that an earlier one has too, under the same name, with the same sound."""
    renamed_clips: int
    """Clips of a later manifest whose clip_id another sound has in an earlier one: their keys end in ~2, ~3, ..."""
    was_built: bool
    """False: the index was up to date."""


def build_index(
    run: Path | str,
    manifests: Path | str | Sequence[Path | str],
    out: Path | str,
    *,
    dtype: str = "float32",
    device: str = "cpu",
    progress: Progress = lambda what, done, total: None,
) -> Built:
    """Embed the clips of manifests, and their texts, and write the index.

    Args:
        run: A run folder, or a model folder.
        manifests: Manifests, or their folders.
        out: The index's folder; one that holds anything but an index is refused.
        dtype: What vectors are kept in, one of layout.DTYPES; bfloat16 takes half the room, and scores move by some
            0.001.
        device: Where the model computes.
        progress: Called with "clips" or "texts", how many are done, and how many there are to do.

    Raises:
        ConfigError: If the run holds no model.
        IndexFolderError: If ``out`` is something else's, a manifest is named twice, there is no clip, or audio is
            missing or not what the manifest says.
        ManifestError: If a manifest is not one.
        AudioError: If a clip's audio cannot be decoded; finished batches are kept.
        BrokenModelError: If an embedding is not finite.
        ValueError: If dtype is another one, or no manifest is named.
    """
    if dtype not in DTYPES:
        raise ValueError(f"dtype must be one of {', '.join(DTYPES)}, got {dtype!r}")
    paths = [Path(each) for each in ([manifests] if isinstance(manifests, Path | str) else manifests)]
    if not paths:
        raise ValueError("no manifest is named: there is nothing to index")
    out, model_dir = Path(out), model_folder(Path(run)).resolve()
    read = [_manifest_info(path) for path in paths]
    sha256 = model_identity(model_dir)
    key = make_key(sha256, dtype, [each.sha256 for each in read])
    old = _index_before(out)
    if old is not None and old.key == key and _is_whole(out):
        now = replace(old, model=str(model_dir), manifests=tuple(read))
        with suppress(IndexFolderError, PermissionError), _locked(out):  # else another build is at work, or nobody may
            if (here := read_info(out)) is not None and here.key == key:
                if here != now:  # moved, but the same
                    write_info(out, now)
                _clean(out, key)  # what a kill just before the end has left
        return Built(info=now, embedded=0, same_clips=0, renamed_clips=0, was_built=False)
    clips, same = _clips(paths, read)
    if not len(clips):
        raise IndexFolderError(f"{paths[0]}: the manifest holds no clip, so there is nothing to index")
    _check_audio(clips, read)
    texts = _texts(clips, read_description(model_dir))
    from training.models.clap import Clap

    model = Clap.from_pretrained(model_dir, device=device)
    info = IndexInfo(
        version=INDEX_VERSION,
        key=key,
        model=str(model_dir),
        model_sha256=sha256,
        dtype=dtype,
        num_clips=len(clips),
        num_texts=len(texts),
        embed_dim=model.embed_dim,
        manifests=tuple(read),
    )
    with _locked(out):
        store = VectorStore(out / "parts" / f"{sha256[:16]}-{dtype}", dtype=_DTYPES[dtype])
        _take_over(store, out, model_sha256=sha256, dtype=dtype)
        embedded = _embed(store, model, clips, texts, read, progress)
        write_index(out, info, store, clips, texts)
        store.remove()
        _clean(out, key)
    renamed = pc.sum(pc.not_equal(clips["key"], clips["clip_id"])).as_py()
    return Built(info=info, embedded=embedded, same_clips=same, renamed_clips=renamed, was_built=True)


def _clean(out: Path, key: str) -> None:
    """Remove the files of indexes before this one."""
    for stale in stale_files(out, key):
        stale.unlink(missing_ok=True)


def _manifest_info(path: Path) -> ManifestInfo:
    sha256, file = manifest_hash(path), manifest_file(path).resolve()
    status = file.stat()
    return ManifestInfo(
        folder=str(manifest_folder(path).resolve()),
        file=str(file),
        sha256=sha256,
        size=status.st_size,
        mtime_ns=status.st_mtime_ns,
    )


def _index_before(out: Path) -> IndexInfo | None:
    """Return what the folder's index was made from; None where there is none, or one of another version.

    Raises:
        IndexFolderError: If the folder is something else's.
    """
    if out.exists() and not out.is_dir():
        raise IndexFolderError(f"{out} is a file; choose a folder with --out")
    try:
        old = read_info(out)
    except OtherVersionError:
        return None
    if old is None and out.is_dir():
        foreign = {each.name for each in out.iterdir()} - {"parts", *(file.name for file in stale_files(out, None))}
        if foreign - {"index.json.part"}:
            raise IndexFolderError(f"{out} holds something that is not an index; choose another folder with --out")
    return old


def _is_whole(out: Path) -> bool:
    try:
        Index.open(out)
    except IndexFolderError:
        return False
    return True


@contextmanager
def _locked(out: Path) -> Iterator[None]:
    """Keep a second build out of the folder."""
    out.mkdir(parents=True, exist_ok=True)
    folder = os.open(out, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError as error:
        raise IndexFolderError(f"{out}: another wavtext5k-search index is at work there; wait for it") from error
    finally:
        os.close(folder)


def _clips(manifests: Sequence[Path], read: Sequence[ManifestInfo]) -> tuple[pa.Table, int]:
    """Return the clips of all manifests with CLIP_SCHEMA, and how many were left out as being there already.

    Raises:
        IndexFolderError: If a manifest is named twice.
    """
    if len({each.file for each in read}) < len(read):
        raise IndexFolderError("a manifest is named twice; name each once")
    columns = [name for name in CLIP_SCHEMA.names if name not in ("key", "manifest")]
    tables, seen, same = [], dict[str, str](), 0
    for number, path in enumerate(manifests):
        table = read_manifest(path).select(columns)
        keys, kept = [], []
        names = zip(table["clip_id"].to_pylist(), table["sha256"].to_pylist(), strict=True)
        for row, (clip_id, sha256) in enumerate(names):
            key = _free(clip_id, sha256, seen)
            if key is None:
                same += 1
                continue
            seen[key] = sha256
            keys.append(key)
            kept.append(row)
        table = table.take(pa.array(kept, pa.int64()))
        table = table.append_column("key", pa.array(keys, pa.string()))
        table = table.append_column("manifest", pa.array([number] * len(kept), pa.int16()))
        tables.append(table.select(CLIP_SCHEMA.names).cast(CLIP_SCHEMA))
    return pa.concat_tables(tables), same


def _free(clip_id: str, sha256: str, seen: dict[str, str]) -> str | None:
    """Return a key for a clip that none before it has, or None if the very clip is there already."""
    key, number = clip_id, 1
    while key in seen:
        if seen[key] == sha256:
            return None
        number += 1
        key = f"{clip_id}~{number}"
    return key


def _check_audio(clips: pa.Table, read: Sequence[ManifestInfo]) -> None:
    missing = [path for path in _paths(clips, read) if not is_readable(path)]
    if missing:
        raise IndexFolderError(
            f"{len(missing)} of {len(clips)} audio files are missing or cannot be read, the first is {missing[0]}; "
            "build the manifest again, or bring its audio folder"
        )


def _paths(clips: pa.Table, read: Sequence[ManifestInfo]) -> list[Path]:
    names = zip(clips["manifest"].to_pylist(), clips["audio_path"].to_pylist(), strict=True)
    return [Path(read[number].folder) / path for number, path in names]


def _texts(clips: pa.Table, description: dict[str, object]) -> pa.Table:
    """Return the different texts of clips with TEXT_SCHEMA: captions, else what the model's own template makes."""
    templates = description.get("caption_templates")
    template = str(templates[0]) if isinstance(templates, list) and templates else "{title}. {description}"
    first: dict[str, int] = {}
    count: dict[str, int] = {}
    for row, clip in enumerate(clips.select(["captions", "title", "description", "tags"]).to_pylist()):
        captions = clip.pop("captions") or [render_caption(template, **clip)]
        for text in dict.fromkeys(caption for caption in captions if caption.strip()):
            first.setdefault(text, row)
            count[text] = count.get(text, 0) + 1
    return pa.table([list(first), list(first.values()), list(count.values())], schema=TEXT_SCHEMA)


def _take_over(store: VectorStore, out: Path, *, model_sha256: str, dtype: str) -> None:
    """Give the store the vectors of the index that is there, if it is whole and of this model and dtype."""
    try:
        index = Index.open(out)
        if (index.info.model_sha256, index.info.dtype) != (model_sha256, dtype):
            return
        store.add(index.column("sha256").to_pylist(), index.vectors)
        store.add(map(text_key, index.texts["text"].to_pylist()), index.text_vectors)
    except (WavTextError, OSError, pa.ArrowInvalid):
        return


def _embed(
    store: VectorStore,
    model: Clap,
    clips: pa.Table,
    texts: pa.Table,
    read: Sequence[ManifestInfo],
    progress: Progress,
) -> int:
    """Embed the clips and the texts that the store lacks; return how many clips."""
    paths, sounds = _paths(clips, read), clips["sha256"].to_pylist()
    words = texts["text"].to_pylist()
    word_keys = list(map(text_key, words))
    counts = {"clips": len({key for key in sounds if key not in store}), "texts": 0}
    done = {"clips": 0, "texts": 0}

    def heard(places: Sequence[int]) -> Iterator[Path]:
        for place in places:
            _check_sound(paths[place], sounds[place])
            yield paths[place]
            done["clips"] += 1
            progress("clips", done["clips"], counts["clips"])

    def embed_texts(places: Sequence[int]) -> np.ndarray:
        vectors: np.ndarray = model.embed_text([words[place] for place in places])
        done["texts"] += len(places)
        progress("texts", done["texts"], counts["texts"])
        return vectors

    embedded = store.fill(sounds, lambda places: model.embed_audio(heard(places)), batch=BATCH)
    counts["texts"] = sum(key not in store for key in word_keys)
    store.fill(word_keys, embed_texts, batch=BATCH)
    return embedded


def _check_sound(path: Path, sha256: str) -> None:
    """Check that a file is the one that its manifest names, since its vector will be taken for that one's."""
    with path.open("rb") as file:
        if hashlib.file_digest(file, "sha256").hexdigest() != sha256:
            raise IndexFolderError(
                f"{path}: not the sound that the manifest names (another SHA-256); build the manifest again"
            )


def text_key(text: str) -> str:
    """Return the key of a text's vector in a VectorStore."""
    return "text " + hashlib.sha256(text.encode()).hexdigest()


def write_index(out: Path, info: IndexInfo, store: VectorStore, clips: pa.Table, texts: pa.Table) -> None:
    """Write the files of an index, index.json last."""
    dtype, num, dim = _DTYPES[info.dtype], info.num_clips, info.embed_dim
    sounds = clips["sha256"].to_pylist()
    words = [text_key(text) for text in texts["text"].to_pylist()]
    small = [(part.scale, part.lost, part.length) for part in map(encode, store.rows(sounds))]
    tensors: dict[str, Pieces] = {
        name: (torch.float32, (num,), [values[place] for values in small])
        for place, name in enumerate(("scale", "lost", "length"))
    }
    tensors |= {  # wide types first: each tensor then begins where its type may
        "embeddings": (dtype, (num, dim), store.rows(sounds)),
        "text_embeddings": (dtype, (info.num_texts, dim), store.rows(words)),
        "codes": (torch.int8, (num, dim), (part.codes for part in map(encode, store.rows(sounds)))),
    }
    write_tensors(vectors_file(out, info.key), tensors)
    for file, table in ((clips_file(out, info.key), clips), (texts_file(out, info.key), texts)):
        with open_whole(file) as whole:
            pq.write_table(table, whole, row_group_size=ROW_GROUP)
    write_info(out, info)
