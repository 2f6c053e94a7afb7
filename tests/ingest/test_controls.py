"""Matched controls: size, layers, magnitude; drawn fairly."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from actome.ingest.controls import matched_controls, mismatch


@given(st.integers(0, 10_000), st.integers(1, 30))
def test_matched_controls__match_size_and_layers_and_avoid_the_target(seed, size):
    rng = np.random.default_rng(seed)
    target = np.zeros((3, 80), dtype=bool)
    target.ravel()[rng.choice(240, size, replace=False)] = True
    controls = matched_controls(target, rng.random((3, 80)), 4, rng)
    np.testing.assert_array_equal(controls.sum(axis=2), np.tile(target.sum(axis=1), (4, 1)))
    assert not (controls & target).any()


def test_matched_controls__magnitude_is_matched_where_it_is_known():
    rng = np.random.default_rng(0)
    magnitude = rng.lognormal(size=(4, 400))
    target = magnitude > np.quantile(magnitude, 0.97)  # the most active neurons: no control is as active
    target &= rng.random(target.shape) < 0.5  # ... but half of them are free
    matched = matched_controls(target, magnitude, 50, rng)
    blind = matched_controls(target, None, 50, rng)
    assert max(abs(mismatch(target, c, magnitude)) for c in matched) < 0.25
    assert min(abs(mismatch(target, c, magnitude)) for c in blind) > 0.5


def test_matched_controls__differ_from_draw_to_draw_and_repeat_with_the_seed():
    target = np.zeros((2, 50), dtype=bool)
    target[:, :5] = True
    magnitude = np.random.default_rng(1).random((2, 50))
    draws = [matched_controls(target, magnitude, 20, np.random.default_rng(s)) for s in (0, 0, 1)]
    np.testing.assert_array_equal(draws[0], draws[1])
    assert len({d.tobytes() for d in draws[0]}) > 15 and not np.array_equal(draws[0], draws[2])


def test_matched_controls__a_layer_with_too_few_others_takes_them_all():
    target = np.ones((1, 10), dtype=bool)
    target[0, :3] = False
    (control,) = matched_controls(target, np.ones((1, 10)), 1, np.random.default_rng(0))
    assert control.sum() == 7 and control[0, :3].all()
