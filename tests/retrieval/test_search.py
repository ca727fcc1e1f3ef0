"""Exact search equals a full sort, ties included."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrieval.search import top_rows


def unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=-1, keepdims=True)).astype(np.float32)


@given(
    seed=st.integers(0, 2**32 - 1),
    count=st.integers(1, 60),
    top=st.integers(1, 70),
    distinct=st.integers(1, 60),
)
def test_top_rows_equal_a_full_stable_sort(seed: int, count: int, top: int, distinct: int) -> None:
    generator = np.random.default_rng(seed)
    few = unit(generator.normal(size=(min(distinct, count), 8)))
    embeddings = few[generator.integers(len(few), size=count)]  # repeated rows: ties
    query = unit(generator.normal(size=8))
    rows, scores = top_rows(embeddings, query, top=top)
    similarity = embeddings @ query
    expected = sorted(range(count), key=lambda row: (-similarity[row], row))[:top]
    assert rows.tolist() == expected
    assert scores.tolist() == similarity[expected].tolist()


@pytest.mark.parametrize(
    ("query", "top", "message"),
    [
        (np.ones(3, np.float32), 1, r"shape \(4,\), got \(3,\)"),
        (np.ones(4, np.float32), 0, "top must be 1 or more, got 0"),
        (np.full(4, np.nan, np.float32), 1, "NaN"),
    ],
)
def test_a_query_that_cannot_be_ranked_is_named(query: np.ndarray, top: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        top_rows(np.ones((5, 4), np.float32), query, top=top)
