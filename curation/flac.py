"""Writes sound as FLAC at 44.1 kHz, mono, 16 or 24 bits: scaled to fit, rounded without dither.

Sound that fits keeps its level, so that 16-bit sound comes through bit for bit; dither would spoil that for noise
far below any recording's own. libsndfile encodes straight into the file, through callbacks, because it reports a full
disk as "System error" and nothing else.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from io import BufferedRandom
from pathlib import Path
from typing import IO, Any, Literal, cast

import numpy as np
import numpy.typing as npt
import soundfile

from crawler.items import open_whole

SAMPLE_RATE = 44_100
"""Hz, of every clip in a manifest."""

Waveform = npt.NDArray[np.float32]
"""Samples, 1.0 is full scale."""
Bits = Literal[16, 24]

_FLOOR_DBFS = -200.0  # stands for digital silence, whose level is minus infinity


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """A FLAC file that was written."""

    sha256: str
    """Of the file."""
    size: int
    """Bytes."""
    peak_dbfs: float
    rms_dbfs: float
    """Of its samples, dB re full scale; -200 for digital silence."""
    gain_db: float
    """By which the sound was scaled to fit; 0.0 where it fits as it is."""


def write_blocks(path: Path, blocks: Iterable[Waveform], *, highest: float, lowest: float, bits: Bits) -> Written:
    """Write blocks of samples (S,) as one FLAC file, whole or not at all.

    Args:
        path: The file.
        blocks: The sound, 1.0 is full scale.
        highest, lowest: Its largest and smallest sample.
        bits: Of a sample.

    Raises:
        OSError: If the file cannot be written, as on a full disk.
    """
    quantize = _Quantizer(highest, lowest, bits)
    num_samples = squares = 0  # whole numbers, so that the level does not depend on the size of blocks

    def quantized() -> Iterator[npt.NDArray[Any]]:
        nonlocal num_samples, squares
        for block in blocks:
            samples = quantize(block)
            num_samples += len(samples)
            squares += int(np.square(samples, dtype=np.int64).sum())
            yield samples

    sha256, size = _encode(path, quantized(), bits)
    ends = quantize(np.array([highest, lowest], np.float32)).astype(np.int64)
    return Written(
        sha256=sha256,
        size=size,
        peak_dbfs=dbfs(int(np.abs(ends).max()) / quantize.full_scale),
        rms_dbfs=dbfs(math.sqrt(squares / max(num_samples, 1)) / quantize.full_scale),
        gain_db=quantize.gain_db,
    )


def write_flac(path: Path, pcm: npt.NDArray[np.int16]) -> str:
    """Write 16-bit samples (S,) as FLAC, whole or not at all, and return the sha256 of the file.

    Raises:
        OSError: If the file cannot be written, as on a full disk.
    """
    return _encode(path, [pcm], 16)[0]


def to_pcm(waveform: Waveform) -> tuple[npt.NDArray[np.int16], float]:
    """Return a waveform (S,) as 16-bit samples, and the gain in dB that made it fit: 0.0 where it fits."""
    quantize = _Quantizer(float(waveform.max(initial=0)), float(waveform.min(initial=0)), 16)
    return quantize(waveform), quantize.gain_db


def dbfs(amplitude: float) -> float:
    """Return an amplitude, 1.0 being full scale, in dB; -200 for none."""
    return max(20 * math.log10(amplitude), _FLOOR_DBFS) if amplitude else _FLOOR_DBFS


class _Quantizer:
    """Turns samples in [-1, 1) into whole numbers; ``gain_db`` says how sound beyond was scaled."""

    def __init__(self, highest: float, lowest: float, bits: Bits) -> None:
        self.full_scale = 1 << (bits - 1)
        self._dtype = np.int16 if bits == 16 else np.int32
        ends = np.rint(np.array([highest, lowest], np.float32) * np.float32(self.full_scale))
        fits = ends[0] < self.full_scale and ends[1] >= -self.full_scale
        gain = 1.0 if fits else (1 - 1 / self.full_scale) / max(highest, -lowest)
        self.gain_db = 20 * math.log10(gain)
        self._factor = np.float32(gain * self.full_scale)

    def __call__(self, waveform: Waveform) -> npt.NDArray[Any]:
        samples = waveform * self._factor
        np.rint(samples, out=samples)
        if self.gain_db:  # in 24 bits the peak may round to one step beyond
            np.clip(samples, 1 - self.full_scale, self.full_scale - 1, out=samples)
        return samples.astype(self._dtype)


def _encode(path: Path, blocks: Iterable[npt.NDArray[Any]], bits: Bits) -> tuple[str, int]:
    with open_whole(path, "w+b", sync=False) as file:  # a build looks at the size, and flushes all at its end
        target = _Target(file)
        try:
            with soundfile.SoundFile(target, "w", SAMPLE_RATE, 1, f"PCM_{bits}", format="FLAC") as encoder:
                for block in blocks:
                    # libsndfile takes whole numbers by their upper bits.
                    encoder.write(block if bits == 16 else block << 8)
        except (soundfile.LibsndfileError, AssertionError):  # the second: fewer samples written than given
            if target.error is None:
                raise
        if target.error is not None:
            raise target.error
        file.seek(0)
        return hashlib.file_digest(cast(BufferedRandom, file), "sha256").hexdigest(), file.tell()


class _Target:
    """A file that libsndfile writes through callbacks, which must not raise: an error is kept."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.error: OSError | None = None

    def write(self, content: bytes) -> int:
        try:
            return self._file.write(content)
        except OSError as error:
            self.error = error
            return 0

    def seek(self, offset: int, whence: int = 0) -> int:
        try:
            return self._file.seek(offset, whence)
        except OSError as error:  # what is still in the buffer is written first
            self.error = error
            return -1

    def tell(self) -> int:
        return self._file.tell()
