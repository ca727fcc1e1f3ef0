"""Batch norm in training: by each process's own pairs, by those of all processes, or by stored statistics.

CNN14 has one after every convolution, and both encoders one over their mel bands. Which pairs they are computed over
is a setting, ``model.batch_norm``:

batch      the pairs that go through the model together: a process's share of the batch, or a chunk of it
sync       the shares of all processes, which exchange statistics at every layer, between GPUs
frozen     none: stored statistics, in training as in evaluation; weights and biases still train. What a pair gives
           then depends on no other, so chunks (run.chunk_size) and processes train as one pass over the batch would

The mode is the run's, not the weights': names and shapes are the same under all three, and a saved model has none.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from curation.errors import ConfigError
from training.config import InitConfig, ModelConfig
from training.models.clap import Clap

BATCH_NORMS = ("batch", "sync", "frozen")


def prepare_batch_norm(model: Clap, mode: str) -> None:
    """Make a model's audio encoders train with batch norm of a mode, from now on and whatever ``model.train()`` says.

    Call it before ``DistributedDataParallel`` and compilation, with the optimiser made before or after: parameters
    stay the objects that they are.

    Raises:
        ValueError: If there is no such mode.
    """
    if mode not in BATCH_NORMS:
        raise ValueError(f"mode must be one of {', '.join(BATCH_NORMS)}, got {mode!r}")
    if mode == "sync":
        nn.SyncBatchNorm.convert_sync_batchnorm(model.audio)  # type: ignore[no-untyped-call]
    elif mode == "frozen":
        model.keep_in_evaluation(_layers(model.audio))


def check_batch_norm(model: ModelConfig, init: InitConfig, *, device: torch.device, world_size: int = 1) -> str:
    """Return a warning where the mode is a mistake for such a start; "" where there is none.

    Raises:
        ConfigError: If processes on CPUs are to exchange statistics, which PyTorch does between GPUs only.
    """
    if model.batch_norm == "sync" and device.type == "cpu" and world_size > 1:
        raise ConfigError(
            "model.batch_norm=sync exchanges statistics between GPUs, and this run has none; set model.batch_norm=batch"
        )
    random = [name for name in model.audio_encoders if init.clap is None and getattr(init, name) is None]
    if model.batch_norm != "frozen" or not random:
        return ""
    return (
        f"warning: model.batch_norm=frozen keeps the statistics that {' and '.join(random)} came with, and "
        f"{'it starts' if len(random) == 1 else 'they start'} from random weights: mean 0 and variance 1, which no "
        f"sound has. Name weights with {' and '.join(f'init.{name}=PATH' for name in random)}, or set "
        "model.batch_norm=batch"
    )


@contextmanager
def batch_norm_held(model: nn.Module) -> Iterator[None]:
    """Keep stored statistics as they are within the block; layers in training still use those of their batch.

    For a forward pass that is made again, so that each batch is taken in once. From one random state, both passes give
    the same bits if gradients are on in both (``detach`` what the first one gives), or off: a CPU computes attention
    and products by other routines where no gradient is asked for, which round differently.
    """
    stored = [(layer, dict(layer.named_buffers(recurse=False))) for layer in _layers(model) if layer.training]
    for layer, buffers in stored:  # copies take in what is thrown away; a flag of the layer's would compile it anew
        for name, tensor in buffers.items():
            setattr(layer, name, tensor.clone())
    try:
        yield
    finally:
        for layer, buffers in stored:
            for name, tensor in buffers.items():
                setattr(layer, name, tensor)


def _layers(module: nn.Module) -> list[_BatchNorm]:
    return [layer for layer in module.modules() if isinstance(layer, _BatchNorm)]
