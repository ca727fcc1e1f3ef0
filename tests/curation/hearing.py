"""What a file sounds like at its own rate, as one array: for tests of what ``listen`` hears."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from curation.audio import ClipSound, Waveform, listen


@dataclass(frozen=True, slots=True)
class Whole:
    """A sound whose samples are kept."""

    waveform: Waveform
    """(S,)"""
    sound: ClipSound


def hear(path: Path, *, max_duration_s: float = math.inf) -> Whole:
    """Return the sound of a file, mixed to mono and not resampled."""
    with listen(path, max_duration_s=max_duration_s, sample_rate=None) as sound:
        return Whole(np.concatenate(list(sound.blocks())), sound)
