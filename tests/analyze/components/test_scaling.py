"""Centres, scales and subjects against NumPy's."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actome.analyze.components.order import RandomSigns, random_signs
from actome.analyze.components.scaling import agreed, scaling
from actome.analyze.components.subjects import draw_weights, subjects_of
from actome.store.phantom import phantom
from tests.strategies import chunkings

DS = phantom(n_prompts=2, n_tokens=(1, 6), n_layers=2, n_neurons=5, fraction=0.1, seed=3)


def rows_of(ds):
    valid = (ds["token_id"] != -1).to_numpy()
    return ds["activation"].to_numpy().astype(float)[valid].reshape(valid.sum(), -1)


@settings(max_examples=8)
@given(st.data())
def test_scaling__is_the_mean_and_the_deviation_of_valid_tokens(data):
    ds, rows = DS.chunk(data.draw(chunkings(DS[["activation"]]))), rows_of(DS)
    found = scaling(ds, standardize=True)
    np.testing.assert_allclose(found.centre, rows.mean(axis=0), atol=1e-9)
    np.testing.assert_allclose(found.factor, 1 / rows.std(axis=0), rtol=1e-9)
    np.testing.assert_allclose(found.squares, len(rows), rtol=1e-9)
    scaled = found.rows(rows[:, 2:4], slice(2, 4))
    np.testing.assert_allclose(scaled, ((rows - rows.mean(axis=0)) / rows.std(axis=0))[:, 2:4], atol=1e-9)


@pytest.mark.parametrize(("standardize", "centre"), [(False, True), (True, False), (False, False)])
def test_scaling__may_leave_the_mean_or_the_scale(standardize, centre):
    rows = rows_of(DS)
    found = scaling(DS, standardize=standardize, centre=centre)
    expected = rows - rows.mean(axis=0) * centre
    expected = expected / (rows.std(axis=0) if standardize else 1.0)
    np.testing.assert_allclose(found.rows(rows, slice(None)), expected, atol=1e-9)
    np.testing.assert_allclose(found.squares, np.square(expected).sum(axis=0), rtol=1e-9)


def test_scaling__puts_zeros_where_a_neuron_has_no_value_or_never_varies():
    ds = DS.copy(deep=True)
    valid = (ds["token_id"] != -1).to_numpy()
    for neuron, value in enumerate((np.nan, np.inf, 0.1)):
        ds["activation"].to_numpy()[..., 0, neuron] = np.where(valid, value, np.nan)
    found = scaling(ds, standardize=True)
    assert found.usable.tolist() == [False, False] + [True] * 8
    assert (found.rows(rows_of(ds), slice(None))[:, :3] == 0).all()
    both = agreed([found, scaling(DS, standardize=True)])
    assert all(s.usable.tolist() == found.usable.tolist() for s in both)
    assert (both[1].rows(rows_of(DS), slice(None))[:, :2] == 0).all() and both[1].squares[:2].sum() == 0


def test_subjects__are_numbered_by_name_whatever_their_order(rng):
    order = rng.permutation(6)
    for subject in ("prompt", "condition"):
        a, b = (subjects_of([ds], subject) for ds in (DS, DS.isel(prompt=order)))
        np.testing.assert_array_equal(a.of[0][order], b.of[0])
        np.testing.assert_array_equal(a.n_prompts, b.n_prompts)
    one, two = DS.assign_attrs(name="one"), DS.assign_attrs(name="two")
    assert [o.tolist() for o in subjects_of([two, one], "recording").of] == [[1] * 6, [0] * 6]
    assert len(subjects_of([one, two], "run")) == 4


def test_draw_weights__take_each_once_then_bootstrap_then_halves():
    weights = draw_weights(7, 4, 0)
    assert weights.shape == (6, 7) and (weights[0] == 1).all()
    assert (weights[1:4].sum(axis=1) == 7).all() and not (weights[1:4] == 1).all(axis=1).any()
    np.testing.assert_array_equal(weights[4] + weights[5], 1)
    assert weights[4].sum() == 3


def test_random_signs__belong_to_a_recording_whatever_its_place():
    one, two = (DS.assign_attrs(name=n) for n in ("one", "two"))
    a, b = (
        dict(zip(names, random_signs(r, 0, 0), strict=True))
        for names, r in (("12", [one, two]), ("21", [two, one]))
    )
    for name in "12":
        np.testing.assert_array_equal(a[name](0, 1, 72), b[name](0, 1, 72))
    same = a["1"](0, 1, 7200) * a["2"](0, 1, 7200)
    assert abs(same.mean()) < 0.1
    assert random_signs([one, one], 0, 0)[0].keys != random_signs([one, one], 0, 0)[1].keys


def test_random_signs__belong_to_a_prompt_and_are_fair():
    signs = RandomSigns([5, 9], (0, 1))
    a, b = signs(0, 3, 1320), signs(1, 3, 1320)
    np.testing.assert_array_equal(a, signs(0, 3, 1320))
    assert set(np.unique(a)) == {-1.0, 1.0} and abs(a.mean()) < 0.1 and abs((a * b).mean()) < 0.1
