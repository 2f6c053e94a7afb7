import dask
import numpy as np
import pytest
import xarray as xr
from distributed import Client, LocalCluster
from sklearn.decomposition import FastICA

from actome.analyze.components.networks import networks
from actome.analyze.subjects.alone import independent
from actome.analyze.subjects.dual_regression import dual_regression
from actome.analyze.subjects.individual import individual_components
from actome.analyze.subjects.recurrence import recurrence
from actome.analyze.threshold import Z
from actome.store.archive import open as open_result
from actome.store.archive import save
from actome.store.blocks import prompt_level
from actome.store.errors import ActomeError
from actome.store.phantom import phantom
from actome.store.results import save_result

N = 3


@pytest.fixture(scope="module")
def ds():
    """Six prompts of 60 to 80 tokens, in each the same three networks."""
    return phantom(
        conditions=("a", "rest"), n_prompts=3, n_tokens=(60, 80), n_layers=2, n_neurons=60, effect=0.0,
        fraction=0.08, n_networks=N, network_gain=4.0, seed=3,
    )  # fmt: skip


@pytest.fixture(scope="module")
def templates(ds):
    maps = ds["true_network"].astype(float).rename(network="component").assign_coords(component=[4, 5, 6])
    return (maps - maps.mean(("layer", "neuron"))).to_dataset(name="component_map").assign_attrs(source="t")


def flat(found):
    maps = found["component_map"].to_numpy()
    return maps.reshape(*maps.shape[:2], -1)


def truth_of(ds):
    return ds["true_network"].to_numpy().reshape(N, -1).astype(float)


@pytest.mark.parametrize("mode", ["spatial", "temporal"])
def test_individual_components__recovers_the_planted_networks_of_every_prompt(mode, ds):
    got = individual_components(ds, n_components=N, mode=mode, standardize=False)
    for maps in flat(got):
        r = np.abs(np.corrcoef(maps, truth_of(ds))[:N, N:])
        assert r.max(axis=0).min() > 0.8
    assert got["converged"].all() and (got["n_found"] == N).all()
    np.testing.assert_allclose(flat(got).mean(axis=2), 0, atol=1e-12)
    np.testing.assert_allclose(flat(got).std(axis=2), 1)


@pytest.mark.parametrize("mode", ["spatial", "temporal"])
def test_individual_components__are_those_of_scikit_learn(mode, ds):
    one = ds.isel(prompt=[1])
    valid = (one["token_id"] != -1).to_numpy()
    X = one["activation"].to_numpy()[valid].reshape(valid.sum(), -1).astype(float)
    X = (X - X.mean(axis=0)) / X.std(axis=0)
    ica = FastICA(N, whiten="unit-variance", random_state=1, tol=1e-8, max_iter=2000)
    if mode == "spatial":
        _, s, V = np.linalg.svd(X, full_matrices=False)
        expected = ica.fit_transform((s[:N, None] * V[:N]).T).T
    else:
        ica.fit(X)
        expected = ica.mixing_.T
    maps = flat(individual_components(one, n_components=N, mode=mode))[0]
    r = np.abs(np.corrcoef(maps, expected)[:N, N:])
    assert r.max(axis=0).min() > 0.9999


def test_individual_components__come_in_the_order_and_with_the_signs_of_the_templates(ds, templates):
    flipped = (-templates).isel(component=[2, 0, 1])
    got = individual_components(ds, n_components=N, templates=flipped, standardize=False)
    assert got["component"].to_numpy().tolist() == [6, 4, 5]
    for maps, similarity in zip(flat(got), got["similarity"].to_numpy(), strict=True):
        r = [np.corrcoef(a, b)[0, 1] for a, b in zip(maps, -truth_of(ds)[[2, 0, 1]], strict=True)]
        np.testing.assert_allclose(r, similarity, atol=1e-12)
        assert min(r) > 0.9


def test_individual_components__leaves_a_template_without_a_partner_empty(ds, templates):
    got = individual_components(ds, n_components=2, templates=templates)
    missing = np.isnan(flat(got)).all(axis=2)
    assert (missing.sum(axis=1) == 1).all()
    assert (np.isnan(got["similarity"].to_numpy()) == missing).all()


def test_individual_components__are_lazy_and_do_not_depend_on_chunks_order_or_workers(
    ds, templates, raise_if_computes, rng
):
    options = {"n_components": N, "templates": templates}
    expected = individual_components(ds, **options).load()
    order = rng.permutation(6)
    cut = ds.chunk(prompt=2, layer=1, neuron=25)
    with raise_if_computes():
        lazy = individual_components(cut.assign(token_id=ds["token_id"]), **options)
    assert lazy["component_map"].chunks[0] == (2, 2, 2)
    for name in ("component_map", "similarity", "n_found", "converged"):
        np.testing.assert_allclose(lazy[name], expected[name], atol=1e-6)
    with dask.config.set(scheduler="threads", num_workers=3):
        mixed = individual_components(cut.isel(prompt=order), **options).load()
    back = mixed.sel(subject=expected["subject"])
    np.testing.assert_allclose(back["component_map"], expected["component_map"], atol=1e-6)


def test_individual_components__of_short_prompts_are_fewer(ds):
    short = ds.isel(token=slice(3))
    got = individual_components(short, n_components=N)
    assert (got["n_found"] == 2).all()
    assert np.isnan(flat(got)[:, 2]).all() and np.isfinite(flat(got)[:, :2]).all()
    none = individual_components(ds.isel(token=[0]), n_components=N)
    assert (none["n_found"] == 0).all() and none["component_map"].isnull().all()
    assert not networks(none).any()


def test_individual_components__leave_out_neurons_without_values(ds):
    odd = ds.copy(deep=True)
    odd["activation"][..., 1, 5] = np.nan
    odd["activation"][2, 3, 0, 7] = np.inf
    odd["activation"][..., 0, 1] = odd["activation"][..., 0, 1] * 0 + 3
    got = individual_components(odd, n_components=N)["component_map"].to_numpy()
    assert (
        np.isnan(got[:, :, 1, 5]).all()
        and np.isnan(got[2, :, 0, 7]).all()
        and np.isfinite(got[1, :, 0, 7]).all()
    )
    assert np.isfinite(got[:, :, 0, 1]).all()
    rest = odd.isel(neuron=[i for i in range(60) if i not in (1, 5, 7)])
    kept = individual_components(rest, n_components=N, standardize=False)
    r = np.corrcoef(flat(kept)[0], truth_of(rest))[:N, N:]
    assert np.abs(r).max(axis=0).min() > 0.9


def test_individual_components__of_a_label_decompose_its_prompts_together(ds, templates):
    got = individual_components(ds, n_components=N, subject="condition", templates=templates)
    assert got["subject"].to_numpy().tolist() == ["a", "rest"] and (got["similarity"] > 0.9).all()
    assert got["component_map"].shape == (2, N, 2, 60)


def test_individual_components__of_a_label_with_one_prompt_are_those_of_the_prompt(ds, templates):
    mixed = ds.assign_coords(part=("prompt", [0, 1, 1, 1, 1, 1]))
    got = individual_components(mixed, n_components=N, subject="part", templates=templates)
    alone = individual_components(ds.isel(prompt=[0]), n_components=N, templates=templates)
    np.testing.assert_allclose(got["component_map"][0], alone["component_map"][0])
    assert (got["similarity"][1] > 0.9).all()


def test_individual_components__do_not_depend_on_how_the_signals_are_turned(rng):
    signals = rng.laplace(size=(3, 400))
    turned = np.linalg.qr(rng.standard_normal((3, 3)))[0] @ signals
    a, b = (independent(s, "quasi-newton", 0)[0] for s in (signals, turned))
    np.testing.assert_allclose(a, b, atol=1e-5)


def test_individual_components__recur_as_planted_and_are_saved(ds, tmp_path):
    found = individual_components(ds, n_components=N, standardize=False)
    again = open_result(save_result(found, tmp_path / "i.zarr"))
    assert again.attrs["kind"] == "individual_components" and again["condition"].dims == ("subject",)
    got = recurrence(ds["true_network"], networks(again, Z(2.5)), jaccard=0.5)
    assert (got["samples"] == 6).all() and (got["p_samples"] == 1 / 1000).all()
    assert got.attrs["selected_on_individuals"] == ds["prompt"].to_numpy().tolist()


@pytest.mark.slow
def test_subjects__are_the_same_from_disk_on_a_cluster_of_processes(ds, templates, tmp_path):
    opened = open_result(save(ds, tmp_path / "r.zarr"))
    with (
        LocalCluster(n_workers=1, threads_per_worker=2, processes=True, dashboard_address=None) as cluster,
        Client(cluster),
    ):
        alone = individual_components(opened, n_components=N, templates=templates).load()
        dual = dual_regression(opened, templates, subject="condition").load()
        masks = networks(dual_regression(opened, templates), Z(2.5)).load()
    expected = individual_components(ds, n_components=N, templates=templates)
    np.testing.assert_allclose(alone["component_map"], expected["component_map"], atol=1e-6)
    maps = dual_regression(ds, templates, subject="condition")["component_map"]
    np.testing.assert_allclose(dual["component_map"], maps, atol=1e-9)
    assert (masks == networks(dual_regression(ds, templates), Z(2.5))).all()


@pytest.mark.parametrize(
    ("make", "options", "message"),
    [
        (prompt_level, {}, "individual_components needs the activations of tokens"),
        (lambda d: d, {"n_components": 0}, "n_components must be at least 1, got 0"),
        (lambda d: d, {"n_components": 2.5}, "n_components must be a whole number, got 2.5"),
        (lambda d: d, {"seed": -1}, "seed must be at least 0, got -1"),
        (lambda d: d, {"mode": "both"}, "mode must be 'spatial' or 'temporal', got 'both'"),
        (lambda d: d, {"solver": "hope"}, "solver must be one of"),
        (lambda d: d, {"subject": "session"}, "subject must be 'prompt' or a label of the prompts"),
        (lambda d: d, {"templates": xr.Dataset()}, "templates must be components from actome.group_ica"),
    ],
)
def test_individual_components__refuses(make, options, message, ds):
    with pytest.raises((ValueError, TypeError), match=message) as caught:
        individual_components(make(ds), **{"n_components": N, **options})
    assert isinstance(caught.value, ActomeError)


def test_individual_components__refuses_templates_of_other_neurons(ds, templates):
    with pytest.raises(ValueError, match="the templates and the recording differ in neuron: 60 and 9"):
        individual_components(ds.isel(neuron=slice(9)), n_components=2, templates=templates)
