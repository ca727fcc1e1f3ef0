"""How a model's audio encoders read sounds: at which rate, in windows of how many samples, and which of them alike."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from training.models.clap import Clap


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """Encoders that read alike.

    Attributes:
        names: Theirs, in the tower's order.
        sample_rate: Hz.
        window_samples: Of each window.
    """

    names: tuple[str, ...]
    sample_rate: int
    window_samples: int

    @property
    def waveform(self) -> str:
        """The name of the ONNX graph's input that they read."""
        return f"waveform_{self.sample_rate}"


def readings_of(model: Clap) -> list[Reading]:
    """Return how a model's audio encoders read, one entry for those that read alike."""
    return [
        Reading(names=tuple(names), sample_rate=model.audio.front_end(names[0]).sample_rate, window_samples=size)
        for (_, size), names in model.audio.readings().items()
    ]
