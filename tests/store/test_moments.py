import numpy as np
import pytest
from hypothesis import given

from actome.store.moments import masked_moments, valid_tokens

from ..strategies import recordings


@given(recordings())
def test_masked_moments__agree_with_numpy(ds):
    cube = ds["activation"].to_numpy()
    lengths = valid_tokens(cube)
    moments = masked_moments(cube, np.arange(cube.shape[1]) < lengths[:, None])
    assert moments["count"].tolist() == lengths.tolist()
    for p, n in enumerate(lengths):
        rows = cube[p, :n].astype(np.float64)
        if n == 0:
            assert all(np.isnan(moments[name][p]).all() for name in ("mean", "m2", "mean_abs"))
            continue
        np.testing.assert_allclose(moments["mean"][p], rows.mean(axis=0), rtol=1e-12)
        np.testing.assert_allclose(moments["m2"][p], n * rows.var(axis=0), rtol=1e-10, atol=1e-20)
        np.testing.assert_allclose(moments["mean_abs"][p], np.abs(rows).mean(axis=0), rtol=1e-12)


def test_masked_moments__float16_does_not_overflow():
    cube = np.full((1, 4, 1, 1), 60000, dtype=np.float16)
    moments = masked_moments(cube, np.ones((1, 4), dtype=bool))
    assert moments["mean"].item() == moments["mean_abs"].item() == float(np.float16(60000))
    assert moments["m2"].item() == 0.0


def test_masked_moments__m2_survives_a_large_mean():
    cube = 1e8 + np.array([-1.0, 0.0, 1.0]).reshape(1, 3, 1, 1)
    assert masked_moments(cube, np.ones((1, 3), dtype=bool))["m2"].item() == pytest.approx(2.0)


def test_masked_moments__take_any_tokens(rng):
    cube = rng.standard_normal((2, 5, 3, 4))
    valid = np.array([[0, 1, 0, 1, 1], [0, 0, 0, 0, 0]], dtype=bool)
    moments = masked_moments(cube, valid)
    assert moments["count"].tolist() == [3, 0]
    np.testing.assert_allclose(moments["mean"][0], cube[0, [1, 3, 4]].mean(axis=0))
    assert np.isnan(moments["mean"][1]).all()


def test_valid_tokens__counts_up_to_the_last_real_one():
    cube = np.ones((4, 3, 2, 2))
    cube[1, 2:] = cube[2, 1] = cube[3] = np.nan
    cube[0, 2, 0, 0] = np.nan  # one neuron: the token is still real
    assert valid_tokens(cube).tolist() == [3, 2, 3, 0]
