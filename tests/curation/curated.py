"""Manifests for tests of what reads them: real FLACs, real rows, made without a build."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from curation.exports.selection import ExportOptions
from curation.manifest import write_manifest
from tests.curation.support import row
from tests.support.audio import write_noise

SMALL = ExportOptions(shard_bytes=40_000)  # two clips of 0.2 s
TARS = ExportOptions(format="webdataset", shard_bytes=40_000)
EXPORTS = {"parquet": SMALL, "webdataset": TARS}


def add_clip(folder: Path, number: int, *, seconds: float = 0.2, **changes: Any) -> dict[str, Any]:
    """Write a clip's FLAC, noise of its own, and return its row of the manifest."""
    clip_id = changes.get("clip_id", f"soundbible-{number}")
    made = row(number, **{"duplicate_group": clip_id, "audio_path": f"audio/{clip_id}.flac"} | changes)
    file = write_noise(folder / made["audio_path"], seconds=seconds, seed=number, amplitude=0.4)
    content = file.read_bytes()
    waveform = soundfile.read(file)[0]
    levels = [np.abs(waveform).max(), np.sqrt(np.mean(waveform**2))]
    return made | {
        "sha256": hashlib.sha256(content).hexdigest(),
        "num_samples": len(waveform),
        "duration_s": len(waveform) / 44_100,
        "peak_dbfs": float(20 * np.log10(levels[0])),
        "rms_dbfs": float(20 * np.log10(levels[1])),
    }


def make_manifest(folder: Path, *clips: dict[str, Any], **options: Any) -> Path:
    """Write clips, numbered from 1, each row changed as its dictionary says, and their manifest; return the folder."""
    rows = [add_clip(folder, number, **options, **changes) for number, changes in enumerate(clips, start=1)]
    write_manifest(folder, rows)
    return folder


def make_nine(folder: Path) -> Path:
    """Write a manifest of nine clips in three splits; return the folder."""
    return make_manifest(folder, *({"split": split} for split in ["train"] * 5 + ["val"] * 2 + ["test"] * 2))
