"""Dot products of embeddings that are the same whoever multiplies: exact, then rounded once to float32.

A float32 product of matrices depends on the shape of the block, the place in it, the number of threads and the
library: the last bits of one pair's score differ between two calls, and two captions with equal embeddings may come out
unequal. A metric that breaks ties by a rule cannot rest on that. So each row is first rounded to multiples of 2^-26
of about its length: then every partial sum of a product of two rows is a whole number below 2^53 times a power of two,
which float64 holds exactly, in whatever order it is summed. For rows of length one this moves a score by 6e-9 (root
mean square), a float32 product by 1e-8 to 2e-8; it takes twice the time.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.floating[Any]]

_BITS = 26
_SLACK = 1.4
"""Products stay below (1.4 * 2^26)^2 < 2^53. Its place, away from one, spares rows of length one a bit."""
_COARSE_BITS = 15
_EXPONENT_OF_ZERO = -200
"""Below that of any float32, so that a row of zeros does not count in the choice of a scale."""
_ROWS = 1024
"""Rows read at once where all of a matrix is looked at."""


class ExactRows:
    """Rows of a matrix (K, D), ready for exact products; read block by block, so a memory map stays one.

    All rows are scaled by one power of two, which changes no ranking: neither can scores overflow.

    Raises:
        ValueError: If it is not a matrix of numbers, or one is NaN or infinite in float32.
    """

    def __init__(self, embed: npt.ArrayLike, *, name: str) -> None:
        self._embed = np.asarray(embed)
        if self._embed.ndim != 2 or self._embed.dtype.kind not in "fiu":
            raise ValueError(f"{name} must be numbers (rows, D), got {self._embed.dtype} {self._embed.shape}")
        self._exponent = np.zeros(len(self), np.int64)
        not_finite = []
        for start in range(0, len(self), _ROWS):
            rows = slice(start, start + _ROWS)
            block = self._float32(rows)
            broken = np.any(~np.isfinite(block), axis=1)
            not_finite += (start + np.flatnonzero(broken)).tolist()
            self._exponent[rows] = _exponent_of_length(np.where(broken[:, None], 0, block))
        if not_finite:
            raise ValueError(
                f"{name} has NaN or infinite values in {len(not_finite)} rows, the first is {not_finite[0]}"
            )
        self._largest = self._exponent.max(initial=_EXPONENT_OF_ZERO)

    def __len__(self) -> int:
        return len(self._embed)

    @property
    def width(self) -> int:
        """D."""
        return int(self._embed.shape[1])

    def __getitem__(self, rows: slice | npt.NDArray[np.integer[Any]]) -> npt.NDArray[np.float64]:
        """Return some rows in float64, each rounded to multiples of 2^-26 of about its length."""
        exponent = self._exponent[rows, None]
        block = self._float32(rows).astype(np.float64)
        block *= np.ldexp(1.0, _BITS - exponent)
        np.rint(block, out=block)
        block *= np.ldexp(1.0, exponent - self._largest - _BITS)
        return block

    def _float32(self, rows: slice | npt.NDArray[np.integer[Any]]) -> npt.NDArray[np.float32]:
        with np.errstate(over="ignore"):  # what does not fit becomes infinite, and is refused as such
            return self._embed[rows].astype(np.float32)


def _exponent_of_length(rows: npt.NDArray[np.float32]) -> npt.NDArray[np.int64]:
    """Return e for each row, such that its L2 norm is at most 1.4 * 2^e, and more than about 0.7 * 2^e.

    The norm is taken of the row's leading bits, as whole numbers, so that this, too, does not depend on the order of
    the sum: two equal rows must not get two grids.
    """
    peak = np.abs(rows).max(axis=1, initial=0).astype(np.float64)
    largest = np.where(peak > 0, np.frexp(peak)[1], _EXPONENT_OF_ZERO)
    leading = np.rint(rows * np.ldexp(1.0, _COARSE_BITS - largest)[:, None])
    bound = np.sqrt((leading * leading).sum(axis=1)) + 0.5 * np.sqrt(rows.shape[1])
    exponent: npt.NDArray[np.int64] = np.frexp(bound / _SLACK)[1] + largest - _COARSE_BITS
    return exponent
