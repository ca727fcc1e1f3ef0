"""Vectors in 8 bits, with what they lose: a scan that reads an eighth or a quarter of the bytes and stays exact.

A vector x is kept as codes c, whole numbers in [-127, 127], and a scale s, so that s c is near x; beside them lie the
length of what is missing, |x - s c|, and |s c|. For a query q, coded alike as t d, the Cauchy-Schwarz inequality bounds
what the coded score can be off:

    |q.x - s t (c.d)|  <=  |q| |x - s c|  +  |q - t d| |s c|

c.d is a sum of whole numbers, exact, for which processors have an instruction of their own (VNNI). The rows that can be
among the best, whatever the rounding did, are few; ``retrieval.exact`` scores those from the vectors themselves.
Scalar quantisation with a refining second pass is common in vector search; the bound makes it exact here.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

_ROWS = 2**14
_SLACK = 1e-6
"""For the roundings to float32 between the sum and the score, six at most, each of 2**-24 of a score."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Codes:
    """Vectors (N, D) in 8 bits."""

    codes: Tensor
    """(N, D) int8."""
    scale: Tensor
    """(N,) float32."""
    lost: Tensor
    """(N,) float32: |x - scale * codes|, rounded up."""
    length: Tensor
    """(N,) float32: |scale * codes|, rounded up."""


def encode(vectors: Tensor) -> Codes:
    """Return the codes of vectors (N, D) of any float type."""
    num, dim = vectors.shape
    out = Codes(
        codes=torch.empty(num, dim, dtype=torch.int8),
        scale=torch.empty(num),
        lost=torch.empty(num),
        length=torch.empty(num),
    )
    for start in range(0, num, _ROWS):
        part = slice(start, start + _ROWS)
        x = vectors[part].double()
        scale = (x.abs().amax(dim=1) / 127).float().clamp(min=1e-30)
        whole = (x / scale.double()[:, None]).round().clamp(-127, 127)
        coded = whole * scale.double()[:, None]
        out.codes[part], out.scale[part] = whole.to(torch.int8), scale
        out.lost[part] = _up((x - coded).norm(dim=1))
        out.length[part] = _up(coded.norm(dim=1))
    return out


def scan(codes: Codes, queries: Codes, query_lengths: Tensor, rows: slice) -> tuple[Tensor, Tensor]:
    """Return coded scores (Q, n) of some rows, and how far at most any is off, (Q,), of coded queries.

    Args:
        codes: Of the rows.
        queries: Of the queries (Q, D).
        query_lengths: (Q,) float32, rounded up.
        rows: Which rows.
    """
    sums = torch._int_mm(queries.codes, codes.codes[rows].T)
    scores = torch.mul(sums, codes.scale[rows]).mul_(queries.scale[:, None])
    off = query_lengths * codes.lost[rows].amax() + queries.lost * codes.length[rows].amax()
    return scores, off + _SLACK * query_lengths * (1 + codes.length[rows].amax())


def is_fast() -> bool:
    """Return whether this processor multiplies 8-bit numbers by an instruction of its own, and torch uses it."""
    supported = getattr(torch.cpu, "_is_vnni_supported", lambda: False)
    return hasattr(torch, "_int_mm") and bool(supported())


def length(vectors: Tensor) -> Tensor:
    """Return the lengths of vectors (N, D) as float32, rounded up."""
    return _up(vectors.double().norm(dim=1))


def _up(values: Tensor) -> Tensor:
    """Return float64 lengths as float32, none of them smaller."""
    return torch.nextafter(values.float(), torch.tensor(torch.inf))
