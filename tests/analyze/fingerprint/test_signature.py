"""Signatures: time courses of networks that do not depend on how neurons are arranged."""

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from actome.analyze.components.ica import group_ica
from actome.analyze.fingerprint import signature
from actome.analyze.threshold import P, Top, Z
from actome.store.errors import ActomeError

from ...strategies import chunkings
from .speakers import rearranged, speaker, split

N = 4
NETWORK = Top(0.05)


@pytest.fixture(scope="module")
def ds():
    return speaker()


@pytest.fixture(scope="module")
def components(ds):
    return group_ica(ds, n_components=N, n_runs=1)


def rows(sig):
    course = sig["course"].to_numpy()
    return course[~np.isnan(course).all(axis=2)]


def in_order(courses, like):
    """Courses of the same networks in the order of others; components have none."""
    r = np.corrcoef(like.T, courses.T)[:N, N:]
    return courses[:, r.argmax(axis=1)]


def test_signature__is_the_mean_of_the_networks_standardised_neurons(ds, components):
    sig = signature(ds, components=components, network=NETWORK)
    x = ds["activation"].to_numpy().astype(float).reshape(-1, 240)
    z = (x - x.mean(axis=0)) / x.std(axis=0)
    maps = components["component_map"].to_numpy().reshape(N, -1)
    for k in range(N):
        own = np.argsort(-np.abs(maps[k]), kind="stable")[:12]
        expected = (z[:, own] * np.sign(maps[k, own])).mean(axis=1)
        np.testing.assert_allclose(rows(sig)[:, k], expected, atol=1e-12)
    assert sig["size"].to_numpy().tolist() == [12] * N
    assert sig.attrs["kind"] == "signature" and sig.attrs["source"] == "sha256:0"


def test_signature__follows_the_planted_courses(ds, components):
    sig = signature(ds, components=components, network=NETWORK)
    planted = ds["true_network"].to_numpy().reshape(N, -1)
    x = ds["activation"].to_numpy().astype(float).reshape(-1, 240)
    courses = np.stack([x[:, own].mean(axis=1) for own in planted])
    r = np.abs(np.corrcoef(rows(sig).T, courses)[:N, N:])
    assert r.max(axis=0).min() > 0.99 and r.max(axis=1).min() > 0.99


def test_signature__stays_the_same_when_neurons_change_places_and_scales(ds):
    a, b = (signature(d, n_components=N, network=NETWORK) for d in (ds, rearranged(ds)))
    np.testing.assert_allclose(in_order(rows(b), rows(a)), rows(a), atol=1e-6)


@given(data=st.data())
@settings(max_examples=6)
def test_signature__does_not_depend_on_chunks(data, ds, components):
    small = ds.isel(prompt=slice(0, 3), token=slice(0, 8), neuron=slice(0, 5))
    a, b = (
        signature(d, components=components.isel(neuron=slice(0, 5)), network=NETWORK)
        for d in (small, small.chunk(data.draw(chunkings(small))))
    )
    xr.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)


def test_signature__does_not_depend_on_the_order_of_prompts(ds, components, rng):
    order = rng.permutation(ds.sizes["prompt"])
    a, b = (signature(d, components=components, network=NETWORK) for d in (ds, ds.isel(prompt=order)))
    xr.testing.assert_allclose(a.isel(prompt=order), b)


def test_signature__leaves_out_tokens_without_characters(ds, components):
    sig = signature(split(ds), n_components=N, network=NETWORK)
    assert np.isnan(sig["course"].to_numpy()[:, 0]).all() and (sig["char_end"].to_numpy()[:, 0] == -1).all()
    expected = signature(ds, n_components=N, network=NETWORK)
    second = rows(sig).reshape(24, 30, 2, N)[:, :, 1].reshape(-1, N)
    np.testing.assert_allclose(in_order(second, rows(expected)), rows(expected), atol=1e-6)


def test_signature__networks_without_neurons_have_no_course(ds, components):
    sig = signature(ds, components=components, network=Z(50.0))
    assert (sig["size"].to_numpy() == 0).all() and np.isnan(sig["course"].to_numpy()).all()


def test_signature__neurons_without_values_or_spread_belong_to_no_network(ds):
    odd = ds.copy(deep=True)
    odd["activation"][{"layer": 1, "neuron": 3}] = np.nan
    odd["activation"][{"layer": 1, "neuron": 4}] = 0.1
    sig = signature(odd, n_components=N, network=Top(0.99))
    assert np.isfinite(sig["course"].to_numpy()).all()
    assert sig["size"].max() <= 238


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        (lambda ds: ds.drop_vars("char_end"), {}, "has no char_end, by which the tokens of two models"),
        (lambda ds: ds.assign(char_end=ds["char_start"]), {}, "no token of the recording stands for a char"),
        (lambda ds: ds, {"network": P(0.1)}, r"network must be Z\(...\) or Top\(...\), got P\("),
        (lambda ds: ds, {"components": xr.Dataset()}, "components must come from actome.group_ica"),
        (lambda ds: ds.drop_vars("activation"), {}, "holds neither 'activation' nor"),
    ],
)
def test_signature__refuses(change, options, message, ds):
    with pytest.raises((TypeError, ValueError), match=message) as caught:
        signature(change(ds), **{"n_components": N, **options})
    assert isinstance(caught.value, ActomeError)


def test_signature__refuses_components_of_another_model(ds, components):
    with pytest.raises(ValueError, match="differ in neuron: 120 and 60 of them, or others"):
        signature(ds.isel(neuron=slice(60)), components=components)
