"""The processes of a run started by torchrun: which one this is, and what they tell each other.

    torchrun --nproc-per-node 8 -m training paper-d

Tensors on GPUs travel over NCCL, everything else (counts, flags, random states, embeddings of val clips) over gloo. A
run of one process has no group, and everything here returns at once.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist

from curation.errors import ConfigError

_PATIENCE = timedelta(hours=6)
"""How long one waits for another, which may be decoding a whole cache; torchrun ends the others of one that died."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Processes:
    """Where this process stands among those of its run."""

    rank: int = 0
    world_size: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this one writes the files and speaks."""
        return self.rank == 0

    def any(self, flag: bool) -> bool:
        """Return whether the flag is set in any process; all must call it."""
        if self.world_size == 1:
            return flag
        found = torch.tensor(int(flag))
        dist.all_reduce(found, op=dist.ReduceOp.MAX)
        return bool(found)

    def gather(self, value: Any) -> list[Any]:
        """Return every process's value, by rank; all must call it."""
        if self.world_size == 1:
            return [value]
        values: list[Any] = [None] * self.world_size
        dist.all_gather_object(values, value)
        return values

    def wait(self) -> None:
        """Wait until all processes are here."""
        self.any(False)


def choose_process_device(device: torch.device) -> torch.device:
    """Return the device of this process: each has a GPU of its own, where the run is on GPUs.

    Raises:
        ConfigError: If one GPU is named for several processes, or there are fewer GPUs than processes here.
    """
    world_size = int(os.environ.get("WORLD_SIZE", "1"))
    if world_size == 1 or device.type != "cuda":
        return device
    if device.index is not None:
        raise ConfigError(
            f"run.device={device} is one GPU, and torchrun started {world_size} processes; set run.device=cuda"
        )
    here, gpus = int(os.environ.get("LOCAL_WORLD_SIZE", world_size)), torch.cuda.device_count()
    if here > gpus:
        raise ConfigError(
            f"torchrun started {here} processes here, and PyTorch finds {gpus} GPUs; each process needs one: "
            f"--nproc-per-node {gpus}, or run.device=cpu"
        )
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))


@contextmanager
def joined(device: torch.device) -> Iterator[Processes]:
    """Join the processes that torchrun started, for the length of the block; one alone has nothing to join.

    A group that the caller has made already is used and left as it is.
    """
    if dist.is_available() and dist.is_initialized():
        yield Processes(rank=dist.get_rank(), world_size=dist.get_world_size())
        return
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield Processes()
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    dist.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo", timeout=_PATIENCE)
    try:
        yield Processes(rank=dist.get_rank(), world_size=dist.get_world_size())
    finally:
        dist.destroy_process_group()
