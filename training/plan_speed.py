"""How fast a device trains: a rate measured in a second or two, or real steps on random sound.

The rate is that of two pieces of the work itself, forward and backward in the run's precision: a convolution of CNN14
and a product of the size of RoBERTa's. A model does not reach it, for norms, activations and the optimiser are bound by
memory: ``UTILISATION`` says which share is taken, and a plan says so.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from training.config import TrainConfig
from training.losses import contrastive_loss
from training.models.batchnorm import prepare_batch_norm
from training.models.build import build_clap, clip_samples
from training.models.text import text_model
from training.optim import make_optimizer
from training.plan_model import Work

UTILISATION = {"cpu": 0.65, "cuda": 0.35}
"""Share of the rate that forward and backward passes reach. By processor time, on a core of an x86 server, those of
paper-a, c and d reached 0.57 to 0.76, and those of tiny, whose layers are narrow, 0.40 to 0.45; for GPUs it is assumed,
not measured."""

_SECONDS = 0.7
_PIXELS = 344 * 16  # of CNN14's fourth block, 20 s at 44.1 kHz
_TOKENS = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """Floating-point operations a second."""

    convolutions: float
    products: float

    def seconds(self, work: Work) -> float:
        """Return the time that work takes at this rate."""
        return work.convolutions / self.convolutions + work.products / self.products


@dataclass(frozen=True, slots=True, kw_only=True)
class Steps:
    """Real steps of training."""

    pairs: int
    """At once."""
    seconds_a_pair: float
    """Forward and backward."""
    seconds_a_step: float
    """Of the optimiser, whatever the batch."""
    peak_bytes: int | None
    """Of the GPU's memory."""


def measure_rate(device: torch.device, *, precision: str) -> Rate:
    """Return the rate of a device, measured."""
    pairs = 16 if device.type == "cuda" else 1
    image = torch.randn(pairs, 256, 344, 16, device=device, requires_grad=True)
    convolution = nn.Conv2d(256, 256, 3, padding=1, bias=False).to(device)
    rows = torch.randn(pairs * 8 * _TOKENS, 768, device=device, requires_grad=True)
    product = nn.Linear(768, 3072).to(device)
    with _precision(device, precision):
        return Rate(
            convolutions=_rate(lambda: convolution(image), 3 * 2 * 256 * 256 * 9 * pairs * _PIXELS, device),
            products=_rate(lambda: product(rows), 3 * 2 * 768 * 3072 * len(rows), device),
        )


def measure_steps(
    config: TrainConfig,
    text_config: Mapping[str, Any],
    device: torch.device,
    *,
    pairs: int,
    tokens: int,
    steps: int = 3,
) -> Steps:
    """Return how long steps of a recipe's model take, from random weights and on random sound.

    Args:
        config: The recipe.
        text_config: Of its text encoder.
        device: Where.
        pairs: At once.
        tokens: Of each caption.
        steps: How many are timed, after one that is not; the fastest counts.
    """
    torch.manual_seed(config.run.seed)
    text = text_model(dict(text_config), pooler=config.model.text.pooling == "pooler")
    model = build_clap(config.model, config.features, text=text, tokenizer=None)
    model.freeze(config.optimizer.freeze)
    if config.model.batch_norm == "frozen":
        prepare_batch_norm(model, config.model.batch_norm)
    model.to(device).train()
    optimizer = make_optimizer(model, config.optimizer)
    sizes = clip_samples(config.model, config.features)
    waveforms = {name: 0.1 * torch.randn(pairs, size, device=device) for name, size in sizes.items()}
    ids = torch.randint(3, int(text_config["vocab_size"]), (pairs, tokens), device=device)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    passes, updates = [], []
    for _ in range(steps + 1):
        began = _now(device)
        with _precision(device, config.run.precision):
            audio_embed, text_embed = model(waveforms, ids, torch.ones_like(ids))
        contrastive_loss(audio_embed, text_embed, model.logit_scale.exp()).backward()  # type: ignore[no-untyped-call]
        between = _now(device)
        optimizer.step()
        optimizer.zero_grad()
        passes.append(between - began)
        updates.append(_now(device) - between)
    peak = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None
    return Steps(
        pairs=pairs,
        seconds_a_pair=min(passes[1:]) / pairs,
        seconds_a_step=min(updates[1:]),
        peak_bytes=peak,
    )


def _rate(run: Callable[[], torch.Tensor], operations: int, device: torch.device) -> float:
    """Return operations a second of a forward and a backward pass, the best of those that fit into the time."""
    best = float("inf")
    ends = _now(device) + _SECONDS
    while (began := _now(device)) < ends or best == float("inf"):
        run().sum().backward()  # type: ignore[no-untyped-call]
        best = min(best, _now(device) - began)
    return operations / best


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


@contextmanager
def _precision(device: torch.device, precision: str) -> Iterator[None]:
    with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16" and device.type == "cuda"):
        yield
