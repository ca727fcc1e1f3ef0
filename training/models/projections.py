"""What maps a tower's output into the common space: the paper's words, and the two forms that released code has.

linear     one linear layer, as the paper's equation 2 says; the default
residual   two layers around a GELU, their sum normalised: the code its authors released later (msclap)
mlp        two layers around a ReLU: LAION's CLAP, and what transformers' ClapModel can hold
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

PROJECTIONS = ("linear", "residual", "mlp")


def make_projection(kind: str, in_features: int, out_features: int, *, bias: bool = True) -> nn.Module:
    """Return a projection (B, in_features) -> (B, out_features); ``bias`` is for "linear" alone.

    Raises:
        ValueError: If there is no such kind.
    """
    if kind == "linear":
        return nn.Linear(in_features, out_features, bias=bias)
    if kind == "residual":
        return ResidualProjection(in_features, out_features)
    if kind == "mlp":
        return MlpProjection(in_features, out_features)
    raise ValueError(f"projection must be one of {', '.join(PROJECTIONS)}, got {kind!r}")


class ResidualProjection(nn.Module):
    """y = norm(a + dropout(linear2(gelu(a)))), a = linear1(x), both layers without bias (msclap's Projection)."""

    def __init__(self, in_features: int, out_features: int, *, dropout: float = 0.5) -> None:
        super().__init__()
        self.linear1 = nn.Linear(in_features, out_features, bias=False)
        self.linear2 = nn.Linear(out_features, out_features, bias=False)
        self.layer_norm = nn.LayerNorm(out_features)
        self.dropout = dropout

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, out_features) of (B, in_features)."""
        first = self.linear1(x)
        second = F.dropout(self.linear2(F.gelu(first)), self.dropout, self.training)
        normalised: Tensor = self.layer_norm(first + second)
        return normalised


class MlpProjection(nn.Module):
    """y = linear2(relu(linear1(x))) (LAION-CLAP's and transformers' projection)."""

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__()
        self.linear1 = nn.Linear(in_features, out_features)
        self.linear2 = nn.Linear(out_features, out_features)

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, out_features) of (B, in_features)."""
        projected: Tensor = self.linear2(F.relu(self.linear1(x)))
        return projected
