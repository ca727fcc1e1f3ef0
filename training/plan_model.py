"""What a model costs, part by part, without its weights: parameters, floating-point operations, memory of a pair.

The model is built of shapes alone and run on shapes alone (PyTorch's meta and fake tensors), so counting takes seconds
and no memory, and needs neither published weights nor a tokenizer. Operations are those of matrix products and
convolutions, two for each multiplication with its addition, as torch counts them; front ends' transforms, a
thousandth of the work, are not among them. Activations are what autograd keeps for the way back, each storage once, by
the operators of a CPU: in bfloat16 a GPU keeps some norms' outputs in float32, and its fused attention keeps less.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.func import functional_call
from torch.utils.flop_counter import FlopCounterMode

from training.config import TrainConfig
from training.losses import contrastive_loss
from training.models.batchnorm import prepare_batch_norm
from training.models.build import build_clap, clip_samples
from training.models.clap import Clap
from training.models.text import text_model

_OTHER = "front ends"
"""What belongs to no part."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """Floating-point operations of one pair, by what does them: devices are not equally fast at both."""

    convolutions: float = 0.0
    products: float = 0.0

    @property
    def total(self) -> float:
        return self.convolutions + self.products

    def __add__(self, other: Work) -> Work:
        return Work(convolutions=self.convolutions + other.convolutions, products=self.products + other.products)


@dataclass(frozen=True, slots=True, kw_only=True)
class PartCost:
    """One part of a model, or "front ends", which have no parameters."""

    name: str
    parameters: int
    trained: int
    """Of the parameters: those that no optimizer.freeze holds."""
    forward: float
    """Operations of one pair."""
    activation_bytes: int
    """Kept for one pair."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCost:
    """A whole model in training."""

    parts: list[PartCost]
    forward: Work
    backward: Work
    """Of one pair each."""
    state_bytes: int
    """Parameters and buffers, float32."""
    fixed_bytes: int
    """Kept in a step whatever its size: weights in bfloat16, under autocast."""
    sound_bytes: int
    """Waveforms of one pair."""
    tokens: int
    """That a caption was counted with."""

    @property
    def parameters(self) -> int:
        return sum(part.parameters for part in self.parts)

    @property
    def trained(self) -> int:
        return sum(part.trained for part in self.parts)

    @property
    def activation_bytes(self) -> int:
        """Kept for one pair."""
        return sum(part.activation_bytes for part in self.parts)


def model_of_shapes(config: TrainConfig, text_config: Mapping[str, Any]) -> Clap:
    """Return the model of a recipe without values, as training would have it before the first step.

    Raises:
        ConfigError: If sizes do not fit each other.
    """
    with torch.device("meta"):
        text = text_model(dict(text_config), pooler=config.model.text.pooling == "pooler")
        model = build_clap(config.model, config.features, text=text, tokenizer=None)
    model.freeze(config.optimizer.freeze)
    if config.model.batch_norm == "frozen":  # "sync" differs between processes alone
        prepare_batch_norm(model, config.model.batch_norm)
    return model.train()


def count_model(model: Clap, config: TrainConfig, *, tokens: int) -> ModelCost:
    """Return the cost of a model of shapes, with captions of so many tokens."""
    with FakeTensorMode():
        two, three = (_forward(model, config, pairs=pairs, tokens=tokens) for pairs in (2, 3))
        with FlopCounterMode(display=False) as counter:
            two.loss.backward()  # type: ignore[no-untyped-call]
    backward = _work(counter.get_flop_counts()["Global"])
    per_pair = {name: three.kept.get(name, 0) - kept for name, kept in two.kept.items()}
    parts = [
        PartCost(
            name=name,
            parameters=sum(parameter.numel() for parameter in _parameters(part)),
            trained=sum(parameter.numel() for parameter in _parameters(part) if parameter.requires_grad),
            forward=two.work[name].total / 2 if name in two.work else 0.0,
            activation_bytes=per_pair.get(name, 0),
        )
        for name, part in model.parts().items()
    ]
    whole = two.work[""]
    rest = whole.total / 2 - sum(part.forward for part in parts)
    parts.append(PartCost(name=_OTHER, parameters=0, trained=0, forward=rest, activation_bytes=per_pair.get(_OTHER, 0)))
    tensors = [*model.parameters(), *model.buffers()]
    return ModelCost(
        parts=parts,
        forward=Work(convolutions=whole.convolutions / 2, products=whole.products / 2),
        backward=Work(convolutions=backward.convolutions / 2, products=backward.products / 2),
        state_bytes=sum(tensor.numel() * tensor.element_size() for tensor in tensors),
        fixed_bytes=sum(two.kept.values()) - 2 * sum(per_pair.values()),
        sound_bytes=4 * sum(clip_samples(config.model, config.features).values()),
        tokens=tokens,
    )


@dataclass(frozen=True, slots=True)
class _Forward:
    """A forward pass on shapes."""

    work: dict[str, Work]
    """By part, and of all under ""."""
    kept: dict[str, int]
    """Bytes by part."""
    loss: Tensor


def _forward(model: Clap, config: TrainConfig, *, pairs: int, tokens: int) -> _Forward:
    """Return what the forward pass of so many pairs costs; to be called in a FakeTensorMode."""
    state = {
        name: torch.empty(tensor.shape, dtype=tensor.dtype, requires_grad=tensor.requires_grad)
        for name, tensor in (*model.named_parameters(), *model.named_buffers())
    }
    sizes = clip_samples(config.model, config.features)
    waveforms = {name: torch.zeros(pairs, size) for name, size in sizes.items()}
    ids = torch.zeros(pairs, tokens, dtype=torch.long)
    weights = {tensor.untyped_storage()._cdata for tensor in state.values()}
    kept: dict[int, tuple[str, torch.UntypedStorage]] = {}
    with _current_part(model) as current:

        def keep(tensor: Tensor) -> Tensor:
            storage = tensor.untyped_storage()
            if storage._cdata not in weights:
                kept.setdefault(storage._cdata, (current[-1], storage))  # held, or its number would be given again
            return tensor

        with (
            FlopCounterMode(display=False) as counter,
            torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
            torch.autocast("cpu", torch.bfloat16, enabled=config.run.precision == "bfloat16"),
        ):
            audio_embed, text_embed = functional_call(model, state, (waveforms, ids, torch.ones_like(ids)))
    sums: dict[str, int] = {}
    for name, storage in kept.values():
        sums[name] = sums.get(name, 0) + storage.nbytes()
    counts = counter.get_flop_counts()
    work = {name: _work(counts.get(f"Clap.{place}", {})) for name, place in _places(model).items()}
    work[""] = _work(counts["Global"])
    return _Forward(work, sums, contrastive_loss(audio_embed, text_embed, state["logit_scale"].exp()))


def _work(counts: Mapping[Any, int]) -> Work:
    """Return counts by operator as work."""
    convolutions = sum(count for operator, count in counts.items() if "convolution" in str(operator))
    return Work(convolutions=convolutions, products=sum(counts.values()) - convolutions)


def _places(model: Clap) -> dict[str, str]:
    """Return the name in the model of each part that is a module."""
    names = {id(module): name for name, module in model.named_modules()}
    return {part: names[id(module)] for part, module in model.parts().items() if isinstance(module, nn.Module)}


@contextmanager
def _current_part(model: Clap) -> Iterator[list[str]]:
    """Give a list whose last entry is the part that is at work."""
    current = [_OTHER]
    hooks = []
    for name, part in model.parts().items():
        if isinstance(part, nn.Module):
            hooks.append(part.register_forward_pre_hook(lambda module, inputs, name=name: current.append(name)))
            hooks.append(part.register_forward_hook(lambda module, inputs, output: _drop_last(current)))
    try:
        yield current
    finally:
        for hook in hooks:
            hook.remove()


def _drop_last(names: list[str]) -> None:
    names.pop()


def _parameters(part: nn.Module | nn.Parameter) -> list[Tensor]:
    return [part] if isinstance(part, Tensor) else list(part.parameters())
