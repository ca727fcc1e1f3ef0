"""The audio tower: one or more encoders, each behind its front end, their outputs joined (the paper's equation 5)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from training.features import LogMel


class AudioTower(nn.Module):
    """Waveforms to the joined outputs of one or more audio encoders."""

    def __init__(
        self, features: Mapping[str, LogMel], encoders: Mapping[str, nn.Module], *, clip_samples: Mapping[str, int]
    ) -> None:
        """Join encoders in the order given.

        Args:
            features: The front end of each, by name; one object where they share it.
            encoders: Modules from log-mel (B, T, M) to (B, num_features), by name.
            clip_samples: Samples that each reads, at the rate of its front end.
        """
        super().__init__()
        self.features = nn.ModuleDict(dict(features))
        self.encoders = nn.ModuleDict(dict(encoders))
        self.clip_samples = dict(clip_samples)
        self.num_features = sum(width(encoder) for encoder in self.encoders.values())

    def forward(self, waveforms: Mapping[str, Tensor]) -> Tensor:
        """Return (B, num_features) of each encoder's own crop (B, clip_samples[name]) of the same clips.

        Encoders that are given the very same tensor, and share a front end, share its spectrogram.
        """
        log_mels: dict[tuple[int, int], Tensor] = {}
        outputs = []
        for name, encoder in self.encoders.items():
            waveform, front_end = waveforms[name], self.features[name]
            key = id(waveform), id(front_end)
            if key not in log_mels:
                log_mels[key] = front_end(waveform)
            outputs.append(encoder(log_mels[key]))
        return torch.cat(outputs, dim=1)

    def front_end(self, name: str) -> LogMel:
        """Return the front end of an encoder."""
        front_end = self.features[name]
        assert isinstance(front_end, LogMel)
        return front_end

    def readings(self) -> dict[tuple[int, int], list[str]]:
        """Return the names of the encoders that read alike, by front end and samples of a window."""
        alike: dict[tuple[int, int], list[str]] = {}
        for name, size in self.clip_samples.items():
            alike.setdefault((id(self.features[name]), size), []).append(name)
        return alike


def width(encoder: nn.Module) -> int:
    """Return how many values an encoder gives for a clip."""
    features = encoder.num_features
    assert isinstance(features, int)
    return features
