"""Which neurons a mask means, in each form that it may have."""

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from actome.ingest.lesions.masks import full_mask, read_mask
from actome.store.errors import InputError, InputTypeError
from actome.store.results import save_result

SHAPE = (3, 8)


@pytest.fixture
def mask(rng):
    return rng.random(SHAPE) < 0.4


def labelled(mask):
    coords = {d: range(n) for d, n in zip(("layer", "neuron"), mask.shape, strict=True)}
    return xr.DataArray(
        mask, dims=("layer", "neuron"), coords=coords, name="mask", attrs={"selected_on": ["p"]}
    )


def test_full_mask__every_form_of_the_same_neurons_is_the_same(mask, tmp_path):
    save_result(labelled(mask), tmp_path / "m.zarr")
    layer, neuron = np.nonzero(mask)
    forms = [
        mask,
        labelled(mask),
        labelled(mask).transpose("neuron", "layer").isel(layer=[2, 0, 1]),
        pd.DataFrame({"layer": layer, "neuron": neuron, "d_prime": 1.0}),
        str(tmp_path / "m.zarr"),
        tmp_path / "m.zarr",
        lambda layers, neurons: mask[layers, neurons],
    ]
    for form in forms:
        np.testing.assert_array_equal(full_mask(form, *SHAPE, "mlp"), mask)


def test_full_mask__a_rule_may_speak_of_layers_alone():
    expected = np.zeros(SHAPE, dtype=bool)
    expected[1:] = True
    np.testing.assert_array_equal(full_mask(lambda layers, neurons: layers >= 1, *SHAPE, "mlp"), expected)


@pytest.mark.parametrize(
    ("form", "error", "message"),
    [
        (lambda layers, neurons: layers, InputTypeError, "must give bool, got int64"),
        (
            lambda layers, neurons: np.ones((2, 2), bool),
            InputError,
            r"gave shape \(2, 2\), expected \(3, 8\)",
        ),
        (pd.DataFrame({"layer": [0]}), InputError, "needs the columns layer and neuron"),
        (pd.DataFrame({"layer": [0.5], "neuron": [1]}), InputTypeError, "whole numbers"),
        (pd.DataFrame({"layer": [3], "neuron": [1]}), InputError, "layers up to 3 and neurons up to 1"),
        (pd.DataFrame({"layer": [-1], "neuron": [1]}), InputError, "negative"),
        (5, InputTypeError, "a table, a path or a rule, got int"),
    ],
)
def test_full_mask__what_is_none_is_refused(form, error, message):
    with pytest.raises(error, match=message):
        full_mask(form, *SHAPE, "mlp")


def test_read_mask__keeps_what_the_result_says_of_its_selection(mask, tmp_path):
    save_result(labelled(mask), tmp_path / "m.zarr")
    assert read_mask(tmp_path / "m.zarr").attrs["selected_on"] == ["p"]
    save_result(xr.Dataset({"a": labelled(mask), "b": labelled(mask)}), tmp_path / "two.zarr")
    with pytest.raises(InputError, match="holds 2 masks"):
        read_mask(tmp_path / "two.zarr")
