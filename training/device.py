"""The device that a run or an evaluation computes on, and what to change when the memory or a reading process fails.

A device is checked when it is chosen: PyTorch itself would say so only after the data are read.
"""

from __future__ import annotations

import re

import torch

from curation.errors import ConfigError
from training.config import TrainConfig
from training.recipe import UsageError


def choose_device(name: str, *, option: str = "run.device=") -> torch.device:
    """Return the device that "auto", "cpu", "cuda" or "cuda:N" names; ``option`` is how the user said it.

    Raises:
        ConfigError: If a GPU is named that is not there (UsageError: if it is no such name).
    """
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", name):
        raise UsageError(f"{option}{name} must be auto, cpu, cuda or cuda:N")
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= (torch.cuda.device_count() if torch.cuda.is_available() else 0):
        raise ConfigError(f"{option}{name}, but PyTorch finds no such GPU here; use {option}cpu (or auto)")
    return device


def explanation(error: RuntimeError, config: TrainConfig) -> str | None:
    """Return what to change after an error of PyTorch's, None if it is not one of those known."""
    text = str(error)
    if isinstance(error, torch.OutOfMemoryError) or "DefaultCPUAllocator" in text:
        return (
            f"out of memory with run.batch_size={config.run.batch_size}; lower it, shorten model.cnn14.clip_s, "
            "or on a GPU set run.precision=bfloat16; then use another run.name, or remove the run folder"
        )
    if "DataLoader worker" in text:
        return f"a reading process died ({text.splitlines()[0]}); lower data.workers and run again"
    return None
