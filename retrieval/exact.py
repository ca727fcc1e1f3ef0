"""The best rows of a matrix for a query, exactly: a fast scan finds which rows can be among them, float64 scores those.

The scan's scores have known error bounds, so no row that belongs is missed; what is left is scored in float64 and
rounded once to float32. Hence the ranking depends on neither threads, blocks nor library, and equal vectors have equal
scores; ties fall to the earlier row.
"""

from __future__ import annotations

import operator
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from retrieval.codes import Codes, encode, is_fast, length, scan

_SCORES = 2**20
"""Scores held at once: 4 MiB of float32; larger blocks are new memory each time, which costs more than the sums."""
_REFINED = 2**10
"""Rows that are not beside each other, scored at once: 4 MiB of 1,024 columns in float32."""


def top_rows(
    vectors: Tensor, queries: np.ndarray, *, top: int, codes: Codes | None = None, mask: np.ndarray | None = None
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return for each query the rows of the highest inner products and these, best first, ties to the lower row.

    Args:
        vectors: (N, D), float32 or bfloat16.
        queries: (Q, D), floats.
        top: How many; all where there are fewer.
        codes: Of the vectors; used where the processor is fast at them.
        mask: (N,) bool, the rows that may be found; None: all.

    Raises:
        ValueError: If shapes do not fit, ``top`` is under 1, or a query holds NaN or infinity, or complex numbers.
        TypeError: If ``top`` is no whole number.
    """
    top = operator.index(top)
    if queries.ndim != 2 or queries.shape[1] != vectors.shape[1]:
        raise ValueError(f"queries must be of shape (Q, {vectors.shape[1]}), got {queries.shape}")
    if top < 1:
        raise ValueError(f"top must be 1 or more, got {top}")
    if not np.isrealobj(queries):
        raise ValueError(f"queries must be real numbers, got {queries.dtype}")
    if not (np.abs(queries) < np.finfo(np.float32).max / queries.shape[1] ** 0.5).all():  # lengths are finite, then
        raise ValueError("a query holds NaN or infinity, or is too long for float32")
    if mask is not None and mask.shape != vectors.shape[:1]:
        raise ValueError(f"mask must be of shape {tuple(vectors.shape[:1])}, got {mask.shape}")
    wanted = torch.from_numpy(np.array(queries, dtype=np.float32, order="C"))  # a copy: theirs may be read-only
    if not len(vectors) or not len(wanted):
        return [(np.empty(0, np.int64), np.empty(0, np.float32)) for _ in wanted]
    top = min(top, len(vectors))
    allowed = None if mask is None else torch.from_numpy(np.ascontiguousarray(mask))
    candidates = _candidates(vectors, wanted, top, codes if is_fast() and vectors.shape[1] > 1 else None, allowed)
    return [_refined(vectors, query, rows, top) for query, rows in zip(wanted, candidates, strict=True)]


def _candidates(
    vectors: Tensor, queries: Tensor, top: int, codes: Codes | None, allowed: Tensor | None
) -> list[Tensor]:
    """Return the rows that can be among the best of each query, in order.

    A row can, if its score may be as high as the least that ``top`` others have for certain.
    """
    scan = _float_scan(vectors, queries) if codes is None else _code_scan(codes, queries)
    step = max(_SCORES // len(queries), 1)
    floor = torch.full((len(queries), top), -torch.inf)
    found = []
    for start in range(0, len(vectors), step):
        rows = slice(start, min(start + step, len(vectors)))
        scores, off = scan(rows)
        if allowed is not None:
            scores.masked_fill_(~allowed[rows], -torch.inf)
        least = torch.topk(scores, min(top, scores.shape[1]), dim=1, sorted=False).values - off[:, None]
        floor = torch.topk(torch.cat([floor, least], dim=1), top, dim=1, sorted=False).values
        possible = scores >= (floor.amin(dim=1) - off)[:, None]
        if allowed is not None:
            possible &= allowed[rows]
        query, row = possible.nonzero(as_tuple=True)
        found.append((query, row + start, scores[query, row] + off[query]))
    query, row, most = (torch.cat(column) for column in zip(*found, strict=True))
    still = most >= floor.amin(dim=1)[query]
    return [row[still & (query == number)] for number in range(len(queries))]


def _code_scan(codes: Codes, queries: Tensor) -> Callable[[slice], tuple[Tensor, Tensor]]:
    coded, lengths = encode(queries), length(queries)
    return lambda rows: scan(codes, coded, lengths, rows)


def _float_scan(vectors: Tensor, queries: Tensor) -> Callable[[slice | Tensor], tuple[Tensor, Tensor]]:
    """Return what gives scores (Q, n) of some rows in float32, and how far at most any is off, (Q,).

    A dot product of D terms is off by D roundings of |q| |x| at most, in any order (Higham 2002, section 3.1);
    twice that is allowed, which covers the lengths' own rounding.
    """
    lengths = length(queries) * (2**-23 * (vectors.shape[1] + 2))

    def scan_floats(rows: slice | Tensor) -> tuple[Tensor, Tensor]:
        block = vectors[rows].float()
        return queries @ block.T, lengths * torch.linalg.vector_norm(block, dim=1).amax()

    return scan_floats


def _refined(vectors: Tensor, query: Tensor, rows: Tensor, top: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the best of some rows and their scores, from products in float64; of many, float32 leaves the few."""
    if len(rows) > max(_REFINED, top):
        scan = _float_scan(vectors, query[None])
        found = zip(*map(scan, torch.split(rows, _REFINED)), strict=True)
        near, off = (torch.cat(parts, dim=-1) for parts in found)
        least = torch.topk(near[0], top, sorted=False).values.amin() - off.amax()
        rows = rows[near[0] >= least - off.amax()]
    wide = query.double()
    parts = [(vectors[part].double() * wide).sum(dim=1).float() for part in torch.split(rows, _REFINED)]
    scores = torch.cat(parts).numpy() if parts else np.empty(0, np.float32)
    order = np.argsort(-scores, kind="stable")[:top]
    return rows.numpy()[order], scores[order]
