"""Other decompositions against scikit-learn and planted networks."""

import numpy as np
import pytest
import sklearn.decomposition

from actome.analyze.components.decompose import decompose
from actome.analyze.components.ica import group_ica
from actome.analyze.components.networks import networks
from actome.analyze.threshold import Top
from actome.store.errors import ActomeError
from actome.store.phantom import phantom

N = 3


@pytest.fixture(scope="module")
def ds():
    return phantom(
        n_prompts=4, n_tokens=(25, 40), n_layers=2, n_neurons=100, effect=0.0, fraction=0.06,
        n_networks=N, network_gain=3.0, network_spread=2.0,
    )  # fmt: skip


def flat(maps):
    return np.asarray(maps).reshape(len(maps), -1)


def match(maps, truth):
    return np.abs(np.corrcoef(flat(maps), flat(truth))[: len(maps), len(maps) :]).max(axis=0)


def rows_of(ds):
    valid = (ds["token_id"] != -1).to_numpy()
    return flat(ds["activation"].to_numpy().astype(float)[valid])


def test_decompose__ica_is_group_ica(ds):
    options = {"n_components": N, "n_runs": 3, "null": 0, "mode": "temporal"}
    assert decompose(ds, method="ica", **options).identical(group_ica(ds, **options))


@pytest.mark.parametrize("n_runs", [1, 5])
def test_decompose__pca_is_that_of_all_tokens(n_runs, ds):
    short = ds.isel(token=slice(5))  # of a subject six components are kept: here all
    result = decompose(short, method="pca", n_components=N, n_runs=n_runs, standardize=False)
    theirs = sklearn.decomposition.PCA(N).fit(rows_of(short))
    maps, share = flat(result["component_map"]), result["explained_variance"].to_numpy()
    assert np.abs(np.corrcoef(maps, theirs.components_)[:N, N:].diagonal()).min() > 1 - 1e-9
    np.testing.assert_allclose(share, theirs.explained_variance_ratio_, rtol=1e-9)


def test_decompose__pca_loses_little_of_subjects_that_are_cut(ds):
    result = decompose(ds, method="pca", n_components=N, n_runs=1, standardize=False)
    theirs = sklearn.decomposition.PCA(N).fit(rows_of(ds))
    maps, share = flat(result["component_map"]), result["explained_variance"].to_numpy()
    assert np.abs(np.corrcoef(maps, theirs.components_)[:N, N:].diagonal()).min() > 0.999
    np.testing.assert_allclose(share, theirs.explained_variance_ratio_, rtol=5e-3)
    assert (share < theirs.explained_variance_ratio_).all()  # what was cut is not counted


def test_decompose__explained_variance_of_sparse_maps_is_the_share_along_them(ds):
    short = ds.isel(token=slice(5))
    result = decompose(short, method="dictionary", n_components=N, sparsity=0.5, standardize=False)
    rows = rows_of(short)
    rows -= rows.mean(axis=0)
    for found, share in zip(flat(result["component_map"]), result["explained_variance"], strict=True):
        values, count = np.unique(found.round(9), return_counts=True)
        direction = found - values[count.argmax()]  # zero in most neurons, before the mean was taken off
        along = np.square(rows @ direction).sum() / np.square(direction).sum()
        assert float(share) == pytest.approx(along / np.square(rows).sum(), rel=1e-6)


def test_decompose__pca_has_a_stability(ds):
    result = decompose(ds, method="pca", n_components=N, n_runs=6)
    assert ((result["stability"] >= 0) & (result["stability"] <= 1)).all()
    assert result["stability"].max() > 0.7


@pytest.mark.parametrize(("method", "K"), [("dictionary", N), ("nmf", N + 1)])  # one for what is always there
def test_decompose__finds_the_planted_networks(method, K, ds):
    result = decompose(ds, method=method, n_components=K, sparsity=0.5)
    assert match(result["component_map"], ds["true_network"]).min() > 0.9
    maps = flat(result["component_map"])
    np.testing.assert_allclose(maps.mean(axis=1), 0, atol=1e-9)
    np.testing.assert_allclose(maps.std(axis=1), 1)
    assert result["stability"].isnull().all()
    assert (np.diff(result["explained_variance"]) <= 0).all()
    assert networks(result, Top(0.06)).sum() == K * 12
    assert result.attrs["measure"] == ("magnitude" if method == "nmf" else "signed")


@pytest.mark.parametrize("method", ["dictionary", "nmf"])
def test_decompose__does_not_depend_on_chunks(method, ds):
    options = {"method": method, "n_components": N, "n_epochs": 1, "sparsity": 0.5}
    a, b = (decompose(d, **options) for d in (ds, ds.chunk(prompt=5, layer=1)))
    assert match(a["component_map"], b["component_map"]).min() > 0.99


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "svd"}, "method must be 'ica', 'pca', 'dictionary' or 'nmf', got 'svd'"),
        ({"method": "pca", "mode": "temporal"}, "method 'pca' takes no mode; those are for 'ica'"),
        ({"method": "nmf", "n_epochs": 0}, "n_epochs of method 'nmf' must be at least 1, got 0"),
        ({"method": "pca", "seed": -1}, "seed must be at least 0, got -1"),
        ({"method": "pca", "n_components": 0}, "n_components of method 'pca' must be at least 1, got 0"),
        ({"method": "dictionary", "sparsity": 1e6}, "3 of 3 maps are empty at sparsity"),
        ({"method": "dictionary", "sparsity": 0.0}, "sparsity must be positive, got 0.0"),
        (
            {"method": "pca", "n_components": "parallel"},
            "n_components of method 'pca' must be a whole number, got 'parallel'",
        ),
    ],
)
def test_decompose__refuses(options, message, ds):
    with pytest.raises((ValueError, TypeError), match=message) as caught:
        decompose(ds, **{"n_components": N, **options})
    assert isinstance(caught.value, ActomeError)
