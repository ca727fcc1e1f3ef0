"""Scores that do not depend on how they are computed: against whole-number arithmetic, and against themselves."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from training.exact import ExactRows


def unit_rows(rng: np.random.Generator, rows: int, width: int) -> np.ndarray:
    values = rng.standard_normal((rows, width))
    return (values / np.linalg.norm(values, axis=1, keepdims=True)).astype(np.float32)


def whole(rows: np.ndarray) -> np.ndarray:
    return ExactRows(rows, name="rows")[:]


@pytest.mark.parametrize("width", [1, 7, 512, 2048])
def test_a_product_is_the_sum_of_fractions(width):
    rng = np.random.default_rng(0)
    text, audio = whole(unit_rows(rng, 40, width)), whole(unit_rows(rng, 30, width))
    product = text @ audio.T
    for i, j in ((0, 0), (7, 19), (39, 29), (16, 3)):
        exact = sum(Fraction(a) * Fraction(b) for a, b in zip(text[i].tolist(), audio[j].tolist(), strict=True))
        assert Fraction(float(product[i, j])) == exact


def test_the_longest_rows_are_exact_in_every_partial_sum():
    rng = np.random.default_rng(3)
    rows = 1.399 / np.sqrt(512) * (1 + 1e-3 * rng.random((8, 512)))  # side by side, and just below 1.4
    rows *= 1.3995 / np.linalg.norm(rows, axis=1, keepdims=True)
    ours = whole(rows)
    assert np.linalg.norm(ours, axis=1).min() > 1.39
    product, back = ours @ ours.T, ours[:, ::-1] @ ours[:, ::-1].T
    exact = sum(Fraction(a) * Fraction(b) for a, b in zip(ours[0].tolist(), ours[1].tolist(), strict=True))
    assert Fraction(float(product[0, 1])) == exact
    assert np.array_equal(product, back)


def test_no_block_and_no_order_changes_a_score():
    rng = np.random.default_rng(1)
    text, audio = unit_rows(rng, 333, 300), unit_rows(rng, 77, 300)
    text[166] = text[-1] = text[3]
    a, b = ExactRows(text, name="text"), ExactRows(audio, name="audio")
    product = a[:] @ b[:].T
    assert np.array_equal(product[3], product[166])
    assert np.array_equal(product[3], product[-1])
    assert np.array_equal((b[:] @ a[:].T).T, product)
    for size in (1, 13, 100):
        assert np.array_equal(np.concatenate([a[i : i + size] @ b[:].T for i in range(0, 333, size)]), product)
    columns = rng.permutation(300)
    assert np.array_equal(whole(text[:, columns]) @ whole(audio[:, columns]).T, product)
    rows = rng.permutation(333)
    assert np.array_equal(a[rows] @ b[:].T, product[rows])
    assert np.array_equal(whole(text[rows]), a[rows])


def test_a_score_is_nearer_than_float32_can_say():
    rng = np.random.default_rng(2)
    text, audio = unit_rows(rng, 200, 1024), unit_rows(rng, 200, 1024)
    exact = text.astype(np.longdouble) @ audio.T.astype(np.longdouble)
    assert np.abs(whole(text) @ whole(audio).T - exact).max() < 2**-24


@settings(max_examples=60, deadline=None)
@given(
    hnp.arrays(np.float32, st.tuples(st.integers(1, 5), st.integers(1, 9)), elements=st.floats(-1, 1, width=16)),
    st.integers(-60, 60),
)
def test_a_row_keeps_26_bits_of_its_length_at_any_scale(rows, power):
    ours = whole(rows)
    assert np.array_equal(whole(np.ldexp(rows.astype(np.float64), power)), ours)
    largest = np.unravel_index(np.abs(rows).argmax(), rows.shape)
    scale = 2.0 ** np.round(np.log2(ours[largest] / rows[largest])) if rows[largest] else 1.0
    length = scale * np.linalg.norm(rows.astype(np.float64), axis=1, keepdims=True)
    assert (length <= 1.4).all()
    assert (np.abs(ours - scale * rows) <= length * 2.0**-26).all()


def test_equal_rows_stay_equal_in_any_company():
    rows = np.array([[0.6, 0.8], [1e-30, 0], [0, 0], [3e30, -4e30], [0.6, 0.8]], np.float32)
    ours = whole(rows)
    assert np.array_equal(ours[0], ours[4])
    assert np.array_equal(ours[2], [0, 0])
    assert np.abs(ours).max() <= 1.4
    assert ours[1, 0] > 0


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.int32, np.uint8])
def test_every_kind_of_number_is_read_as_float32(dtype):
    values = np.array([[1, 2, 3], [0, 1, 4]], dtype)
    assert np.array_equal(whole(values), whole(values.astype(np.float32)))


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (np.zeros(3), r"rows must be numbers \(rows, D\), got float64 \(3,\)"),
        (np.array([["a"]]), "must be numbers"),
        (np.ones((2, 2), complex), "must be numbers"),
        (np.array([[1.0], [np.nan], [np.inf], [1e39]]), "NaN or infinite values in 3 rows, the first is 1"),
    ],
)
def test_refuses(rows, message):
    with pytest.raises(ValueError, match=message):
        ExactRows(rows, name="rows")


def test_no_rows():
    assert whole(np.zeros((0, 4), np.float32)).shape == (0, 4)
