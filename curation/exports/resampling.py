"""A clip's FLAC at another rate, for readers that do not resample: LAION-CLAP's takes every file to be at 48 kHz.

Works on the bytes of one file, block by block, with what ``curation.audio`` uses: soxr HQ, FLAC of the same bits.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import soundfile
import soxr

_BLOCK = 262_144  # frames
_FLOOR_DBFS = -200.0  # as in the manifest: stands for digital silence
_STEPS = {"PCM_16": 2**15, "PCM_24": 2**23, "PCM_S8": 2**7}


@dataclass(frozen=True, slots=True, kw_only=True)
class Resampled:
    """A FLAC and what the manifest's columns would say of it."""

    content: bytes
    num_samples: int
    peak_dbfs: float
    rms_dbfs: float
    gain_db: float
    """0.0 where the sound fitted as it was."""


def resample_flac(content: bytes, *, sample_rate: int) -> Resampled:
    """Return a mono FLAC at another rate in Hz; sound that resampling lifts above full scale is scaled to fit.

    Sound shorter than one sample of the new rate gets silence behind it and comes out as one sample.

    Raises:
        soundfile.LibsndfileError: If the content cannot be decoded.
    """
    with soundfile.SoundFile(io.BytesIO(content)) as source:
        subtype = str(source.subtype)
    largest = 1 - 1 / _STEPS[subtype]
    peak = max((float(np.abs(block).max(initial=0)) for block in _blocks(content, sample_rate)), default=0.0)
    gain = largest / peak if peak > largest else 1.0
    encoded, num_samples, squares = io.BytesIO(), 0, 0.0
    with soundfile.SoundFile(encoded, "w", sample_rate, 1, subtype, format="FLAC") as file:
        for block in _blocks(content, sample_rate):
            scaled = block * np.float32(gain)
            file.write(scaled)
            num_samples += len(block)
            squares += float(np.square(scaled, dtype=np.float64).sum())
    return Resampled(
        content=encoded.getvalue(),
        num_samples=num_samples,
        peak_dbfs=_dbfs(peak * gain),
        rms_dbfs=_dbfs(math.sqrt(squares / num_samples)),
        gain_db=20 * math.log10(gain),
    )


def _blocks(content: bytes, sample_rate: int) -> Iterator[npt.NDArray[np.float32]]:
    with soundfile.SoundFile(io.BytesIO(content)) as source:
        stream = soxr.ResampleStream(source.samplerate, sample_rate, 1, dtype="float32", quality="HQ")
        left = source.frames
        if left < (least := math.ceil(source.samplerate / sample_rate)):
            short = np.zeros(least, np.float32)
            short[:left] = source.read(dtype="float32")
            yield stream.resample_chunk(short, last=True)
            return
        while left > 0 and len(block := source.read(_BLOCK, dtype="float32")):
            left -= len(block)
            yield stream.resample_chunk(block, last=left <= 0)


def _dbfs(amplitude: float) -> float:
    return max(20 * math.log10(amplitude), _FLOOR_DBFS) if amplitude > 0 else _FLOOR_DBFS
