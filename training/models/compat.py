"""Makes timm and transformers importable next to a CPU-only torch.

PyPI's torchvision is built against CUDA; beside a CPU torch its library of operators does not load, and
``import torchvision`` then stops at the first operator that it wants to describe ("operator torchvision::nms does
not exist"). timm and transformers import torchvision, so both fail with it, although nothing here uses an operator
of it. Declaring the two operators' signatures, without code behind them, lets the import through. Where
torchvision works, or is not installed, nothing happens.

Importing ``training.models`` does this. Code of your own that imports timm or transformers' models *before* it meets
torchvision's error as it is; put this first:

    from training.models.compat import prepare_torchvision

    prepare_torchvision()
"""

from __future__ import annotations

import importlib
import sys
import threading

import torch

_OPERATORS = {
    "nms": "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms": "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
}
_lock = threading.Lock()
_library: torch.library.Library | None = None
"""Kept for the life of the process: its declarations go when it goes."""


def prepare_torchvision() -> None:
    """Import torchvision, declaring its missing operators first where they are missing.

    Call it before the first import of timm or of a transformers model; after one that failed, it puts right what that
    left behind. Safe to call again, and from several threads.

    Raises:
        RuntimeError: If torchvision fails for another reason than missing operators.
    """
    with _lock:
        try:
            importlib.import_module("torchvision")  # costs nothing where it is loaded
        except ModuleNotFoundError:
            return  # timm says so better, and transformers does without
        except RuntimeError as error:
            if "torchvision::" not in str(error) or _library is not None:
                raise
            _declare_operators()
            importlib.import_module("torchvision")


def _declare_operators() -> None:
    """Declare the operators that are missing, and forget the modules of the import that failed for want of them."""
    global _library
    for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
        del sys.modules[name]
    _library = torch.library.Library("torchvision", "FRAGMENT")  # type: ignore[no-untyped-call]
    for name, signature in _OPERATORS.items():
        if not hasattr(torch.ops.torchvision, name):
            _library.define(signature)  # type: ignore[no-untyped-call]
