"""Matched controls: size, layers, magnitude; drawn fairly."""

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from actome.ingest.controls import matched_controls, mismatch


@given(st.integers(0, 10_000), st.integers(1, 30))
def test_matched_controls__match_size_and_layers(seed, size):
    rng = np.random.default_rng(seed)
    target = np.zeros((3, 80), dtype=bool)
    target.ravel()[rng.choice(240, size, replace=False)] = True
    controls = matched_controls(target, rng.random((3, 80)), 4, rng)
    np.testing.assert_array_equal(controls.sum(axis=2), np.tile(target.sum(axis=1), (4, 1)))


def test_matched_controls__draw_every_neuron_of_a_stratum_alike():
    rng = np.random.default_rng(0)
    target = np.zeros((1, 64), dtype=bool)
    target[0, [0, 5, 7]] = True  # of the 16 least active
    drawn = matched_controls(target, np.arange(64.0)[None], 4000, rng)[:, 0]
    assert not drawn[:, 16:].any()
    np.testing.assert_allclose(drawn[:, :16].mean(axis=0), 3 / 16, atol=0.03)


def test_matched_controls__of_the_most_active_neurons_are_not_mostly_the_target():
    rng = np.random.default_rng(0)
    target = np.zeros((1, 256), dtype=bool)
    target[0, -24:] = True
    drawn = matched_controls(target, np.arange(256.0)[None], 500, rng)[:, 0]
    assert not drawn[:, :128].any()  # 24 of the upper 128 are less than a quarter, of 64 more
    assert drawn[:, -24:].sum() / drawn.sum() == pytest.approx(24 / 128, abs=0.02)


@pytest.mark.parametrize("known", [True, False])
def test_matched_controls__a_random_target_is_exchangeable_with_them(known):
    """Sums of a number that goes with the magnitude: the target's place among the controls' is uniform."""
    rng = np.random.default_rng(0)
    magnitude = rng.lognormal(size=(2, 128))
    worth = magnitude**2 + rng.lognormal(size=magnitude.shape)
    places = []
    for _ in range(800):
        target = np.zeros((2, 128), dtype=bool)
        target[:, rng.choice(128, 8, replace=False)] = True
        controls = matched_controls(target, magnitude if known else None, 19, rng)
        sums = (controls * worth).sum(axis=(1, 2))
        places.append((1 + (sums >= (target * worth).sum()).sum()) / 20)
    for alpha in (0.05, 0.1, 0.5):
        low, high = scipy.stats.binom.interval(0.999, len(places), alpha)
        assert low <= (np.array(places) <= alpha + 1e-9).sum() <= high


def test_matched_controls__magnitude_is_matched_where_it_is_known():
    rng = np.random.default_rng(0)
    magnitude = rng.lognormal(size=(4, 400))
    target = magnitude > np.quantile(magnitude, 0.97)  # the most active neurons: no control is as active
    target &= rng.random(target.shape) < 0.5  # ... but half of them are free
    matched = matched_controls(target, magnitude, 50, rng)
    blind = matched_controls(target, None, 50, rng)
    assert max(abs(mismatch(target, c, magnitude)) for c in matched) < 0.45
    assert min(abs(mismatch(target, c, magnitude)) for c in blind) > 0.5


def test_matched_controls__differ_from_draw_to_draw_and_repeat_with_the_seed():
    target = np.zeros((2, 50), dtype=bool)
    target[:, :5] = True
    magnitude = np.random.default_rng(1).random((2, 50))
    draws = [matched_controls(target, magnitude, 20, np.random.default_rng(s)) for s in (0, 0, 1)]
    np.testing.assert_array_equal(draws[0], draws[1])
    assert len({d.tobytes() for d in draws[0]}) > 15 and not np.array_equal(draws[0], draws[2])


def test_matched_controls__of_a_whole_layer_are_the_layer():
    target = np.ones((1, 10), dtype=bool)
    (control,) = matched_controls(target, np.ones((1, 10)), 1, np.random.default_rng(0))
    assert control.all()
