"""Whether an export does what the model does: sounds and texts that both are given, and what their vectors differ by.

The sounds are noise and gliding tones with pauses, which is what sounds are like. Not among them is a loud pure tone
alone: a spectrogram's far side is rounding noise there, the model's own more than an export's, and vectors of a small
trained model differed by up to 5e-5, where other sounds' differ by 1e-7.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from retrieval.exports.folder import ExportError

if TYPE_CHECKING:
    from training.models.clap import Clap

LIMIT = 1e-4
"""Of the difference in any value of a unit vector; more is refused."""
TEXTS = (
    "rain",
    "A low bell struck twice, fading slowly.",
    "Ein Zug pfeift, 列車が走る \N{STEAM LOCOMOTIVE}",
    "A dog barks behind a fence, then a second one. " * 60,
)
"""One word, a caption, other scripts, and more than any encoder reads."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """The largest differences of any value from the model's own embeddings."""

    audio: float
    text: float


def sound(num_samples: int, *, sample_rate: int, seed: int) -> np.ndarray:
    """Return a waveform (S,) of gliding tones over noise, float32; the same arguments give the same one."""
    generator = np.random.default_rng(seed)
    time_s = np.arange(num_samples) / sample_rate
    glide = np.sin(2 * np.pi * (200 + 150 * seed) * time_s * (1 + 0.3 * np.sin(2 * np.pi * 0.7 * time_s)))
    is_loud = np.sin(2 * np.pi * 1.3 * time_s) > -0.5
    waveform = 0.3 * glide * is_loud + 0.02 * generator.standard_normal(num_samples)
    return waveform.astype(np.float32)


def check_finite(model: Clap) -> None:
    """Refuse a model with weights that are not numbers.

    Raises:
        ExportError: Naming the first.
    """
    for name, tensor in model.state_dict().items():
        if not bool(tensor.isfinite().all()):
            raise ExportError(f"{name} has NaN or infinite values: the model is broken, train it again")


def difference(found: np.ndarray, expected: np.ndarray) -> float:
    """Return the largest difference of two arrays' values; infinity if one is NaN, or the shapes differ."""
    if found.shape != expected.shape:
        return float("inf")
    largest = float(np.abs(found.astype(np.float64) - expected).max(initial=0.0))
    return largest if np.isfinite(largest) else float("inf")


def check(*, audio: Iterable[float], text: Iterable[float]) -> Checked:
    """Return the largest differences, if the export may be used.

    Args:
        audio: Differences that were found, of sounds.
        text: The same of texts.

    Raises:
        ExportError: If one is over the limit.
    """
    checked = Checked(audio=max(audio), text=max(text))
    for what, largest in (("sounds", checked.audio), ("texts", checked.text)):
        if largest > LIMIT:
            raise ExportError(
                f"the exported model's embeddings of {what} differ from the model's own by {largest:.2g}, more than "
                f"{LIMIT:g}; nothing was written. Other releases of the libraries may export it rightly"
            )
    return checked
