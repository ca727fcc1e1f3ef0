"""Retrieval metrics exactly as the paper computed them, their chance level, and DCASE's recall under its own name.

Text to audio: one right clip per caption. Audio to text: a clip's own captions are right. There, recall_at_k counts a
clip whose best caption is among the first k (a hit), and map_at_10 divides by the number of its captions, found or not:
the only pair of definitions that the paper's Table 3 admits. Ties go to the lower index, so that a model which gives
everything one score finds one clip in N, as chance does; code that counts only strictly better candidates gives it
100 %. Ranks themselves are counted in training.ranking.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from training.ranking import (
    CUTS,
    DirectionRanks,
    IntArray,
    Ranks,
    Ties,
    checked_owner,
    rank_embeddings,
    rank_similarity,
)

__all__ = [
    "METRICS",
    "DirectionMetrics",
    "RetrievalReport",
    "retrieval_metrics",
    "embedding_metrics",
    "report_of",
    "chance_level",
    "DirectionRanks",
    "Ranks",
    "Ties",
    "rank_embeddings",
    "rank_similarity",
]

METRICS = ("recall_at_1", "recall_at_5", "recall_at_10", "recall_at_50", "map_at_10", "median_rank")
"""The names of the contract, in the order of a printed table."""


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


def retrieval_metrics(similarity: npt.ArrayLike, owner: npt.ArrayLike, *, ties: Ties = "index") -> RetrievalReport:
    """Return both directions' metrics of a matrix of scores; arguments and errors as rank_similarity.

    Where there are fewer than k candidates, recall_at_k is 1.
    """
    return report_of(rank_similarity(similarity, owner, ties=ties))


def embedding_metrics(
    text_embed: npt.ArrayLike, audio_embed: npt.ArrayLike, owner: npt.ArrayLike, *, ties: Ties = "index"
) -> RetrievalReport:
    """Return both directions' metrics of embeddings, block by block; arguments and errors as rank_embeddings."""
    return report_of(rank_embeddings(text_embed, audio_embed, owner, ties=ties))


def report_of(ranks: tuple[DirectionRanks, DirectionRanks]) -> RetrievalReport:
    """Return the metrics of ranks: of text to audio and of audio to text."""
    text_to_audio, audio_to_text = ranks
    return RetrievalReport(text_to_audio=_metrics(text_to_audio), audio_to_text=_metrics(audio_to_text))


def _metrics(ranks: DirectionRanks) -> DirectionMetrics:
    hits = {f"recall_at_{k}": float((ranks.best_rank <= k).mean()) for k in CUTS}
    shares = ranks.fractional_recall.mean(axis=0).tolist()
    return DirectionMetrics(
        **hits,
        **{f"fractional_recall_at_{k}": share for k, share in zip(CUTS, shares, strict=True)},
        map_at_10=float(ranks.average_precision.mean()),
        median_rank=float(np.median(ranks.best_rank)),
        num_queries=len(ranks.best_rank),
        num_candidates=ranks.num_candidates,
        num_tied=ranks.num_tied,
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
    owner = checked_owner(owner, num_captions=len(owner), num_clips=num_clips)
    spread = np.bincount(owner)
    return RetrievalReport(
        text_to_audio=_chance(np.ones(len(owner), np.int64), num_clips),
        audio_to_text=_chance(spread[spread > 0], len(owner)),
    )


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
    """Return 1 - C(candidates - right, k) / C(candidates, k), in which right and k may change places."""
    if right == 1:
        return min(k, candidates) / candidates
    if k > candidates - right:
        return 1.0
    few, many = sorted((right, k))
    return 1.0 - math.prod((candidates - many - i) / (candidates - i) for i in range(few))


def _chance_median(hit: Callable[[int], float], candidates: int) -> float:
    """Return the rank by which a random best candidate has come with probability one half."""
    low, high = 1, candidates
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if hit(middle) >= 0.5 - 1e-12 else (middle + 1, high)
    return low + 0.5 if abs(hit(low) - 0.5) < 1e-12 else float(low)
