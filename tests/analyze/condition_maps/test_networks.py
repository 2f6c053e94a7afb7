import numpy as np
import pytest
import scipy.stats
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from actome.analyze.condition_maps.networks import Rule, StreamedNetworks
from actome.analyze.threshold import P, Top, Z, threshold
from actome.store.errors import ActomeError

RULES = [Top(0.1), Top(0.001), P(0.02), P(0.7), Z(1.7), "fdr", "by", "bonferroni"]


def streamed(t, rule, dof, cuts, order):
    """Networks of maps (map, neuron) that come in these pieces, in this order."""
    networks = StreamedNetworks(rule, np.full(len(t), dof), t.shape[1])
    pieces = np.split(np.arange(t.shape[1]), cuts)
    for i in order:
        networks.add(0, t[: len(t) // 2, pieces[i]], pieces[i])
        networks.add(len(t) // 2, t[len(t) // 2 :, pieces[i]], pieces[i])
    return networks.masks().toarray().astype(bool)


@given(st.sampled_from(RULES), st.integers(0, 2**32 - 1), st.lists(st.integers(0, 200), max_size=8))
def test_streamed_networks__are_those_of_threshold(rule, seed, cuts):
    rng = np.random.default_rng(seed)
    t = np.round(rng.standard_t(12, (4, 200)) + 1.5 * (rng.random((4, 200)) < 0.2), rng.integers(1, 6))
    t[rng.random(t.shape) < 0.1] = np.nan
    t[3] = np.nan if seed % 2 else t[3]
    order = rng.permutation(len(cuts) + 1)
    ours = streamed(t, Rule(rule, 0.1), 12.0, sorted(cuts), order)
    ds = xr.Dataset({"stat": (("map", "layer", "neuron"), t[:, None])})
    ds["p_value"] = 2 * scipy.stats.t.sf(abs(ds["stat"]), 12.0) + 0 * ds["stat"]
    ds["z_score"] = ds["stat"].copy(data=scipy.stats.norm.isf(scipy.stats.t.sf(ds["stat"], 12.0)))
    np.testing.assert_array_equal(ours, threshold(ds, control=rule, alpha=0.1)[:, 0])


def test_streamed_networks__hold_little_more_than_the_networks(rng):
    networks = StreamedNetworks(Rule(Top(0.01)), np.ones(3), 20_000)
    t = np.sort(rng.standard_normal((3, 20_000)), axis=1)  # rising: every value is a new largest
    for start in range(0, 20_000, 100):
        networks.add(0, t[:, start : start + 100], np.arange(start, start + 100))
        assert networks._value.shape[1] <= 2 * 200 + 100
    assert (networks.masks().toarray()[:, -200:] == 1).all() and networks.masks().nnz == 600


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"network": "best"}, TypeError, r"network must be Top\(...\), P.* got 'best'"),
        ({"network": 0.01}, TypeError, "got 0.01"),
        ({"network": "fdr", "alpha": 0}, ValueError, "alpha must lie between 0 and 1, got 0"),
    ],
)
def test_rule__refuses(options, error, message):
    with pytest.raises(error, match=message) as caught:
        Rule(**options)
    assert isinstance(caught.value, ActomeError)
