"""Metrics against golden cases that the peers' own functions confirm, closed forms, brute force and simulation."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.training.golden_fill import GOLDEN
from training.metrics import (
    METRICS,
    DirectionRanks,
    Ranks,
    chance_level,
    embedding_metrics,
    rank_embeddings,
    rank_similarity,
    report_of,
    retrieval_metrics,
)

ROOT = Path(__file__).parents[2]
TIES = ("index", "optimistic", "pessimistic")

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


@pytest.mark.parametrize("ties", TIES)
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
    chance = chance_level(owner, num_clips=40)
    same = np.full((1, 7), 0.37)
    for report in (
        retrieval_metrics(np.ones((120, 40)), owner),
        embedding_metrics(same.repeat(120, axis=0), same.repeat(40, axis=0), owner),
    ):
        for k in (1, 5, 10, 50):
            assert getattr(report.text_to_audio, f"recall_at_{k}") == min(k, 40) / 40
        assert report.text_to_audio.map_at_10 == pytest.approx(chance.text_to_audio.map_at_10)
        assert report.text_to_audio.median_rank == chance.text_to_audio.median_rank == 20.5
        assert report.audio_to_text.recall_at_1 == pytest.approx(chance.audio_to_text.recall_at_1)
        assert (report.text_to_audio.num_tied, report.audio_to_text.num_tied) == (120, 40)


def test_one_collapsed_tower_is_chance_too():
    rng = np.random.default_rng(0)
    owner = np.repeat(np.arange(40), 3)
    one = rng.standard_normal((1, 96)).astype(np.float32)
    report = embedding_metrics(rng.standard_normal((120, 96)), one.repeat(40, axis=0), owner)
    assert [getattr(report.text_to_audio, f"recall_at_{k}") for k in (1, 5, 10)] == [1 / 40, 5 / 40, 10 / 40]
    report = embedding_metrics(one.repeat(120, axis=0), rng.standard_normal((40, 96)), owner)
    assert report.audio_to_text.recall_at_1 == 1 / 40
    assert report.audio_to_text.num_tied == 40


def by_sorting(similarity: np.ndarray, owner: np.ndarray, ties: str) -> tuple[list[list[int]], list[list[int]]]:
    """Return the sorted ranks of right candidates of each query, both ways, by sorting whole rows."""

    def ranks(row: np.ndarray, right: np.ndarray) -> list[int]:
        index = np.arange(len(row))
        first = {"index": index, "optimistic": ~np.isin(index, right), "pessimistic": np.isin(index, right)}[ties]
        order = np.lexsort((index, first, -row))
        return sorted(1 + int(np.flatnonzero(order == candidate)[0]) for candidate in right)

    captions = [np.flatnonzero(owner == clip) for clip in range(similarity.shape[1])]
    return (
        [ranks(row, np.array([clip])) for row, clip in zip(similarity, owner, strict=True)],
        [ranks(similarity[:, clip], own) for clip, own in enumerate(captions) if len(own)],
    )


def check_ranks(ranks: Ranks, similarity: np.ndarray, owner: np.ndarray, ties: str) -> None:
    for ours, theirs in zip(ranks, by_sorting(similarity, owner, ties), strict=True):
        assert ours.best_rank.tolist() == [ranked[0] for ranked in theirs]
        average_precision = [
            sum(i / r for i, r in enumerate(ranked, start=1) if r <= 10) / len(ranked) for ranked in theirs
        ]
        assert ours.average_precision == pytest.approx(average_precision)
        shares = [[sum(r <= k for r in ranked) / len(ranked) for k in (1, 5, 10, 50)] for ranked in theirs]
        assert ours.fractional_recall == pytest.approx(np.array(shares))
    assert ranks.text_to_audio.clip.tolist() == owner.tolist()
    assert ranks.audio_to_text.clip.tolist() == sorted(set(owner.tolist()))
    equal = similarity == similarity[np.arange(len(owner)), owner][:, None]
    assert ranks.text_to_audio.tied.tolist() == (equal.sum(axis=1) > 1).tolist()
    tied_clips = [
        np.isin(similarity[owner == clip, clip], similarity[owner != clip, clip]).any()
        for clip in ranks.audio_to_text.clip
    ]
    assert ranks.audio_to_text.tied.tolist() == tied_clips


@st.composite
def tied_scores(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Scores of few values, hence many ties; clips with any number of captions, in any order."""
    clips, captions = draw(st.integers(1, 8)), draw(st.integers(1, 15))
    owner = draw(st.lists(st.integers(0, clips - 1), min_size=captions, max_size=captions))
    seed, values = draw(st.integers(0, 2**32 - 1)), draw(st.integers(1, 9))
    scores = np.random.default_rng(seed).integers(-values, values, (captions, clips)) / 4
    return scores, np.array(owner)


@settings(max_examples=80, deadline=None)
@given(tied_scores(), st.sampled_from(TIES))
def test_ranks_equal_a_sort(case, ties):
    similarity, owner = case
    check_ranks(rank_similarity(similarity, owner, ties=ties), similarity, owner, ties)


@pytest.fixture
def small_blocks(monkeypatch):
    """Blocks of a few scores, so that a small matrix has edges of every kind."""
    for name, size in (("_CAPTIONS", 16), ("_CLIPS", 9), ("_ROWS", 5), ("_COLUMNS", 4)):
        monkeypatch.setattr(f"training.ranking.{name}", size)
    monkeypatch.setattr("training.exact._ROWS", 7)


@pytest.mark.parametrize("ties", TIES)
def test_blocks_equal_a_sort(small_blocks, ties):
    rng = np.random.default_rng(0)
    text, audio = rng.integers(-3, 4, (90, 6)), rng.integers(-3, 4, (31, 6))  # exact products, many ties
    owner = rng.integers(0, 31, 90) // np.array([1, 3])[rng.integers(0, 2, 90)]
    check_ranks(rank_similarity(text @ audio.T, owner, ties=ties), text @ audio.T, owner, ties)
    check_ranks(rank_embeddings(text, audio, owner, ties=ties), text @ audio.T, owner, ties)


def with_duplicates(seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Embeddings of some length, with captions and clips that are there several times, far apart."""
    rng = np.random.default_rng(seed)
    audio = rng.standard_normal((61, 301))
    owner = np.sort(rng.integers(0, 60, 333))
    text = audio[owner] + 5 * rng.standard_normal((333, 301))
    text[[0, 100, 200, 332]], audio[[0, 31, 60]] = text[7], audio[5]
    return *((x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32) for x in (text, audio)), owner


def arrays(ranks: Ranks) -> list[np.ndarray]:
    return [getattr(r, name) for r in ranks for name in ("best_rank", "average_precision", "fractional_recall", "tied")]


def test_no_block_changes_a_rank_or_breaks_a_tie(monkeypatch):
    text, audio, owner = with_duplicates()
    whole = rank_embeddings(text, audio, owner)
    for captions, clips, rows, columns in ((1, 61, 1, 61), (333, 1, 100, 1), (50, 7, 13, 5), (333, 61, 100, 61)):
        for name, size in (("_CAPTIONS", captions), ("_CLIPS", clips), ("_ROWS", rows), ("_COLUMNS", columns)):
            monkeypatch.setattr(f"training.ranking.{name}", size)
        assert all(map(np.array_equal, arrays(rank_embeddings(text, audio, owner)), arrays(whole)))
    assert whole.text_to_audio.tied.tolist() == np.isin(owner, [0, 5, 31, 60]).tolist()
    assert set(owner[[0, 7, 100, 200, 332]].tolist()) <= set(np.flatnonzero(whole.audio_to_text.tied).tolist())


def test_both_directions_see_one_score():
    text, audio, _ = with_duplicates()
    owner = np.arange(61)
    there = rank_embeddings(text[:61], audio, owner, ties="pessimistic")
    back = rank_embeddings(audio, text[:61], owner, ties="pessimistic")
    assert np.array_equal(there.text_to_audio.best_rank, back.audio_to_text.best_rank)
    assert np.array_equal(there.audio_to_text.best_rank, back.text_to_audio.best_rank)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_the_order_of_the_list_permutes_the_ranks_and_nothing_else(seed):
    rng = np.random.default_rng(seed)
    clips, captions = int(rng.integers(1, 30)), int(rng.integers(1, 80))
    text, audio = rng.standard_normal((captions, 12)), rng.standard_normal((clips, 12))
    owner = rng.integers(0, clips, captions)
    before = rank_embeddings(text, audio, owner)
    new_clip, new_caption = rng.permutation(clips), rng.permutation(captions)
    place = np.argsort(new_clip)
    after = rank_embeddings(text[new_caption], audio[new_clip], place[owner[new_caption]])
    assert np.array_equal(after.text_to_audio.best_rank, before.text_to_audio.best_rank[new_caption])
    by_clip = dict(zip(before.audio_to_text.clip.tolist(), before.audio_to_text.average_precision, strict=True))
    for clip, precision in zip(after.audio_to_text.clip.tolist(), after.audio_to_text.average_precision, strict=True):
        assert precision == pytest.approx(by_clip[int(new_clip[clip])])
    for direction, metrics in report_of(after).as_dict().items():
        assert metrics == pytest.approx(report_of(before).as_dict()[direction])


@settings(max_examples=30, deadline=None)
@given(tied_scores(), st.sampled_from(TIES))
def test_worse_candidates_and_other_units_change_nothing(case, ties):
    similarity, owner = case
    ranks = rank_similarity(similarity, owner, ties=ties)
    worse = similarity.min() - 1
    more_clips = np.pad(similarity, ((0, 0), (0, 3)), constant_values=worse)
    more_captions = np.pad(similarity, ((0, 4), (0, 1)), constant_values=worse)
    more_owners = np.append(owner, [similarity.shape[1]] * 4)
    others = [
        rank_similarity(more_clips, owner, ties=ties).text_to_audio.best_rank,
        rank_similarity(more_captions, more_owners, ties=ties).text_to_audio.best_rank[: len(owner)],
        rank_similarity(similarity * 8 - 2, owner, ties=ties).text_to_audio.best_rank,
    ]
    assert all(np.array_equal(ranks.text_to_audio.best_rank, other) for other in others)
    again = rank_similarity(more_captions, more_owners, ties=ties).audio_to_text
    assert np.array_equal(ranks.audio_to_text.average_precision, again.average_precision[:-1])
    best, worst = (rank_similarity(similarity, owner, ties=rule) for rule in ("optimistic", "pessimistic"))
    for low, mid, high in zip(best, ranks, worst, strict=True):
        assert ((low.best_rank <= mid.best_rank) & (mid.best_rank <= high.best_rank)).all()
        assert (low.average_precision >= high.average_precision).all()
        assert low.tied[low.best_rank < high.best_rank].all()


def test_any_number_of_captions_a_clip(small_blocks):
    rng = np.random.default_rng(3)
    owner = rng.permutation(np.concatenate([np.full(40, 2), [0, 4, 4, 5, 5, 5], rng.integers(0, 12, 20)]))
    similarity = rng.integers(0, 30, (66, 14)).astype(float)
    check_ranks(rank_similarity(similarity, owner), similarity, owner, "index")
    everything = np.zeros(66, int)
    check_ranks(rank_similarity(similarity, everything), similarity, everything, "index")


def test_ranks_of_any_size():
    owner = np.repeat(np.arange(1500), 2)
    ranks = rank_similarity(-np.eye(1500)[owner], owner, ties="pessimistic")  # the right one is the worst of all
    assert (ranks.text_to_audio.best_rank == 1500).all()
    assert (ranks.audio_to_text.best_rank == 2999).all()
    ranks = rank_similarity(-np.eye(1500)[owner] * 0, owner)
    assert (ranks.text_to_audio.best_rank == owner + 1).all()


def test_every_kind_of_number_is_compared_in_float32(tmp_path):
    text, audio, owner = with_duplicates()
    half = (text.astype(np.float16), audio.astype(np.float16))
    expected = arrays(rank_embeddings(*(array.astype(np.float32) for array in half), owner))
    np.save(tmp_path / "text.npy", half[0])
    on_disk = np.load(tmp_path / "text.npy", mmap_mode="r")
    for text_embed, audio_embed in (half, (half[0].astype(np.float64), half[1]), (on_disk, half[1].tolist())):
        assert all(map(np.array_equal, arrays(rank_embeddings(text_embed, audio_embed, owner.tolist())), expected))
    nearly = np.array([[0.5, 0.5 + 1e-12]])
    assert rank_similarity(nearly, [1]).text_to_audio.num_tied == 1


MEMORY = """
import sys
from pathlib import Path
import numpy as np
from training.metrics import rank_embeddings, report_of
def peak():
    return int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]) // 1024
captions, clips, width = map(int, sys.argv[1:])
rng = np.random.default_rng(0)
audio = rng.standard_normal((clips, width), np.float32)
text = np.empty((captions, width), np.float32)
owner = np.arange(captions) * clips // captions
for start in range(0, captions, 1000):
    rows = owner[start : start + 1000]
    text[start : start + 1000] = audio[rows] + 5 * rng.standard_normal((len(rows), width), np.float32)
before = peak()
ranks = rank_embeddings(text, audio, owner)
assert ranks.text_to_audio.best_rank.shape == (captions,)
assert ranks.audio_to_text.best_rank.shape == (clips,)
print(before, peak())
"""


def peaks(captions: int, clips: int, width: int) -> tuple[int, int]:
    """Return a process's peak memory in MiB before and after ranking, as the kernel counts it."""
    if not Path("/proc/self/status").is_file():
        pytest.skip("this system does not tell a process's peak memory")
    command = [sys.executable, "-c", MEMORY, str(captions), str(clips), str(width)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    before, after = map(int, done.stdout.split())
    return before, after


def test_memory_does_not_hold_the_matrix():
    before, after = peaks(20_000, 4_000, 64)  # whose scores would be 320 MB in float32
    assert after - before < 130


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_a_hundred_thousand_captions_and_twenty_thousand_clips_in_two_gibibytes():
    before, after = peaks(100_000, 20_000, 1024)
    assert after < 2048
    assert after - before < 400


def test_fewer_candidates_than_k_and_clips_without_captions():
    report = retrieval_metrics(np.eye(3, 5), np.arange(3))
    assert report.text_to_audio.as_dict() == {**dict.fromkeys(METRICS, 1.0)}
    assert (report.audio_to_text.num_queries, report.text_to_audio.num_candidates) == (3, 5)


@pytest.mark.parametrize("sizes", [[1] * 9, [5] * 12, [1, 2, 0, 5, 9, 1, 3], [1]])
def test_chance_equals_simulation(sizes):
    rng = np.random.default_rng(2)
    owner = np.repeat(np.arange(len(sizes)), sizes)
    draws = [retrieval_metrics(rng.random((len(owner), len(sizes))), owner) for _ in range(800)]
    chance = chance_level(owner, num_clips=len(sizes))
    for direction in ("text_to_audio", "audio_to_text"):
        for metric in GOLDEN_NAMES:
            if metric == "median_rank":
                continue  # the median of a small sample is biased; see below
            drawn = np.array([getattr(getattr(draw, direction), metric) for draw in draws])
            error = 5 * drawn.std() / np.sqrt(len(drawn)) + 2e-4  # for what happens once in 10,000 draws
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
        (np.array([[0.0, 1.0], [1e39, 0.0]]), [0, 1], "in 1 rows, the first is 1"),
        (np.array([[True]]), [0], r"similarity must be numbers \(captions, clips\), got bool \(1, 1\)"),
        (np.zeros((2, 2)), [-1, 0], r"owner must lie in 0..1, got -1..0"),
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
    with pytest.raises(ValueError, match=r"\(K, D\) and \(N, D\) with one D, got D = 3 and 4"):
        embedding_metrics(np.zeros((2, 3)), np.zeros((2, 4)), np.array([0, 1]))
    with pytest.raises(ValueError, match=r"text_embed must be numbers \(rows, D\)"):
        embedding_metrics(np.zeros(3), np.zeros((2, 4)), np.array([0, 1]))
    with pytest.raises(ValueError, match="audio_embed has NaN"):
        embedding_metrics(np.zeros((1, 3)), np.full((1, 3), np.nan), np.array([0]))
    with pytest.raises(ValueError, match=r"owner must lie in 0..-1"):
        embedding_metrics(np.zeros((1, 3)), np.zeros((0, 3)), np.array([0]))
    with pytest.raises(ValueError, match="ties must be"):
        retrieval_metrics(np.zeros((1, 1)), np.array([0]), ties="best")  # type: ignore[arg-type]


def test_a_nan_in_one_tower_is_not_scored():
    text, audio, owner = with_duplicates()
    for broken in (np.nan, np.inf, -np.inf):
        spoiled = text.copy()
        spoiled[[17, 300], 4] = broken
        with pytest.raises(ValueError, match="text_embed has NaN or infinite values in 2 rows, the first is 17"):
            rank_embeddings(spoiled, audio, owner)


def test_ranks_are_told_by_name():
    ranks = rank_similarity(np.eye(3), np.arange(3))
    assert all(isinstance(of_direction, DirectionRanks) for of_direction in ranks)
    assert ranks.text_to_audio is ranks[0]
    assert ranks.audio_to_text is ranks[1]
