import numpy as np
import pytest
import xarray as xr

from actome.analyze.connectivity.correlations import connectivity
from actome.analyze.connectivity.differences import connectivity_difference
from actome.store.errors import ActomeError

from .test_correlations import made


def planted(seed=0, strength=0.0, n_prompts=24):
    """Courses of noise; in condition a the first two networks share some of theirs."""
    rng = np.random.default_rng(seed)
    courses = made(rng, n_prompts, (10, 20), mixing=np.eye(4)).transpose("prompt", "token", "network")
    values = courses["time_course"].to_numpy()
    values[::2, :, 1] += strength * values[::2, :, 0]
    return courses


def test_connectivity_difference__finds_the_planted_edge():
    got = connectivity_difference(connectivity(planted(strength=1.5)), "a - b", n_permutations=299)
    kept = got["p_corrected"].to_numpy() <= 0.05
    assert np.argwhere(kept).tolist() == [[0, 1], [1, 0]]
    assert got["effect"][0, 1] > 0.5
    assert got.attrs["exchangeability"] == "the labels a, b are exchangeable between prompts of one run"
    assert got.attrs["n_edges"] == 6 and got.attrs["kind"] == "connectivity_difference"


def test_connectivity_difference__is_the_difference_of_the_conditions_means():
    connected = connectivity(planted(strength=0.5))
    got = connectivity_difference(connected, "a - b", confounds=(), n_permutations=9)
    z = connected["fisher_z"].groupby("prompt_condition").mean()
    expected = z.sel(prompt_condition="a") - z.sel(prompt_condition="b")
    np.testing.assert_allclose(got["effect"], expected, atol=1e-12)
    np.testing.assert_array_equal(got["p_corrected"], got["p_corrected"].T)


def test_connectivity_difference__p_is_that_of_permuting_the_prompts_one_by_one():
    connected = connectivity(planted(seed=3, strength=0.7, n_prompts=8))
    got = connectivity_difference(connected, "a - b", confounds=(), n_permutations=100)
    assert got.attrs["n_permutations"] == 69  # all ways to choose 4 of 8, but the recorded one
    z = connected["fisher_z"].to_numpy()[:, 0, 1]
    from itertools import combinations

    def t(chosen):
        a, b = z[list(chosen)], np.delete(z, list(chosen))
        squares = sum(np.square(x - x.mean()).sum() / len(x) ** 2 for x in (a, b))
        return (a.mean() - b.mean()) / np.sqrt(squares)

    null = [t(c) for c in combinations(range(8), 4)]
    own = t(range(0, 8, 2))
    above, below = (np.array(null) >= own - 1e-9).mean(), (np.array(null) <= own + 1e-9).mean()
    assert float(got["p_value"][0, 1]) == pytest.approx(min(1, 2 * min(above, below)))


def test_connectivity_difference__does_not_depend_on_the_order_of_prompts(rng):
    connected = connectivity(planted(strength=0.5))
    a, b = (
        connectivity_difference(c, "a - b", n_permutations=50)
        for c in (connected, connected.isel(prompt=rng.permutation(24)))
    )
    xr.testing.assert_allclose(a, b)


def test_connectivity_difference__leaves_out_short_prompts_and_edges_without_values():
    courses = planted(strength=1.5)
    courses["time_course"][{"prompt": 0, "token": slice(2, None)}] = np.nan
    courses["time_course"][{"network": 3}] = np.nan
    got = connectivity_difference(connectivity(courses), "a - b", n_permutations=99)
    assert got["stat"].isel(network=3).isnull().all() and got.attrs["n_edges"] == 3
    assert len(got.attrs["selected_on"]) == 23 and got.attrs["n_left_out"] == 1
    assert got["p_corrected"][0, 1] <= 0.05


@pytest.mark.slow
def test_connectivity_difference__is_calibrated_over_all_edges():
    false = 0
    for seed in range(200):
        connected = connectivity(planted(seed, n_prompts=16))
        got = connectivity_difference(connected, "a - b", n_permutations=199, seed=seed)
        false += bool((got["p_corrected"] <= 0.05).any())
    assert 1 <= false <= 19  # 99 % interval of the binomial at .05


@pytest.mark.parametrize(
    ("make", "contrast", "message"),
    [
        (lambda c: c, "a - b", "takes what connectivity returns"),
        (lambda c: connectivity(c, by=None), "a - b", "of all prompts together; make it with by='condition'"),
        (lambda c: connectivity(c), "a - c", "c"),
    ],
)
def test_connectivity_difference__refuses(make, contrast, message):
    with pytest.raises((ValueError, TypeError), match=message) as caught:
        connectivity_difference(make(planted()), contrast)
    assert isinstance(caught.value, ActomeError)


def test_connectivity_difference__refuses_confounds_that_are_not_there():
    with pytest.raises(ActomeError, match=r"\['sesion'\], which the recording lacks"):
        connectivity_difference(connectivity(planted()), "a - b", confounds=["sesion"])
