"""Parameter groups, optimisers, and schedules of the learning rate, which are functions of the step without state."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn

from training.config import OptimizerConfig, ScheduleConfig


def make_optimizer(model: nn.Module, config: OptimizerConfig) -> torch.optim.Optimizer:
    """Return the optimiser; weight decay falls on matrices only, not on biases, norms and the logit scale."""
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": config.weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    kind: Any = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[config.name]
    optimizer: torch.optim.Optimizer = kind(groups, lr=config.lr, betas=tuple(config.betas), fused=True)
    return optimizer


def learning_rate(config: ScheduleConfig, *, lr: float, step: int, steps_per_epoch: int, total_steps: int) -> float:
    """Return the learning rate of a step, counted from 0.

    "step": ``lr * gamma ** (epoch // step_epochs)`` (the paper's: 0.1 every 20 epochs). "cosine": half a cosine from
    ``lr`` to 0 over what follows the warm-up. Warm-up: linear, full at step ``warmup_steps``.
    """
    if step < config.warmup_steps:
        return lr * (step + 1) / (config.warmup_steps + 1)
    if config.name == "step":
        return lr * config.gamma ** (step // steps_per_epoch // config.step_epochs)
    if config.name == "cosine":
        done = (step - config.warmup_steps) / max(total_steps - config.warmup_steps, 1)
        return lr * 0.5 * (1 + math.cos(math.pi * done))
    return lr
