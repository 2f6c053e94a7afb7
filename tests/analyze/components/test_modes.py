"""Temporal sources against scikit-learn, common ones against nilearn's CanICA, and the other options."""

import warnings

import numpy as np
import pytest
import xarray as xr
from sklearn.decomposition import FastICA

from actome.analyze.components.ica import group_ica
from actome.analyze.components.networks import networks
from actome.store.errors import InputError
from actome.store.phantom import phantom

N = 4


def planted(**options):
    made = {
        "n_prompts": 6, "n_tokens": (40, 70), "n_layers": 2, "n_neurons": 60, "effect": 0.0,
        "fraction": 0.1, "n_networks": N, "network_gain": 3.0, "network_spread": 1.5,
    }  # fmt: skip
    return phantom(**{**made, **options})


@pytest.fixture(scope="module")
def ds():
    return planted()


def flat(maps):
    return np.asarray(maps).reshape(len(maps), -1)


def match(maps, truth):
    return np.abs(np.corrcoef(flat(maps), flat(truth))[: len(maps), len(maps) :]).max(axis=0)


def rows_of(ds):
    valid = (ds["token_id"] != -1).to_numpy()
    return flat(ds["activation"].to_numpy().astype(float)[valid])


@pytest.mark.parametrize("solver", ["quasi-newton", "fastica"])
@pytest.mark.parametrize("chunks", [{}, {"prompt": 4, "layer": 1}])
def test_group_ica__temporal_maps_are_those_of_scikit_learn(solver, chunks, ds):
    rows = rows_of(ds)
    rows = (rows - rows.mean(axis=0)) / rows.std(axis=0)
    theirs = FastICA(N, whiten="unit-variance", tol=1e-10, max_iter=2000, random_state=0).fit(rows)
    result = group_ica(ds.chunk(chunks), n_components=N, mode="temporal", solver=solver, n_runs=1)
    assert match(result["component_map"], theirs.mixing_.T).min() > 0.9999
    assert match(result["component_map"], ds["true_network"]).min() > 0.97


def test_group_ica__temporal_repeats_are_stable(ds):
    result = group_ica(ds, n_components=N, mode="temporal", n_runs=4)
    assert result["stability"].min() > 0.8 and result["split_half"].min() > 0.8
    assert result["is_network"].all() and result.attrs["mode"] == "temporal"


def test_group_ica__agrees_with_canica_on_images():
    nibabel = pytest.importorskip("nibabel")
    decomposition = pytest.importorskip("nilearn.decomposition")
    whole = planted(
        n_prompts=8, n_tokens=(60, 60), n_layers=1, n_neurons=600, fraction=0.03, conditions=("a",), n_runs=4
    )
    recordings, images = [], []
    for run in range(4):
        own = whole.isel(prompt=np.flatnonzero(whole["run"] == run))
        rows = rows_of(own)
        rows = ((rows - rows.mean(axis=0)) / rows.std(axis=0)).astype(np.float32)
        recordings.append(
            own.assign(activation=own["activation"].copy(data=rows.reshape(own["activation"].shape)))
        )
        images.append(nibabel.Nifti1Image(rows.T.reshape(600, 1, 1, -1), np.eye(4)))
    mask = nibabel.Nifti1Image(np.ones((600, 1, 1), dtype=np.uint8), np.eye(4))
    canica = decomposition.CanICA(
        mask=mask, n_components=N, smoothing_fwhm=None, threshold=None, standardize=False,
        standardize_confounds=False, detrend=False, random_state=0, n_init=1,
    )  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = canica.fit(images).components_
    result = group_ica(
        recordings, n_components=N, subject="recording", subject_components=N, group="cca", n_runs=2, null=0
    )
    assert result.attrs["n_subjects"] == 4
    assert match(theirs, whole["true_network"]).min() > 0.95
    assert match(result["component_map"], theirs).min() > 0.99


def test_group_ica__picard_and_fastica_find_the_same():
    pytest.importorskip("picard")
    ds = planted(n_neurons=150, fraction=0.04)
    a, *others = (
        group_ica(ds, n_components=N, n_runs=1, solver=s)["component_map"]
        for s in ("quasi-newton", "picard", "fastica")
    )
    assert match(a, others[0]).min() > 0.99999
    for b in others:
        assert match(a, b).min() > 0.999


@pytest.mark.parametrize("n_components", ["parallel", 0.5])
def test_group_ica__chooses_the_number_of_components(n_components):
    ds = planted(n_prompts=3, n_neurons=150, fraction=0.04, network_gain=4.0)
    a, b = (group_ica(d, n_components=n_components, n_runs=1) for d in (ds, ds.chunk(prompt=7)))
    assert a.sizes["component"] == b.sizes["component"]
    if n_components == "parallel":
        assert a.sizes["component"] == N
        assert match(a["component_map"], ds["true_network"]).min() > 0.97
    else:
        rows = rows_of(ds)
        rows = (rows - rows.mean(axis=0)) / rows.std(axis=0)
        share = np.cumsum(np.linalg.svd(rows, compute_uv=False) ** 2) / np.square(rows).sum()
        assert abs(a.sizes["component"] - (np.flatnonzero(share >= 0.5)[0] + 1)) <= 1


def test_group_ica__finds_no_number_of_components_in_noise_that_persists():
    ds = planted(n_networks=0, autocorrelation=0.5, n_prompts=4)
    with pytest.raises(InputError, match="no component varies more"):
        group_ica(ds, n_components="parallel")


def test_group_ica__windows_are_decompositions_of_their_layers():
    ds = planted(n_layers=3)
    result = group_ica(ds, n_components=2, window=2, n_runs=2, null=0)
    assert result["window"].to_numpy().tolist() == [0, 0, 2, 2]
    assert result["component"].to_numpy().tolist() == [0, 1, 2, 3]
    assert result["converged"].dims == ("of_window", "repeat")
    for layers, own, rest in ((slice(0, 2), [0, 1], slice(2, 3)), (slice(2, 3), [2, 3], slice(0, 2))):
        alone = group_ica(ds.isel(layer=layers), n_components=2, n_runs=2, null=0)
        part = result.isel(component=own)
        np.testing.assert_allclose(part["component_map"].isel(layer=layers), alone["component_map"])
        assert part["component_map"].isel(layer=rest).isnull().all()
        np.testing.assert_allclose(part["explained_variance"], alone["explained_variance"])
    assert networks(result).dtype == bool and not networks(result)[:2, 2].any()


def test_group_ica__a_recording_may_be_a_subject_and_its_name_not_its_place_counts(ds):
    parts = [ds.isel(prompt=slice(i, i + 6)).assign_attrs(name=f"r{i}") for i in (0, 6, 12)]
    a, b = (group_ica(p, n_components=N, subject="recording", n_runs=3, null=0) for p in (parts, parts[::-1]))
    np.testing.assert_allclose(a["component_map"], b["component_map"], atol=1e-6)
    xr.testing.assert_allclose(a["stability"], b["stability"])


@pytest.mark.parametrize("group", ["pca", "cca"])
def test_group_ica__subjects_of_many_prompts_do_not_depend_on_chunks_or_order(group):
    made = {"n_prompts": 8, "n_tokens": (60, 90), "n_networks": 6, "network_gain": 0.7, "n_neurons": 100}
    ds = phantom(**made, network_spread=2, effect=0, n_runs=3)
    found = [
        group_ica(d, n_components=8, n_runs=4, subject="run", group=group)
        for d in (ds, ds.chunk(prompt=1), ds[{"prompt": slice(None, None, -1)}])
    ]
    for one in found:
        assert int(one["is_network"].sum()) == 6
        planted_in_common = match(found[0]["component_map"], one["component_map"])[found[0]["is_network"]]
        assert planted_in_common.min() > 0.99


def test_group_ica__bootstraps_do_not_depend_on_the_order_of_prompts(ds, rng):
    a, b = (group_ica(d, n_components=6, n_runs=4, null=0) for d in (ds, ds.isel(prompt=rng.permutation(18))))
    np.testing.assert_allclose(a["stability"], b["stability"], atol=1e-4)
    np.testing.assert_allclose(a["component_map"], b["component_map"], atol=1e-2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mode": "both"}, "mode must be 'spatial' or 'temporal', got 'both'"),
        ({"group": "ica"}, "group must be 'pca' or 'cca', got 'ica'"),
        ({"mode": "temporal", "group": "cca"}, "group='cca' is for mode='spatial'"),
        ({"window": 3}, "window must be between 1 and the 2 layers, got 3"),
        ({"null": -1}, "null must be at least 0, got -1"),
        ({"null": 3}, "null must be 0, or at least 19: of 3 draws no p"),
        ({"n_runs": 2.5}, "n_runs must be a whole number, got 2.5"),
        ({"seed": -1}, "seed must be at least 0, got -1"),
        ({"window": 2.0}, "window must be a whole number, got 2.0"),
        ({"n_components": 1.5}, "must lie between 0 and 1, got 1.5"),
        ({"n_components": 0.999}, "components hold .* of the variance, fewer than the 99.9% asked for"),
        ({"n_components": "aic"}, "must be an int, a share of the variance, or 'parallel', got 'aic'"),
        ({"subject": "recording"}, "at least two subjects, got 1"),
    ],
)
def test_group_ica__refuses_options(options, message, ds):
    with pytest.raises((ValueError, TypeError), match=message):
        group_ica(ds, **{"n_components": N, "n_runs": 1, **options})
