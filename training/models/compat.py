"""Makes timm and transformers importable next to a CPU-only torch.

PyPI's torchvision is built against CUDA; beside a CPU torch its library of operators does not load, and
``import torchvision`` then stops at the first operator that it wants to describe ("operator torchvision::nms does
not exist"). timm and transformers import torchvision, so both fail with it, although nothing here uses an operator
of it. Declaring the two operators' signatures, without code behind them, lets the import through. Where
torchvision works, or is not installed, nothing happens.
"""

from __future__ import annotations

import importlib
import sys

import torch

_OPERATORS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)
_library: torch.library.Library | None = None
"""Kept for the life of the process: its declarations go when it goes."""


def prepare_torchvision() -> None:
    """Import torchvision, declaring its missing operators first where they are missing.

    Must run before the first import of timm or of a transformers model. Safe to call again.

    Raises:
        RuntimeError: If torchvision fails for another reason than missing operators.
    """
    global _library
    if "torchvision" in sys.modules or _library is not None:
        return
    try:
        importlib.import_module("torchvision")
    except ModuleNotFoundError:
        return  # timm says so better, and transformers does without
    except RuntimeError as error:
        if "torchvision::" not in str(error):
            raise
        for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
            del sys.modules[name]
        _library = torch.library.Library("torchvision", "FRAGMENT")  # type: ignore[no-untyped-call]
        for operator in _OPERATORS:
            _library.define(operator)  # type: ignore[no-untyped-call]
        importlib.import_module("torchvision")
