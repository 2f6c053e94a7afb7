import dask
import numpy as np
import pytest
import scipy.stats
import xarray as xr

from actome.analyze.components.map_thresholds import Mixture, OfMaximum
from actome.analyze.components.networks import expression, networks
from actome.analyze.threshold import P, Top, Z
from actome.store.blocks import prompt_level
from actome.store.errors import ActomeError


@pytest.fixture
def components(rng):
    maps = rng.standard_t(3, (3, 2, 40))
    maps = scipy.stats.zscore(maps.reshape(3, -1), axis=1).reshape(3, 2, 40)
    return xr.Dataset(
        {"component_map": (("component", "layer", "neuron"), maps)},
        coords={"component": np.arange(3), "layer": np.arange(2), "neuron": np.arange(40)},
        attrs={"selected_on": ["p0"]},
    )


@pytest.mark.parametrize("two_sided", [False, True])
def test_networks__are_the_neurons_beyond_z(components, two_sided):
    masks = networks(components, Z(1.5), two_sided)
    maps = components["component_map"].to_numpy()
    assert masks.to_numpy().tolist() == ((np.abs(maps) if two_sided else maps) >= 1.5).tolist()
    assert masks.dims == ("network", "layer", "neuron") and masks.dtype == bool
    assert masks["network"].to_numpy().tolist() == ["ic0", "ic1", "ic2"]
    assert (masks.attrs["selected_on"], masks.attrs["two_sided"]) == (["p0"], two_sided)


@pytest.mark.parametrize("two_sided", [False, True])
def test_networks__top_takes_as_many_of_each_map(components, two_sided):
    masks = networks(components, Top(0.1), two_sided).to_numpy().reshape(3, -1)
    maps = components["component_map"].to_numpy().reshape(3, -1)
    for mask, values in zip(masks, np.abs(maps) if two_sided else maps, strict=True):
        assert set(np.flatnonzero(mask)) == set(np.argsort(values)[-8:])


def test_networks__never_hold_a_neuron_without_a_value(components):
    components["component_map"][:, 0, 0] = np.nan
    for threshold in (Z(0.1), Top(0.9)):
        assert not networks(components, threshold, two_sided=True)[:, 0, 0].any()


THRESHOLDS = [Z(3.6), Top(0.1), OfMaximum(0.5), Mixture(2)]


@pytest.mark.parametrize("threshold", THRESHOLDS, ids=repr)
def test_networks__are_lazy_and_the_same(threshold, components, raise_if_computes):
    with raise_if_computes():
        masks = networks(components.chunk(component=1, neuron=7), threshold)
    assert masks.chunks is not None
    xr.testing.assert_identical(masks.compute(), networks(components, threshold))


@pytest.mark.parametrize("threshold", THRESHOLDS, ids=repr)
def test_networks__say_how_they_were_made_and_what_that_rests_on(threshold, components):
    attrs = networks(components, threshold).attrs
    assert (attrs["kind"], attrs["control"]) == ("mask", repr(threshold))
    assert attrs["assumption"] and attrs["actome"]


def test_networks__of_subjects_are_those_of_each_alone(components):
    both = xr.concat([components["component_map"], -components["component_map"]], "subject")
    masks = networks(both.to_dataset(name="component_map"), Z(1.5))
    assert masks.dims == ("subject", "network", "layer", "neuron")
    for subject, sign in enumerate((1, -1)):
        alone = networks(sign * components[["component_map"]], Z(1.5))
        assert (masks[subject].to_numpy() == alone.to_numpy()).all()


def test_networks__are_only_the_components_that_beat_the_null(components):
    judged = components.assign(is_network=("component", [True, False, True]))
    assert networks(judged)["network"].to_numpy().tolist() == ["ic0", "ic2"]
    assert networks(judged, keep_all=True)["network"].to_numpy().tolist() == ["ic0", "ic1", "ic2"]
    none = networks(components.assign(is_network=("component", [False] * 3)), Top(0.1))
    assert none.shape == (0, 2, 40)


def test_networks__say_whether_components_were_compared_with_chance(components):
    judged = components.assign(is_network=("component", [True, False, True]))
    assert networks(judged).attrs["components"] == "those that beat the null"
    assert networks(judged, keep_all=True).attrs["components"].startswith("all, those too")
    assert networks(components).attrs["components"] == "all; none was compared with chance"


def test_networks__of_subjects_were_selected_on_their_prompts_too(components):
    own = components.expand_dims(subject=["p0", "p1"]).assign_coords(prompt=["p0", "p1"])
    own = own.assign(time_course=(("prompt",), [0.0, 0.0]))
    assert networks(own).attrs["selected_on"] == ["p0", "p1"]
    assert "selected_on" not in networks(own.drop_attrs()).attrs


def test_networks__are_called_as_their_components(components):
    named = components.assign_coords(component=["syntax", "names", "code"])
    assert networks(named)["network"].to_numpy().tolist() == ["syntax", "names", "code"]


@pytest.mark.parametrize("threshold", [P(0.01), 3.6, None])
def test_networks__refuse_another_threshold(threshold, components):
    message = r"threshold must be Z\(...\), Top\(...\), OfMaximum\(...\) or Mixture\(...\), got"
    with pytest.raises(ValueError, match=message) as caught:
        networks(components, threshold)
    assert isinstance(caught.value, ActomeError)


def test_networks__refuse_a_mixture_of_few_neurons(components):
    with pytest.raises(ValueError, match=r"a mixture needs 40 neurons at least, got 38"):
        networks(components.isel(neuron=slice(19)), Mixture(2))


def test_networks__refuse_what_is_no_component(components):
    for wrong in (components["component_map"], components.rename(component_map="map")):
        with pytest.raises(TypeError, match=r"takes components from actome\.group_ica"):
            networks(wrong)


@pytest.fixture
def masks(tiny, rng):
    return xr.DataArray(
        rng.random((2, 2, 6)) < 0.5,
        dims=("network", "layer", "neuron"),
        coords={"network": ["n0", "n1"], "layer": tiny["layer"], "neuron": tiny["neuron"]},
    )


def test_expression__is_the_mean_z_of_the_networks_neurons(tiny, masks):
    means = np.abs(tiny["activation"]).astype(float).mean("token").to_numpy().reshape(12, -1)
    z = scipy.stats.zscore(means, axis=0)
    expected = [z[:, m.ravel()].mean(axis=1) for m in masks.to_numpy()]
    for ds in (tiny, prompt_level(tiny), tiny.chunk(prompt=5, layer=1)):
        np.testing.assert_allclose(expression(ds, masks), expected, rtol=1e-5, atol=1e-6)


def test_expression__computes_nothing(tiny, masks, raise_if_computes):
    with raise_if_computes():
        used = expression(tiny.assign(activation=tiny["activation"].variable.chunk(prompt=4)), masks)
    assert dask.is_dask_collection(used)


def test_expression__is_nan_for_an_empty_network_and_an_empty_prompt(tiny, masks):
    masks = masks.copy()
    masks[0] = False
    tiny["token_id"][{"prompt": 3}] = -1
    tiny["activation"][{"prompt": 3}] = np.nan
    used = expression(tiny, masks).to_numpy()
    assert np.isnan(used[0]).all()
    assert np.flatnonzero(np.isnan(used[1])).tolist() == [3]
    others = [i for i in range(12) if i != 3]
    np.testing.assert_allclose(used[1, others], expression(tiny.isel(prompt=others), masks)[1], rtol=1e-9)


def test_expression__takes_a_neuron_that_never_varies_as_zero(tiny, masks):
    tiny["activation"] = tiny["activation"].astype(float)
    valid = (tiny["token_id"] != -1).to_numpy()
    tiny["activation"].to_numpy()[..., 0, 0] = np.where(valid, 0.1, np.nan)
    only = xr.zeros_like(masks)
    only[:, 0, 0] = True
    assert (expression(tiny, only) == 0).all()


def test_expression__refuses_masks_of_other_neurons(tiny, masks):
    with pytest.raises(
        ValueError, match="the masks and the recording differ in layer: 2 and 2 of them, or others"
    ):
        expression(tiny, masks.assign_coords(layer=[1, 2]))
    with pytest.raises(ValueError, match="differ in neuron: 5 and 6"):
        expression(tiny, masks.isel(neuron=slice(5)))
