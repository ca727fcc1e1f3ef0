"""The deterministic fill behind tests/training/golden/*.npz: weights, noise and signal from a 32-bit hash.

The vectors were computed by the reference implementations of each architecture (PANNs, HTSAT, torchlibrosa, librosa)
filled in this way, so any implementation can be checked against them without their weights or code.
"""

from __future__ import annotations

import math
import zlib
from pathlib import Path

import numpy as np
import torch
from torch import nn

GOLDEN = Path(__file__).parent / "golden"


def noise(name: str, index: np.ndarray) -> np.ndarray:
    """Return v in (-1, 1), float64, for a name and element indices."""
    return 2 * uniform(name, index) - 1


def uniform(name: str, index: np.ndarray) -> np.ndarray:
    """Return u in (0, 1), float64, for a name and element indices; products of 32 bits wrap round."""
    h = index.astype(np.uint32) * np.uint32(2654435761) + np.uint32(zlib.crc32(name.encode()))
    h ^= h >> np.uint32(16)
    h *= np.uint32(2246822507)
    h ^= h >> np.uint32(13)
    h *= np.uint32(3266489909)
    h ^= h >> np.uint32(16)
    return (h + 0.5) / 2**32


def signal(sample_rate: int, seconds: float, *, clean: bool = False) -> np.ndarray:
    """Return a chirp with a 440 Hz tone and, unless clean, a noise floor; float64."""
    n = np.arange(round(sample_rate * seconds))
    t = n / sample_rate
    x = 0.3 * np.sin(2 * np.pi * (60 * t + 0.5 * (7740 / seconds) * t**2)) + 0.1 * np.sin(2 * np.pi * 440 * t)
    return x if clean else x + 0.05 * noise("noise", n)


def values(name: str, shape: tuple[int, ...], *, gain: float) -> np.ndarray:
    """Return the fill of one tensor, by its name in the reference implementation."""
    v = noise(name, np.arange(math.prod(shape))).reshape(shape)
    if name.endswith("running_var"):
        return 400 + 100 * (v + 1) if name == "bn0.running_var" else 1 + 0.25 * (v + 1)
    if name.endswith("running_mean"):
        return -25 + 10 * v if name == "bn0.running_mean" else 0.1 * v
    if name.endswith("relative_position_bias_table"):
        return 0.5 * v
    if name.endswith(".bias"):
        return 0.1 * v
    if len(shape) == 1:
        return 1 + 0.1 * v
    fan_in = math.prod(shape[1:])
    return v * math.sqrt((gain if len(shape) == 4 else 3) / fan_in)


def fill(model: nn.Module, *, gain: float) -> nn.Module:
    """Fill a model by its reference names and set it to evaluation; returns the model."""
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if tensor.is_floating_point():
                filled = values(_reference_name(name), tuple(tensor.shape), gain=gain).astype(np.float32)
                tensor.copy_(torch.from_numpy(filled))
    return model.eval()


def _reference_name(name: str) -> str:
    """Return the name in the reference HTSAT: no prefix, downsampling at the end of the stage before."""
    name = name.removeprefix("body.")
    if ".downsample." in name:
        _, stage, rest = name.split(".", 2)
        return f"layers.{int(stage) - 1}.{rest}"
    return name
