import itertools

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from actome.analyze.components.ica import group_ica
from actome.analyze.overlap import match_networks, overlap
from actome.store.errors import ActomeError
from actome.store.phantom import phantom

DIMS = ("network", "layer", "neuron")


def named(values, names=None):
    names = [f"n{i}" for i in range(len(values))] if names is None else names
    return xr.DataArray(values, dims=DIMS, coords={"network": names})


def best_sum(similarity):
    """Largest sum of any pairing, by trying all."""
    rows, columns = similarity.shape
    if rows > columns:
        return best_sum(similarity.T)
    pairings = itertools.permutations(range(columns), rows)
    return max((sum(similarity[i, j] for i, j in enumerate(p)) for p in pairings), default=0.0)


@given(
    st.integers(0, 4),
    st.integers(0, 5),
    st.sampled_from(["dice", "jaccard", "coefficient"]),
    st.integers(0, 99),
)
def test_match_networks__no_pairing_of_masks_is_better(n, n_other, metric, seed):
    rng = np.random.default_rng(seed)
    a, b = (named(rng.random((k, 2, 9)) < 0.4) for k in (n, n_other))
    a, b = a | (a["neuron"] == 0), b | (b["neuron"] == 1)  # none is empty
    result = match_networks(a, b, metric=metric)
    np.testing.assert_array_equal(result["similarity"], overlap(a, b, metric=metric)[metric])
    assert result["partner_similarity"].sum() == pytest.approx(best_sum(result["similarity"].to_numpy()))
    matched = [
        (i, str(p)) for i, p in zip(a["network"].to_numpy(), result["partner"].to_numpy(), strict=True) if p
    ]
    assert len(matched) == len({p for _, p in matched}) <= min(n, n_other)
    for i, p in matched:
        assert result["partner_other"].sel(network_other=p) == i
        assert result["partner_similarity"].sel(network=i) == result["similarity"].sel(
            network=i, network_other=p
        )


def test_match_networks__maps_are_compared_by_the_magnitude_of_their_correlation(rng):
    a, b = rng.standard_normal((3, 2, 50)), rng.standard_normal((4, 2, 50)) + 300.0
    result = match_networks(named(a), named(b))
    r = np.corrcoef(a.reshape(3, -1), b.reshape(4, -1))[:3, 3:]
    np.testing.assert_allclose(result["similarity"], abs(r), atol=1e-12)
    assert result["partner_similarity"].sum() == pytest.approx(best_sum(abs(r)))
    for i in range(3):
        j = int(str(result["partner"].to_numpy()[i])[1:])
        assert result["partner_sign"].to_numpy()[i] == np.sign(r[i, j])
    assert result.attrs["metric"] == "correlation"


def test_match_networks__finds_shuffled_maps_with_other_signs(rng):
    a = rng.standard_normal((5, 3, 40))
    order, sign = rng.permutation(5), rng.choice([-1.0, 1.0], 5)
    noisy = a[order] * sign[:, None, None] + 0.3 * rng.standard_normal(a.shape)
    result = match_networks(named(a), named(noisy, order))
    for i in range(5):
        assert str(result["partner"].to_numpy()[i]) == str(i)
        assert result["partner_sign"].to_numpy()[i] == sign[list(order).index(i)]
    assert (result["partner_similarity"] > 0.9).all()


def test_match_networks__empty_masks_and_flat_maps_have_no_partner():
    a = np.zeros((3, 1, 4), dtype=bool)
    a[1, 0, 1] = a[2, 0, 2] = True
    result = match_networks(named(a), named(a))
    assert result["partner"].to_numpy().tolist() == ["", "n1", "n2"]
    assert np.isnan(result["partner_similarity"].to_numpy()).tolist() == [True, False, False]
    flat = np.arange(12.0).reshape(3, 1, 4)
    flat[0], flat[2] = 0.1, np.array([3.0, -1.0, 2.0, 2.0])
    result = match_networks(named(flat), named(flat))
    assert result["partner"].to_numpy().tolist() == ["", "n1", "n2"]
    assert result["partner_sign"].to_numpy().tolist() == [0, 1, 1]


def test_match_networks__leaves_out_neurons_without_a_value(rng):
    a, b = rng.standard_normal((2, 2, 3, 20))
    a[1, 0, 3] = b[0, 2, 7] = np.nan
    usable = ~(np.isnan(a).any(axis=0) | np.isnan(b).any(axis=0))
    expected = np.corrcoef(np.concatenate([a[:, usable], b[:, usable]]))[:2, 2:]
    np.testing.assert_allclose(match_networks(named(a), named(b))["similarity"], abs(expected), atol=1e-12)
    nothing = match_networks(named(a * np.nan), named(b))
    assert np.isnan(nothing["similarity"]).all() and (nothing["partner"] == "").all()


def test_match_networks__takes_components_lazy_or_not():
    ds = phantom(n_networks=2, network_gain=3.0, effect=0.0, n_layers=2, n_neurons=30, seed=4)
    halves = [
        group_ica(ds.isel(prompt=ds["run"] == r), n_components=2, n_runs=2)["component_map"] for r in (0, 1)
    ]
    result = match_networks(*halves)
    assert set(result["partner"].to_numpy()) == {"0", "1"} and (result["partner_similarity"] > 0.8).all()
    xr.testing.assert_identical(match_networks(*(h.chunk(neuron=7) for h in halves)), result)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda a: a.astype(float), TypeError, "two sets of masks .* got bool and float64"),
        (lambda a: a.to_numpy(), TypeError, "takes DataArrays, got ndarray"),
        (lambda a: a.isel(network=0), ValueError, r"needs the dims \(network, layer, neuron\), got"),
        (lambda a: a.isel(neuron=slice(2)), ValueError, "differ in neuron"),
    ],
)
def test_match_networks__refuses(change, error, message, rng):
    a = named(rng.random((3, 2, 5)) < 0.5)
    with pytest.raises(error, match=message) as caught:
        match_networks(a, change(a))
    assert isinstance(caught.value, ActomeError)
    if error is ValueError:
        with pytest.raises(error, match=message):
            match_networks(a.astype(float), change(a.astype(float)))
