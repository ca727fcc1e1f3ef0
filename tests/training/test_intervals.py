"""Intervals against the closed forms of their width, their coverage in simulation, and a resample made by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training.intervals import bootstrap, compare
from training.metrics import METRICS, DirectionRanks, rank_similarity, report_of

DIRECTIONS = ("text_to_audio", "audio_to_text")


def ranks_of(best_rank: np.ndarray, clip: np.ndarray) -> DirectionRanks:
    """One right candidate a query."""
    best_rank = np.asarray(best_rank, np.int64)
    return DirectionRanks(
        best_rank=best_rank,
        average_precision=np.where(best_rank <= 10, 1 / best_rank, 0),
        fractional_recall=best_rank[:, None] <= np.array([1, 5, 10, 50]),
        clip=np.asarray(clip, np.int64),
        tied=np.zeros(len(best_rank), bool),
        num_candidates=1000,
    )


def both(of_captions: np.ndarray, of_clips: np.ndarray) -> tuple[DirectionRanks, DirectionRanks]:
    """Ranks (clips, captions a clip) and (clips,)."""
    clips, each = of_captions.shape
    return ranks_of(of_captions.ravel(), np.repeat(np.arange(clips), each)), ranks_of(of_clips, np.arange(clips))


def some_ranks(seed: int = 0, clips: int = 80) -> tuple[DirectionRanks, DirectionRanks]:
    """Of a random matrix in which right pairs score higher; clips with 0 to 6 captions."""
    rng = np.random.default_rng(seed)
    owner = np.repeat(np.arange(clips), np.random.default_rng(9).integers(0, 7, clips))
    scores = rng.random((len(owner), clips))
    scores[np.arange(len(owner)), owner] += rng.random(len(owner))
    return rank_similarity(scores, owner)


@pytest.mark.parametrize("seed", range(6))
def test_a_resample_is_clips_with_all_their_captions(seed):
    ranks = some_ranks(seed, clips=9 + seed)
    clips = np.unique(ranks[0].clip)
    drawn = clips[np.random.default_rng(seed).integers(len(clips), size=len(clips))]
    intervals = bootstrap(ranks, resamples=1, seed=seed)
    for direction, of_direction in zip(DIRECTIONS, ranks, strict=True):
        queries = np.concatenate([np.flatnonzero(of_direction.clip == clip) for clip in drawn])
        best = of_direction.best_rank[queries]
        expected = {f"recall_at_{k}": (best <= k).mean() for k in (1, 5, 10, 50)}
        expected |= {"map_at_10": of_direction.average_precision[queries].mean(), "median_rank": np.median(best)}
        assert list(intervals[direction]) == list(METRICS)
        for name, value in expected.items():
            assert intervals[direction][name] == (pytest.approx(value, abs=1e-12),) * 2, name


def test_intervals_hold_the_score_and_are_reproducible(monkeypatch):
    ranks = some_ranks()
    intervals, report = bootstrap(ranks), report_of(ranks).as_dict()
    for direction in DIRECTIONS:
        for name in METRICS:
            low, high = intervals[direction][name]
            assert low <= report[direction][name] <= high
            assert low < high or name == "median_rank"
    assert bootstrap(ranks) == intervals
    assert bootstrap(ranks, seed=1) != intervals
    monkeypatch.setattr("training.intervals._ELEMENTS", 1000)
    assert bootstrap(ranks) == intervals
    narrower = bootstrap(ranks, confidence=0.5)["text_to_audio"]["recall_at_1"]
    assert intervals["text_to_audio"]["recall_at_1"][0] < narrower[0] < narrower[1]


@pytest.mark.parametrize(
    ("clips", "share", "direction", "independent", "standard_error"),
    [  # what the paper's own R@1 can be trusted to, in points: captions that agree in all, and in nothing
        (742, 0.33, "text_to_audio", False, 1.73),
        (742, 0.33, "text_to_audio", True, 0.77),
        (742, 0.40, "audio_to_text", False, 1.80),
        (1045, 0.16, "text_to_audio", False, 1.13),
        (1045, 0.16, "text_to_audio", True, 0.51),
        (1045, 0.18, "audio_to_text", False, 1.19),
    ],
)
def test_width_equals_the_standard_error_of_the_binomial(clips, share, direction, independent, standard_error):
    rng = np.random.default_rng(0)
    hits = np.arange(clips * 5) < round(share * clips * 5) if independent else np.arange(clips) < round(share * clips)
    hits = rng.permutation(hits)
    of_captions = hits.reshape(clips, 5) if independent else np.repeat(hits[:, None], 5, axis=1)
    ranks = both(np.where(of_captions, 1, 60), np.where(hits[:clips], 1, 60))
    low, high = bootstrap(ranks)[direction]["recall_at_1"]
    assert 100 * (high - low) / (2 * 1.96) == pytest.approx(standard_error, rel=0.06)


def drawn(rng: np.random.Generator, clips: int, *, shift: float = 0.0) -> tuple[DirectionRanks, DirectionRanks]:
    """Ranks of captions that share their clip's difficulty: log-normal about 4, in each clip about its own mean."""
    difficulty = rng.normal(1.4 + shift, 1.0, (clips, 1))
    of_captions = np.ceil(np.exp(difficulty + 0.4 * rng.standard_normal((clips, 5))))
    return both(of_captions, of_captions.min(axis=1))


def test_ninety_five_in_a_hundred_intervals_hold_the_truth():
    rng = np.random.default_rng(0)
    truth = report_of(drawn(rng, 400_000)).as_dict()
    lists = [bootstrap(drawn(rng, 120), resamples=300, seed=i) for i in range(300)]
    for direction in DIRECTIONS:
        for name in METRICS:
            if truth[direction][name] > 0.95 and name != "median_rank":
                continue  # the limit that the module states
            held = [low <= truth[direction][name] <= high for low, high in (i[direction][name] for i in lists)]
            # 0.95 within three standard errors of 300 lists; of a median, a whole number, an interval may hold more
            assert 0.91 <= np.mean(held) <= (1.0 if name == "median_rank" else 0.988), (direction, name)


def test_captions_alone_would_be_taken_for_more_than_they_are():
    rng = np.random.default_rng(1)
    ranks = drawn(rng, 300)
    alone = ranks_of(ranks[0].best_rank, np.arange(1500))
    (low, high), (narrow, too) = (
        bootstrap(pair)["text_to_audio"]["recall_at_10"] for pair in (ranks, (alone, ranks[1]))
    )
    assert high - low > 1.5 * (too - narrow)


def test_a_model_equals_itself():
    ranks = some_ranks()
    for of_direction in compare(ranks, ranks, lists=("a", "a")).values():
        for found in of_direction.values():
            assert (found.difference, found.low, found.high, found.p_value) == (0, 0, 0, 1)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 1000))
def test_a_comparison_reads_the_same_backwards(seed):
    a, b = some_ranks(seed), some_ranks(seed + 1)
    there, back = (compare(*pair, lists=("x", "x"), resamples=200) for pair in ((a, b), (b, a)))
    report_a, report_b = report_of(a).as_dict(), report_of(b).as_dict()
    for direction in DIRECTIONS:
        for name in METRICS:
            one, other = there[direction][name], back[direction][name]
            assert one.difference == pytest.approx(report_b[direction][name] - report_a[direction][name], abs=1e-12)
            assert (one.low, one.high) == pytest.approx((-other.high, -other.low), abs=1e-12)
            assert one.p_value == other.p_value


def test_what_is_hard_for_both_cancels_out():
    rng = np.random.default_rng(2)
    difficulty = rng.normal(2, 1, (200, 1))
    a, b = (
        both(ranks, ranks.min(axis=1))
        for ranks in (np.ceil(np.exp(difficulty + shift + 0.2 * rng.random((200, 5)))) for shift in (0, -0.15))
    )
    found = compare(a, b, lists=("x", "x"))["text_to_audio"]["map_at_10"]
    (low_a, high_a), (low_b, _) = (bootstrap(ranks)["text_to_audio"]["map_at_10"] for ranks in (a, b))
    assert low_b < high_a  # one cannot tell them apart by their own intervals,
    assert found.low > 0  # but clip by clip
    assert found.high - found.low < 0.5 * (high_a - low_a)
    assert found.p_value == pytest.approx(2 / 2001)


def test_equal_models_rarely_differ():
    rng = np.random.default_rng(3)
    p_values = [
        compare(drawn(rng, 60), drawn(rng, 60), lists=("x", "x"), resamples=200)["text_to_audio"]["map_at_10"].p_value
        for _ in range(200)
    ]
    assert np.mean(np.array(p_values) <= 0.05) == pytest.approx(0.05, abs=0.045)  # three standard errors
    assert np.mean(p_values) == pytest.approx(0.5, abs=0.07)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lists": ("1f", "2f")}, "on different lists of clips: 1f and 2f"),
        ({"lists": (["a", "b"], ["a", "c", "d"])}, "2 and 3 clips, 1 of them in both$"),
        ({"lists": (["a", "b"], ["b", "a"])}, "2 and 2 clips, 2 of them in both, in another order"),
        ({"lists": ("1f", ["a", "b"])}, "two hashes or two sequences"),
        ({"second": some_ranks(clips=81)}, r"text_to_audio: .* 80 and 2\d\d among 81; captions must be the same"),
        ({"resamples": 0}, "resamples must be at least 1, got 0"),
        ({"confidence": 95}, "confidence must lie between 0 and 1, got 95"),
    ],
)
def test_refuses_to_compare(change: dict[str, Any], message):
    arguments = {"first": some_ranks(), "second": some_ranks(1), "lists": (["a", "b"], ["a", "b"])}
    with pytest.raises(ValueError, match=message):
        compare(**{**arguments, **change})


def test_refuses_captions_of_other_clips():
    one, other = (rank_similarity(np.eye(4, 3), owner) for owner in ([0, 1, 2, 0], [0, 1, 2, 2]))
    with pytest.raises(ValueError, match="in the same order"):
        compare(one, other, lists=("x", "x"))


def test_refuses_one_clip():
    with pytest.raises(ValueError, match="at least 2 clips with captions, found 1"):
        bootstrap(rank_similarity(np.ones((3, 5)), [2, 2, 2]))
