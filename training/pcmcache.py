"""Decoded clips."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import soundfile

from curation.audio import SAMPLE_RATE, read_clip
from curation.errors import ManifestError
from training.data import Clip

Samples = npt.NDArray[np.int16]


class PcmCache:
    def read(self, clip: int, start: int, size: int) -> Samples:
        raise NotImplementedError


def read_pcm(clip: Clip, start: int, out: Samples) -> None:
    """Fill ``out`` with the 16-bit samples of a clip from ``start`` on.

    Raises:
        AudioError: If its file cannot be decoded, or is not mono at 44.1 kHz.
        ManifestError: If it ends before.
    """
    waveform = read_clip(clip.path, start=start, num_samples=len(out))
    if len(waveform) != len(out):
        raise ManifestError(f"{clip.path}: ends before its manifest says ({clip.num_samples} samples)")
    np.rint(waveform * 32_768, out=waveform)
    out[:] = np.clip(waveform, None, 32_767)


def ensure_cache(folder, clips, *, workers=0, say):
    raise NotImplementedError
