"""Exact selection from arrays in chunks, against NumPy's sorting."""

import dask.array as da
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actome.analyze.regions.cuts import Selection, select


def by_sorting(arrays, share, largest):
    """The same choice by a stable sort of everything: ties in the order of place."""
    flat = np.concatenate([a.ravel() for a in arrays])
    k = round(share * int((~np.isnan(flat)).sum()))
    ranked = np.where(np.isnan(flat), np.inf, -flat if largest else flat)
    out = np.zeros(flat.size, dtype=bool)
    out[np.argsort(ranked, kind="stable")[:k]] = True
    parts = np.split(out, np.cumsum([a.size for a in arrays])[:-1])
    return [p.reshape(a.shape) for p, a in zip(parts, arrays, strict=True)]


@st.composite
def arrays(draw):
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    dtype = draw(st.sampled_from([np.float32, np.float64]))
    out = []
    for _ in range(draw(st.integers(1, 3))):
        shape = draw(st.integers(1, 12)), draw(st.integers(1, 12))
        # few values, so that many tie; both signs of zero; far apart exponents
        values = rng.choice([0.0, -0.0, 1e-30, 1.0, 1.0 + 1e-7, 2.5, 1e30, -3.0], shape)
        if draw(st.booleans()):
            values = rng.standard_normal(shape) * 10.0 ** rng.integers(-9, 9, shape)
        values[rng.random(shape) < draw(st.sampled_from([0.0, 0.2, 1.0]))] = np.nan
        out.append(values.astype(dtype))
    return out


@given(arrays(), st.floats(1e-3, 1), st.booleans(), st.integers(1, 5), st.integers(1, 5))
def test_select__is_that_of_sorting_whatever_the_chunks(values, share, largest, rows, columns):
    lazy = [da.from_array(v, chunks=(rows, columns)) for v in values]
    chosen = select([Selection(lazy, share, largest)])[0]
    for mask, expected in zip(chosen, by_sorting(values, share, largest), strict=True):
        np.testing.assert_array_equal(mask.compute(), expected)


def test_select__takes_exactly_the_largest_of_many_numbers(rng):
    values = rng.lognormal(sigma=4, size=(400, 300)).astype(np.float32)
    mask = select([Selection([da.from_array(values, chunks=(37, 300))], 0.01)])[0][0].compute()
    assert mask.sum() == 1200
    assert values[mask].min() >= np.partition(values.ravel(), -1200)[-1200]
    assert values[mask].min() > values[~mask].max()


def test_select__several_selections_of_both_types_share_the_passes(rng):
    single = rng.random((20, 10)).astype(np.float32)
    double = rng.random((30, 4))
    jobs = [Selection([da.from_array(single)], 0.1), Selection([da.from_array(double)], 0.2, False)]
    first, second = (parts[0].compute() for parts in select(jobs))
    np.testing.assert_array_equal(first, by_sorting([single], 0.1, True)[0])
    np.testing.assert_array_equal(second, by_sorting([double], 0.2, False)[0])


def test_select__too_small_a_share_chooses_nothing_and_one_chooses_all_numbers():
    values = np.array([[1.0, np.nan, 3.0]])
    for share, expected in ((0.1, [[False, False, False]]), (1.0, [[True, False, True]])):
        mask = select([Selection([da.from_array(values)], share)])[0][0]
        np.testing.assert_array_equal(mask.compute(), expected)


@pytest.mark.slow
def test_select__is_that_of_sorting_for_a_tensor_of_a_large_model(rng):
    values = np.abs(rng.standard_normal((4096, 2048)) * rng.standard_normal((4096, 2048))).astype(np.float32)
    values[rng.random(values.shape) < 0.05] = values[0, 0]
    for largest in (True, False):
        mask = select([Selection([da.from_array(values, chunks=(500, 2048))], 0.03, largest)])[0][0]
        np.testing.assert_array_equal(mask.compute(), by_sorting([values], 0.03, largest)[0])
