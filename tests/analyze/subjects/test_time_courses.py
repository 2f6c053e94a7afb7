import numpy as np
import pytest
import xarray as xr

from actome.analyze.subjects.time_courses import network_time_courses
from actome.store.archive import open as open_result
from actome.store.errors import ActomeError
from actome.store.phantom import phantom
from actome.store.results import save_result

from .regressions import scaled


@pytest.fixture(scope="module")
def ds():
    return phantom(n_prompts=3, n_tokens=(2, 7), n_layers=2, n_neurons=8, fraction=0.1, dtype=np.float64)


@pytest.fixture
def masks(ds, rng):
    return xr.DataArray(
        rng.random((3, 2, 8)) < 0.4,
        dims=("network", "layer", "neuron"),
        coords={
            "network": ["a", "b", "c"],
            "layer": ds["layer"].to_numpy(),
            "neuron": ds["neuron"].to_numpy(),
        },
        attrs={"selected_on": ["q"], "control": "Z(value=3.6)"},
    )


@pytest.mark.parametrize("standardize", [True, False])
@pytest.mark.parametrize("measure", ["signed", "magnitude"])
def test_network_time_courses__are_means_of_scaled_neurons(standardize, measure, ds, masks):
    got = network_time_courses(ds, masks, measure=measure, standardize=standardize)
    taken = abs(ds["activation"]) if measure == "magnitude" else ds["activation"]
    Z, _, _ = scaled(ds.assign(activation=taken), standardize)
    for name in "abc":
        expected = Z[:, :, masks.sel(network=name).to_numpy().ravel()].mean(axis=2)
        np.testing.assert_allclose(got["time_course"].sel(network=name), expected, atol=1e-12)
    assert got["size"].to_numpy().tolist() == masks.sum(("layer", "neuron")).to_numpy().tolist()
    assert got["time_course"].chunks is not None


def test_network_time_courses__do_not_depend_on_chunks(ds, masks):
    expected = network_time_courses(ds, masks)["time_course"]
    for chunks in ({"prompt": 2, "layer": 1, "neuron": 3}, {"prompt": 9, "token": 2, "neuron": 1}):
        got = network_time_courses(ds.chunk(chunks), masks)["time_course"]
        np.testing.assert_allclose(got, expected, atol=1e-12)


def test_network_time_courses__are_nan_for_a_network_without_usable_neurons(ds, masks):
    masks = masks.copy(deep=True)
    masks[0] = False
    masks[1] = False
    masks[1, 0, 2] = True
    masks[2, 0, 2] = True
    odd = ds.copy(deep=True)
    odd["activation"][..., 0, 2] = np.nan
    got = network_time_courses(odd, masks)
    assert got["time_course"][:2].isnull().all() and got["size"][:2].to_numpy().tolist() == [0, 0]
    without = masks.copy(deep=True)
    without[2, 0, 2] = False
    np.testing.assert_array_equal(got["time_course"][2], network_time_courses(ds, without)["time_course"][2])


def test_network_time_courses__of_no_network_are_none(ds, masks):
    got = network_time_courses(ds, masks[:0]).compute()
    assert got["time_course"].shape == (0, ds.sizes["prompt"], ds.sizes["token"]) and got["size"].shape == (
        0,
    )


def test_network_time_courses__keep_labels_and_are_saved(ds, masks, tmp_path):
    got = network_time_courses(ds, masks)
    again = open_result(save_result(got, tmp_path / "t.zarr")).load()
    np.testing.assert_array_equal(again["time_course"], got["time_course"])
    assert again["run"].to_numpy().tolist() == ds["run"].to_numpy().tolist()
    assert again.attrs["kind"] == "time_courses" and again.attrs["selected_on"] == ["q"]


@pytest.mark.parametrize(
    ("make", "options", "message"),
    [
        (lambda m: m.astype(int), {}, "takes bool masks"),
        (lambda m: m.isel(neuron=slice(3)), {}, "the masks and the recording differ in neuron: 3 and 8"),
        (lambda m: m, {"measure": "power"}, "measure must be 'magnitude' or 'signed', got 'power'"),
    ],
)
def test_network_time_courses__refuses(make, options, message, ds, masks):
    with pytest.raises((ValueError, TypeError), match=message) as caught:
        network_time_courses(ds, make(masks), **options)
    assert isinstance(caught.value, ActomeError)
