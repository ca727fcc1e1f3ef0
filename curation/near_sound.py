"""Compares fingerprints: which of many clips may be the same, and whether two of them are.

Candidates come from hashing, not from comparing all with all: rows of lines that are alike fall into one bucket of at
least one of many tables (random hyperplanes: Charikar, 2002, doi:10.1145/509907.509965), and where rows of one bucket
correlate, their clips are looked at. Each candidate is then aligned exactly: every offset at which the two overlap
enough is tried.

A score is not a probability. It is the correlation of cells over the part in common, of the view that agrees less;
what it must reach falls with the number of cells it rests on, since few cells agree by chance: ``required_score``.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Cells = npt.NDArray[np.int8]
Numbers = npt.NDArray[np.int64]

FRAMES_A_LINE = 16
"""Frames of bands between two rows of lines."""

_LEAST_SHARED = 0.4  # of the cells of the clip that tells less
_FEWEST_FRAMES = 8  # in common: 0.19 s; clicks under that are as alike as copies
_OFFSETS_TRIED = 3  # the best by the bands, whose lines are then compared

_TABLES, _BITS = 32, 20
_SHORT_ROWS, _SHORT_TABLES, _SHORT_BITS = 4, 64, 14  # clips under 1.5 s: few rows to be found by, so more chances each
_TABLES_AT_ONCE = 8
_FEWEST_CELLS = 12  # a row with fewer tells nothing
_ALIKE = 0.5  # correlation of two rows that make their clips candidates; the same sound has 0.6 to 1, another 0 to 0.4
_FURTHEST = 32  # in a bucket, in order: thousands of equal beeps are chained, not compared all with all
_ROWS_AT_ONCE = 50_000
_MOST_CLIPS = 1 << 31  # two numbers in 62 bits


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Views:
    """A fingerprint's cells, each -1, 0 or 1."""

    lead: int
    """Frames of the clip before the first."""
    bands: Cells
    """(T, 16), one row a frame."""
    lines: Cells
    """(S, 128), one row every FRAMES_A_LINE frames."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """How two clips agree at their best alignment."""

    score: float
    offset: int
    """Frames from the start of the first clip to that of the second."""
    frames: int
    """In common."""


def required_score(num_cells: float) -> float:
    """Return the score from which two clips are near-same: 0.5 and 2 standard errors of so many cells.

    Measured as score - 2 / sqrt(cells). 214,000 pairs of unrelated sound effects: 0.07 is reached by 1 in 100, 0.14 by
    1 in 1,000, 0.21 by 1 in 10,000, 0.30 by the highest; that goes on to about 1 in 10**8 at 0.5. Copies (MP3 and Ogg
    at 100 kbit/s, 16 kHz, other gain, padded) have 0.72 to 0.81 in the middle, and 19 of 20 reach 0.49 to 0.54.
    """
    return 0.5 + 2 / math.sqrt(max(num_cells, 1))


def compare(one: Views, other: Views) -> Match | None:
    """Return how two clips agree, or None if they are not near-same; the same either way round."""
    if _order(one) > _order(other):
        match = compare(other, one)
        return match and Match(score=match.score, offset=-match.offset, frames=match.frames)
    best: Match | None = None
    for offset, score, num_cells in _alignments(one.bands, other.bands):
        lines_score, num_lines = max(
            _agreement_of_lines(one.lines, other.lines, offset), _agreement_of_lines(other.lines, one.lines, -offset)
        )
        score = min(score, lines_score)
        frames = min(len(one.bands), len(other.bands) + offset) - max(0, offset)
        if frames < _FEWEST_FRAMES or score < required_score(min(num_cells, num_lines)):
            continue
        if best is None or score > best.score:
            best = Match(score=score, offset=offset + one.lead - other.lead, frames=frames)
    return best


def candidate_pairs(lines: Iterable[Cells], *, num_first: int | None = None) -> list[tuple[int, int]]:
    """Return the pairs of clips that may be near-same, by number, lower first, in order.

    About one pair of alike rows in thirty is overlooked; a copy of over 1.5 s has many rows to be found by.

    Args:
        lines: Of each clip, (S, 128).
        num_first: Only pairs of one of the first so many clips with one of the rest; None: any two.
    """
    rows = _Rows.of(lines)
    short = np.bincount(rows.owner)[rows.owner] <= _SHORT_ROWS
    keys = _alike(rows, num_first, tables=_TABLES, bits=_BITS)
    keys |= _alike(rows.where(short), num_first, tables=_SHORT_TABLES, bits=_SHORT_BITS)
    return [divmod(key, _MOST_CLIPS) for key in sorted(keys)]


def _alike(rows: _Rows, num_first: int | None, *, tables: int, bits: int) -> set[int]:
    """Return lower number * _MOST_CLIPS + higher number of the clips with a pair of rows alike."""
    bits = max(bits, len(rows.owner).bit_length() - 3)  # buckets of 8 or so, however many rows there are
    # The legacy generator, whose stream is frozen: the same tables with every version of numpy.
    planes = np.random.RandomState(4).choice(np.array([-1, 1], np.float32), (128, tables * bits))
    second = rows.owner >= num_first if num_first is not None else np.zeros(len(rows.owner), np.bool_)
    turn = rows.owner - np.where(second, num_first or 0, 0)  # the two sides alternate in a bucket
    keys: set[int] = set()
    for begin in range(0, tables, _TABLES_AT_ONCE):
        for words in rows.words(planes[:, begin * bits : (begin + _TABLES_AT_ONCE) * bits], bits):
            order = np.lexsort((second, turn, words))
            new = np.ones(len(order), bool)  # one row of a clip in a bucket is enough
            new[1:] = (np.diff(words[order]) != 0) | (np.diff(rows.owner[order]) != 0)
            order = order[new]
            near = _neighbours(words[order])
            if num_first is not None:
                near = itertools.chain(_next_across(words[order], second[order]), near)
            for left, right in near:
                left, right = order[left], order[right]
                if num_first is not None:
                    across = second[left] != second[right]
                    left, right = left[across], right[across]
                alike = rows.correlation(left, right) >= _ALIKE
                low, high = np.sort([rows.owner[left[alike]], rows.owner[right[alike]]], axis=0)
                keys.update(np.unique(low * _MOST_CLIPS + high).tolist())
    return keys


def _order(views: Views) -> tuple[int, bytes, bytes, int]:
    return len(views.bands), views.bands.tobytes(), views.lines.tobytes(), views.lead


def _alignments(one: Cells, other: Cells) -> list[tuple[int, float, float]]:
    """Return the most telling offsets of the second clip in the first: offset, correlation, number of cells."""
    num_one, num_other = len(one), len(other)
    if not num_one or not num_other:
        return []
    size = 1 << (num_one + num_other - 1).bit_length()
    spectrum = np.fft.rfft(one.T, size) * np.fft.rfft(other.T, size).conj()
    offsets = np.arange(1 - num_other, num_one)
    agreeing = np.rint(np.fft.irfft(spectrum.sum(axis=0), size)[offsets])  # whole numbers: the same on every machine
    begin, end = np.maximum(offsets, 0), np.minimum(num_one, num_other + offsets)
    sums_one, sums_other = (np.cumsum(np.append(0, np.count_nonzero(c, axis=1))) for c in (one, other))
    num_cells = np.sqrt(
        (sums_one[end] - sums_one[begin]) * (sums_other[end - offsets] - sums_other[begin - offsets]), dtype=np.float64
    )
    enough = num_cells >= max(1.0, _LEAST_SHARED * min(sums_one[-1], sums_other[-1]))
    offsets, agreeing, num_cells = offsets[enough], agreeing[enough], num_cells[enough]
    best = np.lexsort((np.abs(offsets), -agreeing / np.sqrt(num_cells)))[:_OFFSETS_TRIED]
    return [(int(offsets[i]), float(agreeing[i] / num_cells[i]), float(num_cells[i])) for i in best]


def _agreement_of_lines(one: Cells, other: Cells, offset: int) -> tuple[float, float]:
    """Return correlation and number of cells at an offset in frames; the second clip's rows are interpolated."""
    rows, part = divmod(offset / FRAMES_A_LINE, 1)
    padded = np.pad(other.astype(np.float64), ((1, 1), (0, 0)))
    moved = (1 - part) * padded[1:] + part * padded[:-1]
    begin, end = max(0, int(rows)), min(len(one), len(moved) + int(rows))
    if end <= begin:
        return 0.0, 0.0
    left, right = one[begin:end].astype(np.float64), moved[begin - int(rows) : end - int(rows)]
    energy = float((left**2).sum() * (right**2).sum())
    if energy == 0:
        return 0.0, 0.0
    num_cells = math.sqrt(np.count_nonzero(left) * np.count_nonzero(right))
    return float((left * right).sum()) / math.sqrt(energy), num_cells


def _neighbours(words: Numbers) -> Iterator[tuple[Numbers, Numbers]]:
    """Yield index pairs of equal words in a sorted array, up to _FURTHEST apart."""
    for step in range(1, min(_FURTHEST + 1, len(words))):
        left = np.flatnonzero(words[step:] == words[:-step])
        if len(left) == 0:
            return
        yield left, left + step


def _next_across(words: Numbers, second: npt.NDArray[np.bool_]) -> Iterator[tuple[Numbers, Numbers]]:
    """Yield index pairs of equal words in a sorted array: each with the next of the other side before and after it."""
    index = np.arange(len(words))
    for side in (second, ~second):
        before = np.maximum.accumulate(np.where(side, index, -1))
        behind = np.minimum.accumulate(np.where(side, index, len(words))[::-1])[::-1]
        for nearest in (before, behind):
            met = np.flatnonzero(~side & (nearest >= 0) & (nearest < len(words)))
            met = met[words[nearest[met]] == words[met]]
            yield nearest[met], met


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Rows:
    """The telling rows of lines of all clips, 128 cells each, as bits."""

    above: npt.NDArray[np.uint64]
    """(M, 2): cells that are 1."""
    below: npt.NDArray[np.uint64]
    """(M, 2): cells that are -1."""
    owner: Numbers
    """(M,): number of the clip, rising."""

    @classmethod
    def of(cls, lines: Iterable[Cells]) -> _Rows:
        above, below, owner = [], [], []
        for number, cells in enumerate(lines):
            telling = cells[np.count_nonzero(cells, axis=1) >= _FEWEST_CELLS]
            above.append(np.packbits(telling > 0, axis=1))
            below.append(np.packbits(telling < 0, axis=1))
            owner.append(np.full(len(telling), number))
        if not owner:
            return cls(above=np.zeros((0, 2), np.uint64), below=np.zeros((0, 2), np.uint64), owner=np.zeros(0, int))
        return cls(
            above=np.concatenate(above).view(np.uint64),
            below=np.concatenate(below).view(np.uint64),
            owner=np.concatenate(owner),
        )

    def where(self, chosen: npt.NDArray[np.bool_]) -> _Rows:
        return _Rows(above=self.above[chosen], below=self.below[chosen], owner=self.owner[chosen])

    def words(self, planes: npt.NDArray[np.float32], bits: int) -> Iterator[Numbers]:
        """Yield each table's word of every row (M,): on which side of its planes the row lies."""
        num_tables = planes.shape[1] // bits
        words = np.empty((num_tables, len(self.owner)), np.int64)
        for begin in range(0, len(self.owner), _ROWS_AT_ONCE):
            part = slice(begin, begin + _ROWS_AT_ONCE)
            above, below = (np.unpackbits(side[part].view(np.uint8), axis=1) for side in (self.above, self.below))
            sides = (above.astype(np.float32) - below) @ planes > 0  # sums of whole numbers: exact
            words[:, part] = (sides.reshape(-1, num_tables, bits) @ (1 << np.arange(bits))).T
        yield from words

    def correlation(self, left: Numbers, right: Numbers) -> npt.NDArray[np.float64]:
        """Return the correlation of each pair of rows."""
        above, below = self.above[left], self.below[left]
        other_above, other_below = self.above[right], self.below[right]
        agreeing = _ones(above & other_above) + _ones(below & other_below)
        opposed = _ones(above & other_below) + _ones(below & other_above)
        num_cells = np.sqrt(_ones(above | below) * _ones(other_above | other_below))
        return (agreeing - opposed) / num_cells


def _ones(bits: npt.NDArray[np.uint64]) -> npt.NDArray[np.float64]:
    ones: npt.NDArray[np.float64] = np.bitwise_count(bits).sum(axis=1, dtype=np.float64)
    return ones
