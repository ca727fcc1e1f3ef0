"""Retrieval metrics exactly as the paper computed them, their chance level, and DCASE's recall under its own name.

Text to audio: one right clip per caption. Audio to text: a clip's own captions are right. There, recall_at_k counts a
clip whose best caption is among the first k (a hit), and map_at_10 divides by the number of its captions, found or not:
the only pair of definitions that the paper's Table 3 admits. Ties go to the lower index, so that a model which gives
everything one score does no better than chance; code that counts only strictly better candidates gives it 100 %.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.floating[Any]]
IntArray = npt.NDArray[np.integer[Any]]
Ties = Literal["index", "optimistic", "pessimistic"]

METRICS = ("recall_at_1", "recall_at_5", "recall_at_10", "recall_at_50", "map_at_10", "median_rank")
"""The names of the contract, in the order of a printed table."""

_BLOCK_ELEMENTS = 8_000_000
"""Scores held at once: 32 MB in float32."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DirectionMetrics:
    """Metrics of one direction: fractions in [0, 1], and a 1-based rank."""

    recall_at_1: float
    recall_at_5: float
    recall_at_10: float
    recall_at_50: float
    map_at_10: float
    """Sum over right candidates ranked r_i <= 10 of i / r_i, divided by the number of right candidates; mean."""
    median_rank: float
    """Of the best right candidate of each query."""
    fractional_recall_at_1: float
    fractional_recall_at_5: float
    fractional_recall_at_10: float
    fractional_recall_at_50: float
    """Share of the right candidates among the first k (DCASE, trec); equals recall_at_k where one is right."""
    num_queries: int
    num_candidates: int
    num_tied: int
    """Queries with a right candidate tied with a wrong one: their rank is the tie rule's choice."""

    def as_dict(self) -> dict[str, float]:
        """Return the contract's metrics by name."""
        return {name: getattr(self, name) for name in METRICS}


@dataclass(frozen=True, slots=True, kw_only=True)
class RetrievalReport:
    """Metrics of both directions, query first."""

    text_to_audio: DirectionMetrics
    audio_to_text: DirectionMetrics

    def as_dict(self) -> dict[str, dict[str, float]]:
        """Return the contract's metrics under the contract's two directions."""
        return {"text_to_audio": self.text_to_audio.as_dict(), "audio_to_text": self.audio_to_text.as_dict()}

    def all_values(self) -> dict[str, dict[str, Any]]:
        """Return every field of both directions, counts and fractional recall too."""
        return asdict(self)

    @property
    def mean_map_at_10(self) -> float:
        """Mean of both directions' map_at_10: what a training run chooses its best checkpoint by."""
        return (self.text_to_audio.map_at_10 + self.audio_to_text.map_at_10) / 2


def retrieval_metrics(similarity: FloatArray, owner: IntArray, *, ties: Ties = "index") -> RetrievalReport:
    """Return both directions' metrics of a matrix of scores.

    Args:
        similarity: Scores (K, N), captions by clips, higher is better, any sign.
        owner: Index (K,) of the clip that each caption describes. A clip may have any number of captions; one
            without is a candidate only.
        ties: What the right candidate's rank is among equal scores. "index": the lower index first, as a stable
            sort does; "optimistic", "pessimistic": right ones first, last.

    Returns:
        Metrics; where there are fewer than k candidates, recall_at_k is 1.

    Raises:
        ValueError: If shapes do not fit, a score is NaN or infinite, or there is no caption.
    """
    similarity = np.asarray(similarity)
    if similarity.ndim != 2:
        raise ValueError(f"similarity must be (captions, clips), got {similarity.shape}")
    captions_of = _captions_of(owner, num_captions=similarity.shape[0], num_clips=similarity.shape[1])
    clip_of = _clip_of_each_caption(owner)
    _check_finite(similarity, "similarity")
    return RetrievalReport(
        text_to_audio=_direction(lambda rows: similarity[rows], clip_of, similarity.shape[1], ties),
        audio_to_text=_direction(lambda rows: similarity.T[rows], captions_of, similarity.shape[0], ties),
    )


def embedding_metrics(
    text_embed: FloatArray, audio_embed: FloatArray, owner: IntArray, *, ties: Ties = "index"
) -> RetrievalReport:
    """Return both directions' metrics of embeddings, scored by dot product in float32, block by block.

    The matrix of all scores is never held: 100,000 captions by 20,000 clips take a few hundred megabytes.

    Args:
        text_embed: Caption embeddings (K, D); rows of unit L2 norm for cosine similarity.
        audio_embed: Clip embeddings (N, D), likewise.
        owner: Index (K,) of the clip that each caption describes.
        ties: As in retrieval_metrics.

    Raises:
        ValueError: As retrieval_metrics.
    """
    text, audio = np.asarray(text_embed, np.float32), np.asarray(audio_embed, np.float32)
    if text.ndim != 2 or audio.ndim != 2 or text.shape[1] != audio.shape[1]:
        raise ValueError(f"embeddings must be (K, D) and (N, D), got {text.shape} and {audio.shape}")
    captions_of = _captions_of(owner, num_captions=len(text), num_clips=len(audio))
    _check_finite(text, "text_embed")
    _check_finite(audio, "audio_embed")
    return RetrievalReport(
        text_to_audio=_direction(lambda rows: text[rows] @ audio.T, _clip_of_each_caption(owner), len(audio), ties),
        audio_to_text=_direction(lambda rows: audio[rows] @ text.T, captions_of, len(text), ties),
    )


def chance_level(owner: IntArray, *, num_clips: int) -> RetrievalReport:
    """Return the expected metrics of a ranking drawn at random.

    With n candidates of which R are right, P(hit in k) = 1 - C(n-R, k) / C(n, k). A candidate at rank j is right with
    probability R/n, and then expects 1 + (j-1)(R-1)/(n-1) right ones up to itself, so that

        E[AP@10] = 1/n * sum over j = 1..min(10, n) of (1 + (j-1)(R-1)/(n-1)) / j,

    which is H_10 / n for R = 1. ``median_rank`` is the median of a random best rank.

    Args:
        owner: Index (K,) of the clip that each caption describes.
        num_clips: N.
    """
    captions_of = _captions_of(owner, num_captions=len(owner), num_clips=num_clips)
    return RetrievalReport(
        text_to_audio=_chance(np.ones(len(owner), np.int64), num_clips),
        audio_to_text=_chance(np.array([len(captions) for captions in captions_of.values()]), len(owner)),
    )


def _captions_of(owner: IntArray, *, num_captions: int, num_clips: int) -> dict[int, IntArray]:
    """Return the caption indices of every clip that has any, in order of the clips."""
    owner = np.asarray(owner)
    if owner.shape != (num_captions,):
        raise ValueError(f"owner must name one clip for each of {num_captions} captions, got shape {owner.shape}")
    if num_captions == 0:
        raise ValueError("there is no caption to evaluate")
    if not np.issubdtype(owner.dtype, np.integer):
        raise ValueError(f"owner must hold whole numbers, got {owner.dtype}")
    if owner.min() < 0 or owner.max() >= num_clips:
        raise ValueError(f"owner must lie in 0..{num_clips - 1}, got {owner.min()}..{owner.max()}")
    order = np.argsort(owner, kind="stable")
    clips, starts = np.unique(owner[order], return_index=True)
    return dict(zip(clips.tolist(), np.split(order, starts[1:]), strict=True))


def _clip_of_each_caption(owner: IntArray) -> dict[int, IntArray]:
    return {caption: np.array([clip]) for caption, clip in enumerate(np.asarray(owner).tolist())}


def _check_finite(array: FloatArray, name: str) -> None:
    finite = np.isfinite(array).all(axis=1)
    if not finite.all():
        raise ValueError(f"{name} has NaN or infinite values in {(~finite).sum()} rows, the first is {finite.argmin()}")


def _direction(
    scores_of: Callable[[IntArray], FloatArray], right: dict[int, IntArray], num_candidates: int, ties: Ties
) -> DirectionMetrics:
    """Return the metrics of queries (keys of ``right``) whose right candidates are the values."""
    if ties not in ("index", "optimistic", "pessimistic"):
        raise ValueError(f"ties must be index, optimistic or pessimistic, got {ties!r}")
    ranks, tied = [], 0
    for query, row in _rows(scores_of, np.array(list(right)), num_candidates):
        of_query, is_tied = _ranks_of_right(row, right[query], ties)
        ranks.append(np.sort(of_query))
        tied += is_tied
    best = np.array([of_query[0] for of_query in ranks])
    fractional = {k: float(np.mean([(of_query <= k).mean() for of_query in ranks])) for k in (1, 5, 10, 50)}
    return DirectionMetrics(
        recall_at_1=float((best <= 1).mean()),
        recall_at_5=float((best <= 5).mean()),
        recall_at_10=float((best <= 10).mean()),
        recall_at_50=float((best <= 50).mean()),
        map_at_10=float(np.mean([_average_precision_at_10(of_query) for of_query in ranks])),
        median_rank=float(np.median(best)),
        fractional_recall_at_1=fractional[1],
        fractional_recall_at_5=fractional[5],
        fractional_recall_at_10=fractional[10],
        fractional_recall_at_50=fractional[50],
        num_queries=len(ranks),
        num_candidates=num_candidates,
        num_tied=tied,
    )


def _rows(
    scores_of: Callable[[IntArray], FloatArray], queries: IntArray, num_candidates: int
) -> Iterator[tuple[int, FloatArray]]:
    """Yield each query with its scores, computed in blocks of bounded size."""
    size = max(1, _BLOCK_ELEMENTS // num_candidates)
    for start in range(0, len(queries), size):
        block = queries[start : start + size]
        yield from zip(block.tolist(), scores_of(block), strict=True)


def _ranks_of_right(row: FloatArray, right: IntArray, ties: Ties) -> tuple[IntArray, bool]:
    """Return the 1-based ranks of a query's right candidates, and whether one is tied with a wrong candidate."""
    score = row[right][:, None]
    equal = row[None, :] == score
    equal_right = equal[:, right]
    wrong_ties = equal.sum(axis=1) - equal_right.sum(axis=1)
    ranks = 1 + (row[None, :] > score).sum(axis=1)
    if ties == "index":
        ranks = ranks + (equal & (np.arange(len(row)) < right[:, None])).sum(axis=1)
    else:
        ranks = ranks + (equal_right & (right < right[:, None])).sum(axis=1)
        ranks = ranks + (wrong_ties if ties == "pessimistic" else 0)
    return ranks, bool(wrong_ties.any())


def _average_precision_at_10(ranks: IntArray) -> float:
    """Return AP@10 of sorted ranks, divided by the number of right candidates."""
    found = ranks[ranks <= 10]
    return float((np.arange(1, len(found) + 1) / found).sum() / len(ranks))


def _chance(num_right: IntArray, num_candidates: int) -> DirectionMetrics:
    """Return the expected metrics of random rankings, one query for each number of right candidates."""
    sizes, counts = np.unique(num_right, return_counts=True)
    weights = counts / counts.sum()

    def hit(k: int) -> float:
        return float(sum(w * _chance_of_hit(int(r), num_candidates, k) for r, w in zip(sizes, weights, strict=True)))

    def precision(right: int) -> float:
        more = (right - 1) / max(num_candidates - 1, 1)
        return sum((1 + (j - 1) * more) / j for j in range(1, min(10, num_candidates) + 1)) / num_candidates

    return DirectionMetrics(
        recall_at_1=hit(1),
        recall_at_5=hit(5),
        recall_at_10=hit(10),
        recall_at_50=hit(50),
        map_at_10=float(sum(w * precision(int(r)) for r, w in zip(sizes, weights, strict=True))),
        median_rank=_chance_median(hit, num_candidates),
        fractional_recall_at_1=min(1, num_candidates) / num_candidates,
        fractional_recall_at_5=min(5, num_candidates) / num_candidates,
        fractional_recall_at_10=min(10, num_candidates) / num_candidates,
        fractional_recall_at_50=min(50, num_candidates) / num_candidates,
        num_queries=len(num_right),
        num_candidates=num_candidates,
        num_tied=0,
    )


def _chance_of_hit(right: int, candidates: int, k: int) -> float:
    """Return 1 - C(candidates - right, k) / C(candidates, k)."""
    if right == 1:
        return min(k, candidates) / candidates
    if k > candidates - right:
        return 1.0
    return 1.0 - math.prod((candidates - right - i) / (candidates - i) for i in range(k))


def _chance_median(hit: Callable[[int], float], candidates: int) -> float:
    """Return the rank by which a random best candidate has come with probability one half."""
    low, high = 1, candidates
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if hit(middle) >= 0.5 - 1e-12 else (middle + 1, high)
    return low + 0.5 if abs(hit(low) - 0.5) < 1e-12 else float(low)
