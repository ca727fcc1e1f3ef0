"""How sure a score is: bootstrap intervals over clips, and the paired comparison of two models on one list.

What is drawn again is the clip, with all its captions: the captions of one clip share its sound, so counting them as
independent would make intervals too narrow. The candidates stay as they are: a query keeps its rank, because a pool in
which clips come twice would be another, easier or harder, task. Intervals are percentiles of the resampled scores.

They are too narrow for a handful of clips, and for scores of nearly 0 or 100 %: with 120 simulated clips, 94 intervals
in 100 held a truth of 58 %, 80 one of 99 %; where all clips score alike, an interval has no width at all.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from training.metrics import METRICS, DirectionRanks
from training.ranking import CUTS

__all__ = ["Difference", "Interval", "bootstrap", "compare"]

Float64Array = npt.NDArray[np.float64]
Interval = tuple[float, float]

_DIRECTIONS = ("text_to_audio", "audio_to_text")
_ELEMENTS = 4_000_000
"""Weights of queries held at once: 32 MB."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """The second model's score minus the first's, in the metric's own unit."""

    difference: float
    low: float
    high: float
    p_value: float
    """Two-sided: twice the share of resamples in which the difference is not on the side where it was found."""


def bootstrap(
    ranks: tuple[DirectionRanks, DirectionRanks],
    *,
    resamples: int = 2000,
    seed: int = 0,
    confidence: float = 0.95,
) -> dict[str, dict[str, Interval]]:
    """Return the interval of every metric, as direction -> metric -> (low, high).

    Args:
        ranks: Of rank_embeddings or rank_similarity.
        resamples: Number of lists of clips drawn, with replacement, as long as the list itself.
        seed: Same seed, same lists: the intervals are reproducible.
        confidence: Share of resampled scores inside the interval, the rest in equal parts below and above.

    Raises:
        ValueError: If fewer than two clips have captions (nothing varies), or a setting is out of range.
    """
    samples = _samples([ranks], resamples=resamples, seed=seed, confidence=confidence)
    low, high = _percentiles(samples[0], confidence)
    return {
        direction: {name: (float(low[i, j]), float(high[i, j])) for j, name in enumerate(METRICS)}
        for i, direction in enumerate(_DIRECTIONS)
    }


def compare(
    first: tuple[DirectionRanks, DirectionRanks],
    second: tuple[DirectionRanks, DirectionRanks],
    *,
    lists: tuple[str | Sequence[str], str | Sequence[str]],
    resamples: int = 2000,
    seed: int = 0,
    confidence: float = 0.95,
) -> dict[str, dict[str, Difference]]:
    """Return how much better the second model scores, as direction -> metric -> Difference.

    Both are scored on the same resampled clips, so what makes a clip hard for both cancels out.

    Args:
        first: Ranks of one model.
        second: Ranks of another, on the same clips and captions in the same order.
        lists: What the two were measured on: the clip ids in order, or a hash of the list.
        resamples: As bootstrap.
        seed: As bootstrap.
        confidence: As bootstrap.

    Raises:
        ValueError: If the two were not measured on the same list, or as bootstrap.
    """
    _check_same_list(first, second, lists)
    one, other = _samples([first, second], resamples=resamples, seed=seed, confidence=confidence)
    found = _scores(second) - _scores(first)
    low, high = _percentiles(other - one, confidence)
    wrong_side = np.minimum((other <= one).sum(axis=0), (other >= one).sum(axis=0))
    p_value = np.minimum(1.0, 2 * (wrong_side + 1) / (resamples + 1))
    return {
        direction: {
            name: Difference(
                difference=float(found[i, j]),
                low=float(low[i, j]),
                high=float(high[i, j]),
                p_value=float(p_value[i, j]),
            )
            for j, name in enumerate(METRICS)
        }
        for i, direction in enumerate(_DIRECTIONS)
    }


def _check_same_list(
    first: tuple[DirectionRanks, DirectionRanks],
    second: tuple[DirectionRanks, DirectionRanks],
    lists: tuple[str | Sequence[str], str | Sequence[str]],
) -> None:
    one, other = lists
    if isinstance(one, str) != isinstance(other, str):
        raise ValueError("lists must be two hashes or two sequences of clip ids, got one of each")
    if isinstance(one, str):
        if one != other:
            raise ValueError(f"the two were measured on different lists of clips: {one} and {other}")
    elif list(one) != list(other):
        raise ValueError(
            f"the two were measured on different lists of clips: {len(one)} and {len(other)} clips, "
            f"{len(set(one) & set(other))} of them in both{'' if set(one) != set(other) else ', in another order'}"
        )
    for direction, a, b in zip(_DIRECTIONS, first, second, strict=True):
        if a.num_candidates != b.num_candidates or not np.array_equal(a.clip, b.clip):
            raise ValueError(
                f"{direction}: the two have different queries or candidates: {len(a.clip)} among {a.num_candidates} "
                f"and {len(b.clip)} among {b.num_candidates}; captions must be the same, in the same order"
            )


def _samples(
    models: Sequence[tuple[DirectionRanks, DirectionRanks]], *, resamples: int, seed: int, confidence: float
) -> list[Float64Array]:
    """Return each model's scores (resamples, 2 directions, metrics), on the same resampled clips."""
    if resamples < 1:
        raise ValueError(f"resamples must be at least 1, got {resamples}")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie between 0 and 1, got {confidence}")
    clips = np.unique(models[0][0].clip)
    if len(clips) < 2:
        raise ValueError(f"an interval needs at least 2 clips with captions, found {len(clips)}")
    prepared = [[_Prepared(ranks, clips) for ranks in model] for model in models]
    samples = [np.empty((resamples, len(_DIRECTIONS), len(METRICS))) for _ in models]
    done = 0
    for weights in _resampled(len(clips), resamples=resamples, seed=seed, widest=len(models[0][0].clip)):
        rows = slice(done, done + len(weights))
        for of_model, directions in zip(samples, prepared, strict=True):
            for i, direction in enumerate(directions):
                of_model[rows, i] = direction.scores(weights)
        done += len(weights)
    return samples


def _resampled(num_clips: int, *, resamples: int, seed: int, widest: int) -> Iterator[Float64Array]:
    """Yield how often each clip was drawn, (some resamples, clips), in blocks of bounded size."""
    rng = np.random.default_rng(seed)
    size = max(1, _ELEMENTS // widest)
    for start in range(0, resamples, size):
        num = min(size, resamples - start)
        drawn = rng.integers(num_clips, size=(num, num_clips)) + num_clips * np.arange(num)[:, None]
        yield np.bincount(drawn.ravel(), minlength=num * num_clips).reshape(num, num_clips).astype(np.float64)


def _scores(ranks: tuple[DirectionRanks, DirectionRanks]) -> Float64Array:
    """Return the scores (2, metrics) on the list as it is."""
    clips = np.unique(ranks[0].clip)
    once = np.ones((1, len(clips)))
    return np.concatenate([_Prepared(of_direction, clips).scores(once) for of_direction in ranks])


class _Prepared:
    """One direction's queries, summed by clip for the means and sorted by rank for the median."""

    def __init__(self, ranks: DirectionRanks, clips: npt.NDArray[np.int64]) -> None:
        clip = np.searchsorted(clips, ranks.clip)
        hits = [ranks.best_rank <= k for k in CUTS]
        values = np.stack([np.ones(len(clip)), *hits, ranks.average_precision])
        self._sums = np.stack([np.bincount(clip, weights=row, minlength=len(clips)) for row in values], axis=1)
        order = np.argsort(ranks.best_rank, kind="stable")
        self._clip_by_rank, self._rank = clip[order], ranks.best_rank[order]

    def scores(self, weights: Float64Array) -> Float64Array:
        """Return the metrics (B, metrics), in the order of METRICS, of weights (B, clips)."""
        sums = weights @ self._sums
        return np.concatenate([sums[:, 1:] / sums[:, :1], self._median(weights)[:, None]], axis=1)

    def _median(self, weights: Float64Array) -> Float64Array:
        total = np.cumsum(weights[:, self._clip_by_rank], axis=1)
        middle = total[:, -1]
        lower, upper = (middle - 1) // 2, middle // 2
        medians = [
            (self._rank[np.searchsorted(row, low, "right")] + self._rank[np.searchsorted(row, high, "right")]) / 2
            for row, low, high in zip(total, lower, upper, strict=True)
        ]
        return np.array(medians)


def _percentiles(samples: Float64Array, confidence: float) -> tuple[Float64Array, Float64Array]:
    low, high = np.quantile(samples, [(1 - confidence) / 2, (1 + confidence) / 2], axis=0)
    return low, high
