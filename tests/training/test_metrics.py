"""Metrics against golden cases that the peers' own functions confirm, closed forms, brute force and simulation."""

from __future__ import annotations

import json

import numpy as np
import pytest

from tests.training.golden_fill import GOLDEN
from training.metrics import METRICS, chance_level, embedding_metrics, retrieval_metrics

CASES = json.loads((GOLDEN / "golden.json").read_text())["cases"]
GOLDEN_NAMES = {
    **{f"recall_at_{k}": f"hit@{k}" for k in (1, 5, 10, 50)},
    **{f"fractional_recall_at_{k}": f"recall@{k}" for k in (1, 5, 10, 50)},
    "map_at_10": "mAP@10/R",
    "median_rank": "medr",
}


def matrix(name: str) -> tuple[np.ndarray, np.ndarray]:
    case = CASES[name]
    if not isinstance(case["sims"], str):  # else the name of the file it is in
        return np.array(case["sims"], np.float32).T, np.array(case["owner"])
    large = np.load(GOLDEN / "golden_large.npz")
    return large["sims"].T, large["owner"]


@pytest.mark.parametrize("ties", ["index", "optimistic", "pessimistic"])
@pytest.mark.parametrize("name", CASES)
def test_golden(name, ties):
    report = retrieval_metrics(*matrix(name), ties=ties)
    for direction, short in (("text_to_audio", "t2a"), ("audio_to_text", "a2t")):
        ours, expected = getattr(report, direction), CASES[name]["reference"][ties][short]
        for metric, theirs in GOLDEN_NAMES.items():
            assert getattr(ours, metric) == pytest.approx(expected[theirs], abs=1e-12), (direction, metric)


def test_worked_by_hand():
    assert retrieval_metrics(*matrix("worked_4x20")).audio_to_text.map_at_10 == pytest.approx(
        (1 + 9 / 35 + 0.38 + 1 / 12) / 4
    )


def test_a_collapsed_model_scores_chance_and_says_so():
    owner = np.repeat(np.arange(40), 3)
    report = retrieval_metrics(np.ones((120, 40)), owner)
    chance = chance_level(owner, num_clips=40)
    assert report.text_to_audio.recall_at_1 == chance.text_to_audio.recall_at_1 == 1 / 40
    assert report.text_to_audio.map_at_10 == pytest.approx(chance.text_to_audio.map_at_10)
    assert report.audio_to_text.recall_at_1 == pytest.approx(chance.audio_to_text.recall_at_1)
    assert report.text_to_audio.num_tied == 120


def test_embeddings_in_blocks_equal_the_whole_matrix(monkeypatch):
    rng = np.random.default_rng(0)
    text = rng.integers(-3, 4, (90, 6)).astype(np.float32)  # small whole numbers: exact products, many ties
    audio = rng.integers(-3, 4, (31, 6)).astype(np.float32)
    owner = rng.integers(0, 31, 90)
    whole = retrieval_metrics(text @ audio.T, owner)
    monkeypatch.setattr("training.metrics._BLOCK_ELEMENTS", 200)
    assert embedding_metrics(text, audio, owner) == whole
    assert whole.text_to_audio.num_tied > 0


def test_ranks_equal_a_stable_sort():
    rng = np.random.default_rng(1)
    similarity, owner = rng.integers(0, 9, (50, 20)).astype(float), rng.integers(0, 20, 50)
    order = np.argsort(-similarity, axis=1, kind="stable")
    rank = 1 + np.array([np.flatnonzero(row == clip)[0] for row, clip in zip(order, owner, strict=True)])
    ours = retrieval_metrics(similarity, owner).text_to_audio
    assert ours.recall_at_5 == (rank <= 5).mean()
    assert ours.median_rank == np.median(rank)
    assert ours.map_at_10 == pytest.approx(np.where(rank <= 10, 1 / rank, 0).mean())


def test_fewer_candidates_than_k_and_clips_without_captions():
    report = retrieval_metrics(np.eye(3, 5), np.arange(3))
    assert report.text_to_audio.as_dict() == {**dict.fromkeys(METRICS, 1.0)}
    assert (report.audio_to_text.num_queries, report.text_to_audio.num_candidates) == (3, 5)


@pytest.mark.parametrize("sizes", [[1] * 9, [5] * 12, [1, 2, 5, 9, 1, 3], [1]])
def test_chance_equals_simulation(sizes):
    rng = np.random.default_rng(2)
    owner = np.repeat(np.arange(len(sizes)), sizes)
    draws = [retrieval_metrics(rng.random((len(owner), len(sizes))), owner) for _ in range(1500)]
    chance = chance_level(owner, num_clips=len(sizes))
    for direction in ("text_to_audio", "audio_to_text"):
        for metric in GOLDEN_NAMES:
            if metric == "median_rank":
                continue  # the median of a small sample is biased; see below
            drawn = np.array([getattr(getattr(draw, direction), metric) for draw in draws])
            error = 5 * drawn.std() / np.sqrt(len(drawn)) + 1e-9
            assert getattr(getattr(chance, direction), metric) == pytest.approx(drawn.mean(), abs=error), metric


def test_chance_in_closed_form():
    chance = chance_level(np.arange(130), num_clips=130).text_to_audio
    assert chance.recall_at_10 == 10 / 130
    assert chance.map_at_10 == pytest.approx(sum(1 / i for i in range(1, 11)) / 130)
    assert chance.median_rank == 65.5
    assert chance_level(np.arange(131), num_clips=131).text_to_audio.median_rank == 66


@pytest.mark.parametrize(
    ("similarity", "owner", "message"),
    [
        (np.full((2, 2), np.nan), [0, 1], "NaN or infinite values in 2 rows, the first is 0"),
        (np.array([[0.0, 1.0], [np.inf, 0.0]]), [0, 1], "in 1 rows, the first is 1"),
        (np.zeros((2, 2)), [0, 2], r"owner must lie in 0..1, got 0..2"),
        (np.zeros((2, 2)), [0], "one clip for each of 2 captions"),
        (np.zeros((2, 2)), [0.0, 1.0], "whole numbers"),
        (np.zeros((0, 2)), np.zeros(0, int), "no caption to evaluate"),
        (np.zeros(3), [0, 1, 2], r"\(captions, clips\)"),
    ],
)
def test_refuses(similarity, owner, message):
    with pytest.raises(ValueError, match=message):
        retrieval_metrics(similarity, np.asarray(owner))


def test_refuses_embeddings():
    with pytest.raises(ValueError, match=r"\(K, D\) and \(N, D\)"):
        embedding_metrics(np.zeros((2, 3)), np.zeros((2, 4)), np.array([0, 1]))
    with pytest.raises(ValueError, match="audio_embed has NaN"):
        embedding_metrics(np.zeros((1, 3)), np.full((1, 3), np.nan), np.array([0]))
    with pytest.raises(ValueError, match="ties must be"):
        retrieval_metrics(np.zeros((1, 1)), np.array([0]), ties="best")  # type: ignore[arg-type]
