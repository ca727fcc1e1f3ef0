"""Exact search equals a full sort of float64 products: by codes and by floats, in blocks, with ties and masks."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import retrieval.exact
from retrieval.codes import encode, is_fast, length, scan
from retrieval.exact import top_rows

KINDS = pytest.mark.parametrize(
    "coded",
    [
        pytest.param(True, marks=pytest.mark.skipif(not is_fast(), reason="this processor has no VNNI")),
        False,
    ],
)


def unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=-1, keepdims=True)).astype(np.float32)


def expected(vectors: torch.Tensor, query: np.ndarray, *, top: int, mask: np.ndarray | None) -> list[int]:
    scores = (vectors.double().numpy() @ query.astype(np.float64)).astype(np.float32)
    rows = range(len(scores)) if mask is None else np.flatnonzero(mask).tolist()
    return sorted(rows, key=lambda row: (-scores[row], row))[:top]


@KINDS
@given(
    seed=st.integers(0, 2**32 - 1),
    count=st.integers(1, 60),
    top=st.integers(1, 70),
    distinct=st.integers(1, 60),
    dtype=st.sampled_from([torch.float32, torch.bfloat16]),
    masked=st.booleans(),
    num_queries=st.integers(1, 3),
)
def test_top_rows_equal_a_full_stable_sort(
    coded: bool, seed: int, count: int, top: int, distinct: int, dtype: torch.dtype, masked: bool, num_queries: int
) -> None:
    generator = np.random.default_rng(seed)
    few = unit(generator.normal(size=(min(distinct, count), 8)))
    vectors = torch.from_numpy(few[generator.integers(len(few), size=count)]).to(dtype)  # repeated rows: ties
    queries = unit(generator.normal(size=(num_queries, 8)))
    mask = generator.random(count) < 0.6 if masked else None
    codes = encode(vectors) if coded else None
    found = top_rows(vectors, queries, top=top, codes=codes, mask=mask)
    for query, (rows, scores) in zip(queries, found, strict=True):
        assert rows.tolist() == expected(vectors, query, top=top, mask=mask)
        assert scores.tolist() == pytest.approx((vectors[rows].double().numpy() @ query).tolist(), abs=1e-6)
        assert scores.dtype == np.float32


@KINDS
def test_blocks_do_not_matter(coded: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(5)
    vectors = torch.from_numpy(unit(generator.normal(size=(1000, 16)) + 2))  # close together: many can be the best
    queries = unit(generator.normal(size=(3, 16)) + 2)
    codes = encode(vectors) if coded else None
    whole = top_rows(vectors, queries, top=7, codes=codes)
    for scores_at_once in (3, 40, 999):
        monkeypatch.setattr(retrieval.exact, "_SCORES", scores_at_once)
        for (rows, scores), (others, same) in zip(top_rows(vectors, queries, top=7, codes=codes), whole, strict=True):
            assert rows.tolist() == others.tolist()
            assert scores.tolist() == same.tolist()
    for query, (rows, _) in zip(queries, whole, strict=True):
        assert rows.tolist() == expected(vectors, query, top=7, mask=None)


@KINDS
def test_scores_closer_than_float32_or_codes_can_tell_are_told_apart(coded: bool) -> None:
    """Rows whose scores differ by 3e-6: far below what 8 bits hold, and among the roundings of 4,096 products."""
    generator = np.random.default_rng(0)
    query = unit(generator.normal(size=(1, 4096)))
    side = unit(generator.normal(size=(1, 4096)))
    side = unit(side - (side @ query.T) * query)
    cosines = 0.9 + 3e-6 * generator.permutation(200)
    rows = cosines[:, None] * query + np.sqrt(1 - cosines**2)[:, None] * side
    vectors = torch.from_numpy(rows.astype(np.float32))
    ((found, _),) = top_rows(vectors, query, top=20, codes=encode(vectors) if coded else None)
    assert found.tolist() == np.argsort(-cosines)[:20].tolist()


@pytest.mark.skipif(not is_fast(), reason="this processor has no VNNI")
@given(seed=st.integers(0, 2**32 - 1), spread=st.sampled_from([0.0, 1.0, 6.0]))
def test_coded_scores_are_off_by_no_more_than_they_say(seed: int, spread: float) -> None:
    generator = np.random.default_rng(seed)
    peaky = np.exp(spread * generator.normal(size=(40, 24)))  # some rows all in one value, where 8 bits lose most
    vectors = torch.from_numpy(unit(generator.normal(size=(40, 24)) * peaky))
    queries = torch.from_numpy(unit(generator.normal(size=(5, 24)) * peaky[:5]) * np.float32(3))
    scores, off = scan(encode(vectors), encode(queries), length(queries), slice(8, 32))
    exact = queries.double() @ vectors[8:32].double().T
    assert ((scores.double() - exact).abs() <= off[:, None]).all()
    assert (off < 0.2).all(), "a bound that bounds nothing"


def test_codes_keep_zero_and_the_largest_value() -> None:
    codes = encode(torch.tensor([[0.0, 0.0], [0.5, -1.0]]))
    assert codes.codes.tolist() == [[0, 0], [64, -127]]
    assert codes.lost[0] < 1e-6
    assert codes.scale[1].item() * 127 == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("queries", "top", "mask", "message"),
    [
        (np.ones((1, 3), np.float32), 1, None, r"shape \(Q, 4\), got \(1, 3\)"),
        (np.ones(4, np.float32), 1, None, r"shape \(Q, 4\), got \(4,\)"),
        (np.ones((1, 4), np.float32), 0, None, "top must be 1 or more, got 0"),
        (np.full((1, 4), np.nan, np.float32), 1, None, "NaN"),
        (np.full((1, 4), 1e200), 1, None, "infinity"),
        (np.full((1, 4), 3e38, np.float32), 1, None, "too long for float32"),
        (np.ones((1, 4), np.complex64), 1, None, "real numbers, got complex64"),
        (np.ones((1, 4), np.float32), 1, np.ones(3, bool), r"mask must be of shape \(5,\)"),
    ],
)
def test_a_query_that_cannot_be_ranked_is_named(
    queries: np.ndarray, top: int, mask: np.ndarray | None, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        top_rows(torch.ones((5, 4)), queries, top=top, mask=mask)
    with pytest.raises(TypeError, match="cannot be interpreted as an integer"):
        top_rows(torch.ones((5, 4)), np.ones((1, 4)), top=1.5)  # type: ignore[arg-type]


def test_nothing_to_search_or_to_ask_and_more_than_there_is() -> None:
    assert [len(rows) for rows, _ in top_rows(torch.ones((0, 4)), np.ones((2, 4)), top=3)] == [0, 0]
    assert top_rows(torch.ones((5, 4)), np.ones((0, 4)), top=3) == []
    ((rows, _),) = top_rows(torch.ones((5, 4)), np.ones((1, 4)), top=10**12, codes=encode(torch.ones((5, 4))))
    assert rows.tolist() == [0, 1, 2, 3, 4]
    ((rows, _),) = top_rows(
        -torch.arange(9.0)[:, None], np.ones((1, 1)), top=3, codes=encode(-torch.arange(9.0)[:, None])
    )
    assert rows.tolist() == [0, 1, 2]


def test_no_row_left_gives_none() -> None:
    ((rows, scores),) = top_rows(torch.ones((5, 4)), np.ones((1, 4)), top=3, mask=np.zeros(5, bool))
    assert (rows.tolist(), scores.tolist()) == ([], [])


@KINDS
def test_thousands_of_rows_among_the_best_are_told_apart(coded: bool) -> None:
    """All of 3,000 rows within 1e-4 of each other, many of them equal: float32 leaves a few, float64 ranks those."""
    generator = np.random.default_rng(1)
    query = unit(generator.normal(size=(1, 64)))
    near = unit(query + 0.01 * generator.normal(size=(1500, 64)))
    vectors = torch.from_numpy(np.concatenate([near, near]))
    mask = generator.random(3000) < 0.8
    for top in (1, 10, 2000):
        ((rows, _),) = top_rows(vectors, query, top=top, codes=encode(vectors) if coded else None, mask=mask)
        assert rows.tolist() == expected(vectors, query[0], top=top, mask=mask)
