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


def check_device(config: TrainConfig, device: torch.device) -> None:
    """Refuse settings that a device cannot do, before the data are read; warn of a model that is too large for it.

    Raises:
        ConfigError: If it cannot.
    """
    if device.type == "cuda":
        return
    if config.run.precision == "bfloat16":
        raise ConfigError("run.precision=bfloat16 is for a GPU, and this run has none; set run.precision=float32")


def explanation(error: RuntimeError, config: TrainConfig) -> str | None:
    """Return what to change after an error of PyTorch's, None if it is not one of those known."""
    text = str(error)
    if isinstance(error, torch.OutOfMemoryError) or "DefaultCPUAllocator" in text:
        return (
            f"out of memory with run.batch_size={config.run.batch_size}; set run.chunk_size={_chunk(config)} (the same "
            "training in less memory, but for batch norm), lower the batch, or on a GPU set run.precision=bfloat16; "
            "then use another run.name, or remove the run folder"
        )
    if re.search(r"DataLoader worker .*(exited unexpectedly|is killed by signal)", text):
        return f"a reading process died ({text.splitlines()[0]}); lower data.workers and run again"
    if re.search(r"[Cc]onnection (closed|reset)|Broken pipe|NCCL (communicator|error)", text):
        return "another process of this run ended; what it said stands above or below. Run the same command again"
    if "inductor" in text.lower() or type(error).__module__.startswith(("torch._dynamo", "torch._inductor")):
        return f"run.compile=true failed ({text.splitlines()[0][:200]}); set run.compile=false, under another run.name"
    return None


def _chunk(config: TrainConfig) -> int:
    """Return half of what a step has held at once."""
    return max((config.run.chunk_size or config.run.batch_size) // 2, 2)
