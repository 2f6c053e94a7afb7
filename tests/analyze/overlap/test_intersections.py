import math
from fractions import Fraction

import numpy as np
import pytest
import scipy.stats

from actome.analyze.overlap.intersections import _hypergeometric, by_chance


def test_hypergeometric__agrees_with_counting_for_a_whole_model():
    x, y, m = 3500, 2800, 32 * 11008
    ours, total = _hypergeometric(x, y, m), math.comb(m, y)
    for k in (0, 5, 28, 60, 100):
        exact = Fraction(math.comb(x, k) * math.comb(m - x, y - k), total)
        assert ours[k] == pytest.approx(float(exact), rel=1e-12)


@pytest.mark.parametrize("sizes", [(1, 1, 1), (5, 5, 5), (7, 9, 9), (400, 10900, 11008), (30, 40, 60)])
def test_hypergeometric__agrees_with_scipy(sizes):
    x, y, m = sizes
    values = np.arange(max(0, x + y - m), min(x, y) + 1)
    np.testing.assert_allclose(
        _hypergeometric(x, y, m), scipy.stats.hypergeom.pmf(values, m, x, y), rtol=1e-9
    )


def test_by_chance__stays_sound_where_masses_underflow():
    n = np.array([[550] * 32])
    chance = {k: v.item() for k, v in by_chance(n, n, np.full(32, 11008), np.array([[32 * 550]])).items()}
    assert (chance["p_value"], chance["p_value_less"]) == (1e-140, 1.0)
    chance = {k: v.item() for k, v in by_chance(10 * n, 10 * n, np.full(32, 11008), np.array([[0]])).items()}
    assert (chance["p_value"], chance["p_value_less"]) == (1.0, 1e-140)
    assert chance["expected"] == pytest.approx(32 * 5500**2 / 11008)
