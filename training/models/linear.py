"""Linear layers that are fast in inference on a CPU: by oneDNN, where torch's own use MKL.

MKL leaves the wide instructions of AMD's processors unused: on an AMD EPYC with AVX-512, float32 products of HTSAT's
sizes ran 2.2 times as fast in oneDNN, which torch brings with it and uses itself in ``torch.compile``. Results differ
by rounding, as between two machines. Training, other types, devices and exports are torch's own linear layer.
"""

from __future__ import annotations

from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class FastLinear(nn.Linear):
    """``nn.Linear`` with another product on CPU in float32 where no gradient is asked for."""

    def forward(self, x: Tensor) -> Tensor:
        """Return (..., out_features) of (..., in_features)."""
        fits = x.device.type == "cpu" and x.dtype == self.weight.dtype == torch.float32
        if fits and x.shape[-1:] == (self.in_features,) and _is_plain_inference():
            # what torch's compiler calls; the underscore says that it may change with a version of torch
            product: Tensor = torch.ops.mkldnn._linear_pointwise(x, self.weight, self.bias, "none", [], "")
            return product
        return F.linear(x, self.weight, self.bias)


def use_fast_linear(module: nn.Module) -> None:
    """Make every linear layer inside a module a FastLinear; names and parameters stay."""
    for layer in module.modules():
        if type(layer) is nn.Linear:
            layer.__class__ = FastLinear


def _is_plain_inference() -> bool:
    return not (
        torch.is_grad_enabled()
        or torch.is_autocast_enabled("cpu")
        or torch.compiler.is_compiling()
        or torch._C._get_tracing_state() is not None
        or not torch.backends.mkldnn.enabled
        or not _has_onednn()
    )


@cache
def _has_onednn() -> bool:
    is_built: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    return is_built and hasattr(torch.ops.mkldnn, "_linear_pointwise")
