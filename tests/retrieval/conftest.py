"""A model of random weights and manifests of a few clips, both real: what an index is made from."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from curation.audio import to_pcm, write_flac
from curation.manifest import write_manifest
from retrieval.building import text_key, write_index
from retrieval.layout import CLIP_SCHEMA, INDEX_VERSION, TEXT_SCHEMA, IndexInfo, ManifestInfo
from retrieval.vectorstore import VectorStore
from tests.curation.support import row
from training.models.build import new_clap
from training.recipe import load_recipe


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder with a model in it."""
    return write_run(tmp_path_factory.mktemp("runs") / "first", seed=0)


def write_run(folder: Path, *, seed: int) -> Path:
    config = load_recipe("tiny", ["model.text.vocab_size=300"])
    torch.manual_seed(seed)
    new_clap(config.model, config.features, captions=["a bell rings", "rain falls"]).save_pretrained(folder / "model")
    return folder


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    return write_clips(tmp_path / "curated", count=7)


def write_clips(folder: Path, *, count: int) -> Path:
    """Write a manifest of noises, each louder at its own pitch, so that no two embed alike."""
    rows = []
    for number in range(1, count + 1):
        time_s = np.arange(44_100) / 44_100
        noise = np.random.default_rng(number).normal(0, 0.02, len(time_s))
        waveform = (0.3 * np.sin(2 * np.pi * 200 * number * time_s) + noise).astype(np.float32)
        path = folder / "audio" / f"soundbible-{number}.flac"
        sha256 = write_flac(path, to_pcm(waveform)[0])
        assert sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
        rows.append(row(number, title=f"Tone {number}", sha256=sha256, num_samples=44_100, duration_s=1.0))
    write_manifest(folder, rows)
    return folder


def write_vectors(folder: Path, vectors: torch.Tensor, texts: torch.Tensor) -> Path:
    """Write an index of given unit vectors, of clips that have no audio and a model that is not there."""
    num, dim = vectors.shape
    keys, words = [f"soundbible-{row}" for row in range(num)], [f"text {row}" for row in range(len(texts))]
    columns = {field.name: [row(1)[field.name]] * num if field.name in row(1) else [0] * num for field in CLIP_SCHEMA}
    clips = pa.table(columns | {"key": keys, "clip_id": keys, "sha256": keys}, schema=CLIP_SCHEMA)
    store = VectorStore(folder / "parts" / "x", dtype=vectors.dtype)
    store.add(keys, vectors)
    store.add(map(text_key, words), texts)
    gone = ManifestInfo(folder=str(folder), file=str(folder / "gone"), sha256="0", size=0, mtime_ns=0)
    info = IndexInfo(
        version=INDEX_VERSION,
        key="0" * 16,
        model=str(folder / "gone"),
        model_sha256="0" * 64,
        dtype=str(vectors.dtype).removeprefix("torch."),
        num_clips=num,
        num_texts=len(texts),
        embed_dim=dim,
        manifests=(gone,),
    )
    counts = pa.table([words, [0] * len(words), [1] * len(words)], schema=TEXT_SCHEMA)
    write_index(folder, info, store, clips, counts)
    return folder
