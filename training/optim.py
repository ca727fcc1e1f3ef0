"""Parameter groups, optimisers, and schedules of the learning rate, which are functions of the step without state.

Groups follow the model's parts, since fine-tuning wants a pretrained encoder to move slower than a new projection.
Weight decay falls on matrices only: not on biases, norms and the logit scale.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from curation.errors import ConfigError
from training.config import LrFactors, OptimizerConfig, ScheduleConfig
from training.models.clap import Clap


def make_optimizer(model: Clap, config: OptimizerConfig) -> torch.optim.Optimizer:
    """Return the optimiser of a model whose ``optimizer.freeze`` has been applied (``Clap.freeze``).

    Its groups come in the order of the model's parts, matrices before the rest. Beside PyTorch's own keys each has
    ``part``, the part's name, and ``lr_factor``, by which its learning rate is multiplied. A frozen part has none.

    Raises:
        ConfigError: If a setting names a part that the model lacks, or every part is frozen.
    """
    parts = model.parts()
    _check_parts(config, parts)
    groups: list[dict[str, Any]] = []
    for part, module in parts.items():
        parameters = [parameter for parameter in _parameters(module) if parameter.requires_grad]
        matrices = [parameter for parameter in parameters if parameter.ndim >= 2]
        others = [parameter for parameter in parameters if parameter.ndim < 2]
        factor = getattr(config.lr_factors, part)
        for params, decay in ((matrices, config.weight_decay), (others, 0.0)):
            if params:
                groups.append(
                    {
                        "params": params,
                        "weight_decay": decay,
                        "lr": config.lr * factor,
                        "lr_factor": factor,
                        "part": part,
                    }
                )
    if not groups:
        raise ConfigError(
            f"optimizer.freeze=[{','.join(config.freeze)}] leaves nothing to train; the parts of this model are "
            f"{', '.join(parts)}: leave at least one out"
        )
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


def _check_parts(config: OptimizerConfig, parts: dict[str, Any]) -> None:
    """Refuse settings of parts that the model lacks: they would have no effect, and the run would be another one."""
    names = ", ".join(parts)
    for part in config.freeze:
        if part not in parts:
            raise ConfigError(f"optimizer.freeze names {part}, which this model lacks; its parts are {names}")
    for part in LrFactors.__dataclass_fields__:
        factor = getattr(config.lr_factors, part)
        if part not in parts and factor != 1:
            raise ConfigError(
                f"optimizer.lr_factors.{part}={factor}: this model has no {part}, its parts are {names}; "
                f"set optimizer.lr_factors.{part}=1, or add the encoder to model.audio"
            )


def _parameters(module: nn.Module | Tensor) -> list[Tensor]:
    return [module] if isinstance(module, Tensor) else list(module.parameters())
