import dask
import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from actome.analyze.components.networks import networks
from actome.analyze.subjects import projection
from actome.analyze.subjects.dual_regression import dual_regression
from actome.store.archive import open as open_any
from actome.store.archive import save
from actome.store.blocks import prompt_level
from actome.store.errors import ActomeError
from actome.store.phantom import phantom
from actome.store.results import save_result

from ...strategies import chunkings
from .regressions import maps_of, reference


def recording(**options):
    made = {"n_prompts": 3, "n_tokens": (2, 9), "n_layers": 2, "n_neurons": 9, "fraction": 0.1, "seed": 5}
    return phantom(**{**made, **options}, dtype=np.float64)


@pytest.fixture(scope="module")
def ds():
    return recording()


@pytest.fixture(scope="module")
def components(ds):
    return maps_of(ds)


def codes(ds, subject):
    return (
        np.arange(ds.sizes["prompt"])
        if subject == "prompt"
        else np.unique(ds[subject], return_inverse=True)[1]
    )


def check(ds, components, subject="prompt", **options):
    got = dual_regression(ds, components, subject=subject, **options)
    courses, maps, ranks = reference(ds, components, codes(ds, subject), **options)
    shown = got["time_course"].transpose("prompt", "token", "component").to_numpy()
    np.testing.assert_allclose(shown, courses, atol=1e-10)
    own = got["component_map"].transpose("subject", "component", "layer", "neuron").to_numpy()
    np.testing.assert_allclose(own.reshape(maps.shape), maps, atol=1e-10)
    assert got["rank"].to_numpy().tolist() == ranks
    return got


@pytest.mark.parametrize("standardize", [True, False])
@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("subject", ["prompt", "condition"])
def test_dual_regression__is_least_squares_twice(standardize, normalize, subject, ds, components):
    check(ds, components, subject, standardize=standardize, normalize=normalize)


def test_dual_regression__demeans_each_subject_where_asked_for(components):
    ds = recording(n_tokens=(6, 9))
    for subject in ("prompt", "run"):
        check(ds, components, subject, demean=True)


def test_dual_regression__gives_prompts_of_few_tokens_the_maps_of_smallest_norm(ds, components):
    got = check(ds.isel(token=slice(2)), components)
    assert (got["rank"] == 2).all() and (got["subject_tokens"] == 2).all()


def test_dual_regression__leaves_out_neurons_without_values_and_takes_constant_ones_as_0(ds, components):
    odd = ds.copy(deep=True)
    valid = (odd["token_id"] != -1).to_numpy()
    odd["activation"].to_numpy()[..., 1, 0] = np.where(valid, 7.0, np.nan)
    odd["activation"].to_numpy()[..., 1, 1] = np.nan
    odd["activation"].to_numpy()[2, 0, 0, 3] = np.inf
    lacking = components.copy(deep=True)
    lacking["component_map"][:, 0, 4] = np.nan
    got = check(odd, lacking)
    missing = np.isnan(got["component_map"].to_numpy()).all(axis=(0, 1))
    assert np.argwhere(missing).tolist() == [[0, 3], [0, 4], [1, 1]]


def test_dual_regression__takes_windows_of_layers_one_by_one(ds):
    windows = [maps_of(ds.isel(layer=[i]), 2, seed=i) for i in (0, 1)]
    both = xr.concat([w.reindex(layer=[0, 1]) for w in windows], "component").transpose("component", ...)
    both = both.assign_coords(component=range(4), window=("component", [0, 0, 1, 1]))
    got = dual_regression(ds, both, subject="condition")
    for i, alone in enumerate(windows):
        expected = dual_regression(ds.isel(layer=[i]), alone, subject="condition")
        own = got.isel(component=slice(2 * i, 2 * i + 2))
        for name in ("time_course", "similarity"):
            np.testing.assert_allclose(own[name], expected[name], atol=1e-10)
        np.testing.assert_allclose(own["component_map"][..., [i], :], expected["component_map"], atol=1e-10)
        assert own["component_map"][..., [1 - i], :].isnull().all()
    assert (got["rank"] == 4).all()


def test_dual_regression__similarity_is_the_correlation_with_the_groups_map(ds, components):
    got = dual_regression(ds, components)
    own, group = got["component_map"].to_numpy().reshape(9, 3, -1), components["component_map"].to_numpy()
    expected = [[np.corrcoef(own[s, k], group[k].ravel())[0, 1] for k in range(3)] for s in range(9)]
    np.testing.assert_allclose(got["similarity"], expected, atol=1e-12)
    raw = dual_regression(ds, components, normalize=False)
    np.testing.assert_allclose(raw["similarity"], expected, atol=1e-12)


@given(st.data())
@settings(max_examples=4)
def test_dual_regression__does_not_depend_on_chunks(data):
    ds = recording(n_prompts=2, n_neurons=5, n_tokens=(2, 5), conditions=("a", "b"))
    components = maps_of(ds)
    subject = data.draw(st.sampled_from(["prompt", "condition"]))
    got = dual_regression(ds.chunk(data.draw(chunkings(ds))), components, subject=subject)
    expected = dual_regression(ds, components, subject=subject)
    for name in ("time_course", "component_map", "similarity", "rank"):
        np.testing.assert_allclose(got[name], expected[name], atol=1e-10)


def test_dual_regression__does_not_depend_on_the_order_of_prompts_or_the_workers(ds, components, rng):
    expected = dual_regression(ds, components)
    shuffled = ds.isel(prompt=rng.permutation(9))
    for options in ({"scheduler": "synchronous"}, {"scheduler": "threads", "num_workers": 3}):
        with dask.config.set(**options):
            got = dual_regression(shuffled.chunk(prompt=2, neuron=4), components).load()
        back = got.sel(prompt=ds["prompt"], subject=expected["subject"])
        for name in ("time_course", "component_map", "similarity"):
            np.testing.assert_allclose(back[name], expected[name], atol=1e-10)


def test_dual_regression__reads_each_chunk_once_for_the_maps(ds, components, monkeypatch):
    reads = []

    def counted(block):
        reads.append(block.shape)
        return block

    cube = ds["activation"].chunk(prompt=3, layer=1)
    counting = cube.copy(data=cube.data.map_blocks(counted, dtype=cube.dtype, meta=np.empty((0,) * 4)))
    monkeypatch.setattr(projection, "_BLOCK_BYTES", 8 * 3 * 18)  # maps of one prompt at a time
    got = dual_regression(ds.assign(activation=counting), components)
    assert len(reads) == 2 * 6 and got["component_map"].chunks[0] == (1,) * 9
    got.compute()
    assert len(reads) == 3 * 6


def test_dual_regression__finds_each_subjects_own_map():
    ds = phantom(n_prompts=4, n_tokens=(40, 60), n_networks=3, network_gain=3.0, effect=0.0, n_neurons=50)
    truth = ds["true_network"].astype(float).rename(network="component").assign_coords(component=range(3))
    activation = (
        ds["activation"]
        .where((ds["run"] == 0) | ~ds["true_network"][0], 0.0)
        .where(ds["activation"].notnull())
    )
    got = dual_regression(
        ds.assign(activation=activation), truth.to_dataset(name="component_map"), subject="run"
    )
    similarity = got["similarity"].to_numpy()
    assert (similarity[0] > 0.8).all() and similarity[1, 0] < 0.5 < 0.8 < similarity[1, 1:].min()
    masks = networks(got)
    assert masks.dims == ("subject", "network", "layer", "neuron")
    assert (masks[0].to_numpy() == ds["true_network"].to_numpy()).mean() > 0.99


def test_dual_regression__leaves_out_prompts_without_tokens(ds, components):
    empty = ds.copy(deep=True)
    empty["token_id"][{"prompt": 4}] = -1
    empty["activation"][{"prompt": 4}] = np.nan
    rest = ds.isel(prompt=[i for i in range(9) if i != 4])
    got, expected = (dual_regression(d, components) for d in (empty, rest))
    assert got["subject"].to_numpy().tolist() == rest["prompt"].to_numpy().tolist()
    np.testing.assert_allclose(got["component_map"], expected["component_map"], atol=1e-12)


def test_dual_regression__keeps_labels_and_origin_and_is_saved_from_disk(ds, components, tmp_path):
    opened = open_any(save(ds, tmp_path / "r.zarr"))
    got = dual_regression(opened, components)
    again = open_any(save_result(got, tmp_path / "d.zarr"))
    assert again.attrs["kind"] == "dual_regression" and again.attrs["selected_on"] == ["q0"]
    assert (
        again.attrs["source"] == opened.attrs["manifest_digest"] and again.attrs["components"] == "sha256:1"
    )
    assert again["condition"].to_numpy().tolist() == ds["condition"].to_numpy().tolist()
    np.testing.assert_allclose(
        again["component_map"], dual_regression(ds, components)["component_map"], atol=1e-9
    )
    assert networks(again).sizes["subject"] == 9


@pytest.mark.parametrize(
    ("make", "change", "options", "message"),
    [
        (prompt_level, None, {}, "dual_regression needs the activations of tokens"),
        (lambda d: d, None, {"subject": "session"}, "subject must be 'prompt' or a label .* got 'session'"),
        (
            lambda d: d.isel(neuron=slice(4)),
            None,
            {},
            "the components and the recording differ in neuron: 9 and 4",
        ),
        (lambda d: d, lambda c: c.drop_vars("component_map"), {}, "takes components from actome.group_ica"),
        (lambda d: d, lambda c: c.expand_dims("subject"), {}, r"takes the group's maps \(component, layer"),
        (lambda d: d, lambda c: xr.concat([c, c], "component"), {}, "the 6 maps are linearly dependent over"),
        (lambda d: d, lambda c: c * np.nan, {}, "linearly dependent over the 0 neurons"),
        (lambda d: d.assign_coords(token_id=d["token_id"] * 0 - 1), None, {}, "no prompt has any"),
    ],
)
def test_dual_regression__refuses(make, change, options, message, ds, components):
    with pytest.raises((ValueError, TypeError), match=message) as caught:
        dual_regression(make(ds), components if change is None else change(components), **options)
    assert isinstance(caught.value, ActomeError)
