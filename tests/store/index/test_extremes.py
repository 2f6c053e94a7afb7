"""Extremes and quantiles against sorting everything at once."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from actome.store.index.extremes import Extremes, from_keys, sort_keys
from actome.store.index.quantiles import LEVELS, SAMPLE, quantiles, sampled_rows


@st.composite
def columns(draw):
    """Rows of a few neurons, with ties, both zeros, infinities and NaN, in any float type."""
    width = draw(st.sampled_from([16, 32, 64]))
    shape = (draw(st.integers(0, 40)), draw(st.integers(1, 4)))
    special = st.sampled_from([0.0, -0.0, 1.0, -1.0, np.inf, -np.inf, np.nan, 65504.0])
    return draw(hnp.arrays(f"float{width}", shape, elements=st.floats(width=width) | special))


@given(values=columns(), k=st.integers(1, 6), cuts=st.lists(st.integers(0, 40), max_size=5))
def test_extremes__are_the_first_of_a_sort_however_the_rows_are_cut(values, k, cuts):
    extremes = Extremes(k, values.shape[1], values.dtype)
    bounds = sorted({0, len(values), *(c for c in cuts if c < len(values))})
    for a, b in itertools.pairwise(bounds):
        extremes.add(values[a:b], np.arange(a, b) * 3)
    value, row = extremes.result()
    for j, column in enumerate(values.T):
        real = column[~np.isnan(column)]
        expected = np.sort(real)[::-1][:k]
        n = len(expected)
        np.testing.assert_array_equal(value[:n, j], expected)
        assert np.isnan(value[n:, j]).all() and (row[n:, j] == -1).all()
        np.testing.assert_array_equal(column[row[:n, j] // 3], expected)
        assert len(set(row[:n, j])) == n


def test_extremes__of_equal_values_the_earliest_come_first():
    extremes = Extremes(3, 1, np.float32)
    for start in range(0, 8, 2):
        extremes.add(np.ones((2, 1), np.float32), np.arange(start, start + 2))
    assert extremes.result()[1].ravel().tolist() == [0, 1, 2]


@given(values=columns())
def test_sort_keys__keep_the_order_and_lead_back(values):
    keys = sort_keys(values)
    np.testing.assert_array_equal(from_keys(keys, values.dtype), values)
    flat = values.ravel()[~np.isnan(values.ravel())]
    ordered = flat[np.argsort(sort_keys(flat), kind="stable")]
    np.testing.assert_array_equal(ordered, np.sort(flat))


@given(values=columns())
def test_quantiles__agree_with_numpy(values):
    values[np.isinf(values)] = 7.0
    got = quantiles(values)
    for j, column in enumerate(values.T.astype(np.float64)):
        real = column[~np.isnan(column)]
        if len(real):
            np.testing.assert_allclose(got[:, j], np.quantile(real, LEVELS), rtol=1e-12, atol=1e-300)
        else:
            assert np.isnan(got[:, j]).all()


@pytest.mark.parametrize("n", [0, 1, 5, SAMPLE, SAMPLE + 1, 10 * SAMPLE + 3])
def test_sampled_rows__are_one_of_each_part(n):
    rows = sampled_rows(n)
    assert len(rows) == min(n, SAMPLE) == len(set(rows.tolist()))
    parts = (np.arange(len(rows) + 1) * n) // max(len(rows), 1)
    assert (parts[:-1] <= rows).all() and (rows < parts[1:]).all()


def test_sampled_rows__do_not_meet_the_same_place_of_every_prompt():
    place = sampled_rows(SAMPLE * 64) % 64
    assert len(np.unique(place)) == 64 and np.bincount(place).max() < 2 * SAMPLE / 64


def test_extremes__of_many_equal_values_few_are_looked_at():
    extremes = Extremes(4, 3, np.float16)
    assert extremes._candidates(np.zeros((1000, 3), np.float16)).sum() == 4 * 3
    extremes.add(np.zeros((1000, 3), np.float16), np.arange(1000))
    assert not extremes._candidates(np.zeros((1000, 3), np.float16)).any()
