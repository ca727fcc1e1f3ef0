"""Where the right candidates rank, both ways between captions and clips, in blocks of bounded memory.

Every rank is counted, not sorted: one and the number of better candidates, plus what the tie rule says of equal ones.
Both directions are counted on the same block of scores, so a pair has one score whoever asks. Text to audio, one clip
is right for a caption; audio to text, all captions of a clip are right for it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from training.exact import ExactRows

FloatArray = npt.NDArray[np.floating[Any]]
IntArray = npt.NDArray[np.integer[Any]]
Int64Array = npt.NDArray[np.int64]
Float32Array = npt.NDArray[np.float32]
Ties = Literal["index", "optimistic", "pessimistic"]

CUTS = (1, 5, 10, 50)
"""The k of recall at k."""

_CAPTIONS, _CLIPS = 1024, 4096
"""Scores computed at once: 32 MB in float64."""
_ROWS, _COLUMNS = 128, 1024
"""Scores counted at once, which the cache holds. Rows: 255 at most, for their counts are kept in a byte."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DirectionRanks:
    """What one direction's metrics are means of: one entry for each of Q queries."""

    best_rank: Int64Array
    """(Q,): 1-based rank of the best right candidate."""
    average_precision: npt.NDArray[np.float64]
    """(Q,): sum over right candidates ranked r_i <= 10 of i / r_i, divided by the number of right candidates."""
    fractional_recall: npt.NDArray[np.float64]
    """(Q, 4): share of the right candidates among the first 1, 5, 10 and 50."""
    clip: Int64Array
    """(Q,): the clip that the query is, or whose caption it is."""
    tied: npt.NDArray[np.bool_]
    """(Q,): whether a right candidate is tied with a wrong one: the rank is the tie rule's choice."""
    num_candidates: int

    @property
    def num_tied(self) -> int:
        """Number of queries of which a right candidate is tied with a wrong one."""
        return int(self.tied.sum())


class Ranks(NamedTuple):
    """Both directions, query first. Queries are in the order of the captions and of the clips that have any."""

    text_to_audio: DirectionRanks
    audio_to_text: DirectionRanks


def rank_similarity(similarity: npt.ArrayLike, owner: npt.ArrayLike, *, ties: Ties = "index") -> Ranks:
    """Return where the right candidates rank in a matrix of scores.

    Args:
        similarity: Scores (K, N), captions by clips, higher is better, any sign; compared in float32.
        owner: Index (K,) of the clip that each caption describes. A clip may have any number of captions; one
            without is a candidate only.
        ties: What the right candidate's rank is among equal scores. "index": the lower index first, as a stable
            sort does; "optimistic", "pessimistic": right ones first, last.

    Raises:
        ValueError: If shapes do not fit, a score is NaN or infinite in float32, or there is no caption.
    """
    matrix = np.asarray(similarity)
    if matrix.ndim != 2 or matrix.dtype.kind not in "fiu":
        raise ValueError(f"similarity must be numbers (captions, clips), got {matrix.dtype} {matrix.shape}")
    owner = checked_owner(owner, num_captions=matrix.shape[0], num_clips=matrix.shape[1])
    _check_finite(matrix)
    right = matrix[np.arange(len(owner)), owner].astype(np.float32)
    return _ranks(
        lambda clips: lambda captions: matrix[captions][:, clips],
        right,
        owner,
        num_clips=matrix.shape[1],
        ties=ties,
    )


def rank_embeddings(
    text_embed: npt.ArrayLike, audio_embed: npt.ArrayLike, owner: npt.ArrayLike, *, ties: Ties = "index"
) -> Ranks:
    """Return where the right candidates rank by dot product: exact products of float32 rows, rounded to float32.

    The matrix of all scores is never held; neither blocks nor threads change a score (training.exact).

    Args:
        text_embed: Caption embeddings (K, D); rows of unit L2 norm for cosine similarity. May be a memory map.
        audio_embed: Clip embeddings (N, D), likewise.
        owner: Index (K,) of the clip that each caption describes.
        ties: As in rank_similarity.

    Raises:
        ValueError: As rank_similarity.
    """
    text, audio = ExactRows(text_embed, name="text_embed"), ExactRows(audio_embed, name="audio_embed")
    if text.width != audio.width:
        raise ValueError(f"embeddings must be (K, D) and (N, D) with one D, got D = {text.width} and {audio.width}")
    owner = checked_owner(owner, num_captions=len(text), num_clips=len(audio))
    right = np.empty(len(text), np.float32)
    for start in range(0, len(text), _CAPTIONS):
        rows = slice(start, start + _CAPTIONS)
        right[rows] = np.einsum("kd,kd->k", text[rows], audio[owner[rows]])

    def against(clips: Int64Array) -> Callable[[slice], FloatArray]:
        columns = audio[clips].T
        return lambda captions: text[captions] @ columns

    return _ranks(against, right, owner, num_clips=len(audio), ties=ties)


def checked_owner(owner: npt.ArrayLike, *, num_captions: int, num_clips: int) -> Int64Array:
    """Return the clip of each caption, or raise ValueError if it is not one index of a clip for each."""
    owner = np.asarray(owner)
    if owner.shape != (num_captions,):
        raise ValueError(f"owner must name one clip for each of {num_captions} captions, got shape {owner.shape}")
    if num_captions == 0:
        raise ValueError("there is no caption to evaluate")
    if owner.dtype.kind not in "iu":
        raise ValueError(f"owner must hold whole numbers, got {owner.dtype}")
    if owner.min() < 0 or owner.max() >= num_clips:
        raise ValueError(f"owner must lie in 0..{num_clips - 1}, got {owner.min()}..{owner.max()}")
    return owner.astype(np.int64)


def _check_finite(matrix: npt.NDArray[Any]) -> None:
    not_finite: list[int] = []
    for start in range(0, len(matrix), _CAPTIONS):
        with np.errstate(over="ignore"):
            block = matrix[start : start + _CAPTIONS].astype(np.float32, copy=False)
        not_finite += (start + np.flatnonzero(~np.isfinite(block).all(axis=1))).tolist()
    if not_finite:
        raise ValueError(
            f"similarity has NaN or infinite values in {len(not_finite)} rows, the first is {not_finite[0]}"
        )


def _ranks(
    against: Callable[[Int64Array], Callable[[slice], FloatArray]],
    right: Float32Array,
    owner: Int64Array,
    *,
    num_clips: int,
    ties: Ties,
) -> Ranks:
    if ties not in ("index", "optimistic", "pessimistic"):
        raise ValueError(f"ties must be index, optimistic or pessimistic, got {ties!r}")
    of_text, of_audio = _count(against, right, owner, num_clips=num_clips)
    text_to_audio = _direction(
        of_text.rank(ties, right_equal=0, right_before=0),
        np.arange(len(owner)),
        tied=of_text.equal > 0,
        clip=owner,
        num_candidates=num_clips,
    )
    right_equal, right_before = _equal_among_own(right, owner)
    clips, query = np.unique(owner, return_inverse=True)
    audio_to_text = _direction(
        of_audio.rank(ties, right_equal=right_equal, right_before=right_before),
        query,
        tied=np.bincount(query, weights=of_audio.equal - right_equal) > 0,
        clip=clips,
        num_candidates=len(owner),
    )
    return Ranks(text_to_audio, audio_to_text)


@dataclass(frozen=True, slots=True, eq=False)
class _Counts:
    """Of the other candidates, for the right one that each caption makes: (K,) each."""

    above: Int64Array
    equal: Int64Array
    before: Int64Array
    """Equal, and of a lower index."""

    def rank(self, ties: Ties, *, right_equal: Int64Array | int, right_before: Int64Array | int) -> Int64Array:
        """Return 1-based ranks; equal right candidates are in order of their indices under every rule."""
        if ties == "index":
            return 1 + self.above + self.before
        wrong = self.equal - right_equal if ties == "pessimistic" else 0
        return 1 + self.above + right_before + wrong


def _count(
    against: Callable[[Int64Array], Callable[[slice], FloatArray]],
    right: Float32Array,
    owner: Int64Array,
    *,
    num_clips: int,
) -> tuple[_Counts, _Counts]:
    """Return the counts among clips for each caption, and among captions for each caption's clip.

    Clips are taken in order of how many captions they have: the j-th captions of a block's clips are then compared
    with the first columns of a block, side by side as they are.
    """
    num_captions = len(owner)
    of_text = _Counts(*np.zeros((3, num_captions), np.int64))
    of_audio = _Counts(*np.zeros((3, num_captions), np.int64))
    spread = np.bincount(owner, minlength=num_clips)
    order = np.argsort(-spread, kind="stable")
    captions, first = np.argsort(owner, kind="stable"), np.cumsum(spread) - spread
    for start in range(0, num_clips, _CLIPS):
        clips = order[start : start + _CLIPS]
        scores_of = against(clips)
        parts = [slice(left, left + _COLUMNS) for left in range(0, len(clips), _COLUMNS)]
        groups = [_groups(clips[part], captions, spread, first) for part in parts]
        for begin in range(0, num_captions, _CAPTIONS):
            block = scores_of(slice(begin, begin + _CAPTIONS))
            for top in range(0, len(block), _ROWS):
                rows = np.arange(begin + top, begin + min(top + _ROWS, len(block)))
                for part, of_part in zip(parts, groups, strict=True):
                    scores = block[top : top + _ROWS, part].astype(np.float32)
                    _count_along(scores.T, rows, right, clips[part], owner[rows], of_text)
                    for items, columns in of_part:
                        _count_along(scores[:, columns], items, right, rows, items, of_audio)
    of_text.equal[:] -= 1  # the right one itself
    of_audio.equal[:] -= 1
    return of_text, of_audio


def _groups(
    clips: Int64Array, captions: Int64Array, spread: Int64Array, first: Int64Array
) -> list[tuple[Int64Array, slice | Int64Array]]:
    """Return the captions of clips, in groups, each with the columns of its captions' clips.

    A group is the j-th captions of all clips that have as many, which are the first columns; where few have, it is
    several such j, lest one clip with thousands of captions makes thousands of groups.
    """
    of_clip = spread[clips]
    widths = np.searchsorted(-of_clip, -np.arange(of_clip[0]))  # how many clips have more than 0, 1, 2 ... captions
    ends = np.cumsum(widths)
    groups: list[tuple[Int64Array, slice | Int64Array]] = []
    level = 0
    while level < len(widths):
        after = int(np.searchsorted(ends, ends[level] - widths[level] + _COLUMNS, "right"))
        levels = range(level, max(level + 1, after))
        columns = np.concatenate([np.arange(widths[j]) for j in levels])
        items = captions[first[clips[columns]] + np.repeat(levels, widths[levels])]
        groups.append((items, slice(len(items)) if len(levels) == 1 else columns))
        level = levels.stop
    return groups


def _count_along(
    scores: Float32Array, items: Int64Array, right: Float32Array, candidates: Int64Array, own: Int64Array, into: _Counts
) -> None:
    """Add what a block of scores (candidates, items) counts; ``own`` is each item's own candidate."""
    score = right[items]
    above, reached = _sum(scores > score), _sum(scores >= score)
    into.above[items] += above
    into.equal[items] += reached - above
    tied = np.flatnonzero(reached > above)
    if len(tied):
        equal = scores[:, tied] == score[tied]
        into.before[items[tied]] += np.count_nonzero(equal & (candidates[:, None] < own[tied]), axis=0)


def _sum(mask: npt.NDArray[np.bool_]) -> Int64Array:
    """Return how many are true in each column; much faster in bytes, where no column can hold more than 255."""
    if len(mask) > 255:
        return np.asarray(np.count_nonzero(mask, axis=0), np.int64)
    counts: Int64Array = np.add.reduce(mask.view(np.uint8), axis=0, dtype=np.uint8).astype(np.int64)
    return counts


def _equal_among_own(right: Float32Array, owner: Int64Array) -> tuple[Int64Array, Int64Array]:
    """Return, for each caption, the other captions of its clip with the same score: all, and those before it."""
    order = np.lexsort((np.arange(len(owner)), right, owner))
    new = np.ones(len(owner), bool)
    new[1:] = (np.diff(owner[order]) != 0) | (right[order][1:] != right[order][:-1])
    starts = np.flatnonzero(new)
    sizes = np.diff(np.append(starts, len(owner)))
    equal, before = np.empty_like(owner), np.empty_like(owner)
    equal[order] = np.repeat(sizes - 1, sizes)
    before[order] = np.arange(len(owner)) - np.repeat(starts, sizes)
    return equal, before


def _direction(
    rank: Int64Array, query: Int64Array, *, tied: npt.NDArray[np.bool_], clip: Int64Array, num_candidates: int
) -> DirectionRanks:
    """Gather the ranks of right candidates by query, 0 to Q - 1, each of which has at least one."""
    order = np.lexsort((rank, query))
    rank, query = rank[order], query[order]
    starts = np.flatnonzero(np.diff(query, prepend=-1))
    num_right = np.diff(np.append(starts, len(query)))
    position = 1 + np.arange(len(rank)) - np.repeat(starts, num_right)
    precision = np.where(rank <= 10, position / rank, 0.0)
    found = np.add.reduceat(rank[:, None] <= np.array(CUTS), starts, axis=0, dtype=np.int64)
    return DirectionRanks(
        best_rank=rank[starts],
        average_precision=np.add.reduceat(precision, starts) / num_right,
        fractional_recall=found / num_right[:, None],
        clip=clip,
        tied=tied,
        num_candidates=num_candidates,
    )
