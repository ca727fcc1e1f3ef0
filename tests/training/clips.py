"""Makes small real manifests, and settings of a model small enough to train in a test."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from curation.audio import to_pcm, write_flac
from curation.manifest import SCHEMA, write_manifest
from training.config import TrainConfig
from training.recipe import from_dict, load_recipe, to_dict

SAMPLE_RATE = 44_100


def tone(freq: float, seconds: float) -> np.ndarray:
    """Return a tone with a little noise, float32 (S,)."""
    t = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    return (0.5 * np.sin(2 * np.pi * freq * t) + 0.01 * np.sin(1e6 * t * t)).astype(np.float32)


def write_clips(folder: Path, rows: list[dict[str, Any]]) -> Path:
    """Write a manifest with its audio: one clip a row, of any of the columns, and ``waveform``; returns the folder."""
    (folder / "audio").mkdir(parents=True, exist_ok=True)
    whole = []
    for number, given in enumerate(rows):
        given = dict(given)
        waveform = given.pop("waveform", None)
        clip_id = given.get("clip_id", f"test-{number:03}")
        pcm, _ = to_pcm(tone(200 + 150 * number, 0.4) if waveform is None else waveform)
        sha256 = write_flac(folder / "audio" / f"{clip_id}.flac", pcm)
        blank = {name: _blank(kind) for name, kind in zip(SCHEMA.names, SCHEMA.types, strict=True)}
        whole.append(
            blank
            | {
                "clip_id": clip_id,
                "source": "test",
                "source_id": clip_id.removeprefix("test-"),
                "title": f"Tone {number}",
                "description": f"A steady tone, number {number}.",
                "fold": -1,
                "license": "cc0-1.0",
                "audio_path": f"audio/{clip_id}.flac",
                "sha256": sha256,
                "pcm_sha256": hashlib.sha256(pcm.tobytes()).hexdigest(),
                "duplicate_group": clip_id,
                "sample_rate": SAMPLE_RATE,
                "num_samples": len(pcm),
                "duration_s": len(pcm) / SAMPLE_RATE,
                "peak_dbfs": -6.0,
                "rms_dbfs": -9.0,
                "source_sample_rate": SAMPLE_RATE,
                "source_channels": 1,
                "source_subtype": "PCM_16",
                "split": "train",
            }
            | given
        )
    write_manifest(folder, whole)
    return folder


def _blank(kind: pa.DataType) -> Any:
    if pa.types.is_list(kind):
        return []
    return "" if pa.types.is_string(kind) else 0


def small_config(folder: Path, manifest: Path, **sections: dict[str, Any]) -> TrainConfig:
    """Return the tiny recipe made a hundred times cheaper, with sections' values on top."""
    values = to_dict(load_recipe("tiny"))
    small: dict[str, dict[str, Any]] = {
        "model": {
            "embed_dim": 16,
            "cnn14": {"clip_s": 0.5, "channels": [4, 8, 8], "head_dropout": 0.1},
            "htsat": {
                "clip_s": 0.4,
                "spec_size": 64,
                "patch_size": 8,
                "embed_dim": 8,
                "depths": [1, 1],
                "num_heads": [2, 2],
                "window_size": 4,
                "drop_path_rate": 0.1,
            },
            "text": {"vocab_size": 300, "hidden_size": 16, "num_layers": 1, "num_heads": 2, "ffn_size": 32},
        },
        "data": {"train": [{"manifest": str(manifest)}], "val": []},
        "schedule": {"warmup_steps": 2},
        "run": {"name": "run", "folder": str(folder), "epochs": 2, "batch_size": 4, "threads": 1, "device": "cpu"},
    }
    for changes in (small, sections):
        for section, change in changes.items():
            _merge(values[section], change)
    return from_dict(TrainConfig, values)


def _merge(values: dict[str, Any], change: dict[str, Any]) -> None:
    for key, value in change.items():
        if isinstance(value, dict) and isinstance(values.get(key), dict):
            _merge(values[key], value)
        else:
            values[key] = value
