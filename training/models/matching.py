"""Whether the tensors of a file are exactly those that a model of ours has: the one gate between files and models."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from curation.errors import ConfigError
from training.models.cnn14 import Cnn14
from training.models.htsat import Htsat
from training.models.report import Report

Shapes = Mapping[str, tuple[int, ...]]

_COUNTER = "num_batches_tracked"
"""What batch norm counts and nothing here reads; old files lack it, averages of several hold it as a float."""


def encoder_shapes(name: str, settings: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Return the name and shape of every tensor of an audio encoder of ours.

    Args:
        name: cnn14 or htsat.
        settings: Arguments of Cnn14 or Htsat.

    Raises:
        ValueError: If there is none of such sizes.
    """
    encoders: dict[str, Callable[..., nn.Module]] = {"cnn14": Cnn14, "htsat": Htsat}
    try:
        with torch.device("meta"):
            return {key: tuple(x.shape) for key, x in encoders[name](**settings).state_dict().items()}
    except (AssertionError, RuntimeError, ZeroDivisionError, IndexError, TypeError) as error:
        raise ValueError(f"{type(error).__name__}: {error}") from error


def match(
    report: Report,
    tensors: Mapping[str, Tensor],
    theirs: Mapping[str, str],
    *,
    expected: Shapes,
    what: str,
    their_name: Callable[[str], str],
) -> dict[str, Tensor]:
    """Return a file's tensors by our names, as float32 in memory of their own; the report is told.

    Args:
        report: Of the file.
        tensors: By the names in the file.
        theirs: The name in the file for each of ours.
        expected: Every name and shape of ours.
        what: What ours is, for messages.
        their_name: What a name of ours would be in the file, for messages.

    Raises:
        ConfigError: If one of ours is missing, one of theirs has no place, or a tensor has another shape, holds no
            floats, or is not finite; names the first.
    """
    counters = [name for name in expected if name.endswith(_COUNTER) and name not in theirs]
    if lacking := [name for name in expected if name not in theirs and name not in counters]:
        raise ConfigError(
            f"{report.source}: not a whole {what}: {len(lacking)} of its {len(expected)} tensors are missing, first "
            f"{their_name(lacking[0])}; nothing was converted"
        )
    if strange := [name for ours, name in theirs.items() if ours not in expected]:
        raise ConfigError(
            f"{report.source}: no {what}: {len(strange)} tensors have no place in one, first {strange[0]}; "
            "nothing was converted"
        )
    taken = {ours: torch.zeros(expected[ours], dtype=torch.int64) for ours in counters}
    for ours, name in theirs.items():
        if tuple(tensors[name].shape) != expected[ours]:
            raise ConfigError(
                f"{report.source}: no {what} of these sizes: {name} has shape {tuple(tensors[name].shape)}, expected "
                f"{expected[ours]}; nothing was converted"
            )
        try:
            taken[ours] = plain(tensors[name], name=name)
        except ValueError as error:
            raise ConfigError(f"{report.source}: {error}; nothing was converted") from error
    report.matched += theirs.values()
    report.missing += [their_name(name) for name in counters]
    report.num_parameters += sum(tensor.numel() for tensor in taken.values())
    types = Counter(str(tensors[name].dtype) for ours, name in theirs.items() if not ours.endswith(_COUNTER))
    del types["torch.float32"]
    for dtype, count in sorted(types.items()):
        report.notes.append(f"{count} tensors were {dtype.removeprefix('torch.')}; written as float32")
    return taken


def plain(tensor: Tensor, *, name: str) -> Tensor:
    """Return a tensor as float32, or as int64 if it counts batches, in memory of its own.

    Raises:
        ValueError: If it cannot be one, or is not finite; the message begins with its name.
    """
    if tensor.layout != torch.strided or tensor.is_quantized or tensor.device.type != "cpu":
        raise ValueError(f"{name} is no plain tensor ({tensor.layout}, {tensor.dtype}, {tensor.device})")
    is_counter = name.endswith(_COUNTER)
    if not tensor.is_floating_point() and not (is_counter and tensor.dtype in (torch.int64, torch.int32)):
        raise ValueError(f"{name} holds {tensor.dtype}, not floats")
    if is_counter and tensor.isfinite().all():
        return tensor.round().to(torch.int64, copy=True)
    taken = tensor.to(torch.float32, copy=True, memory_format=torch.contiguous_format)
    if not taken.isfinite().all():  # also what float64 holds and float32 cannot
        raise ValueError(f"{name} holds {int((~taken.isfinite()).sum())} NaN or infinite values")
    return taken
