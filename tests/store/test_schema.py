import re

import numpy as np
import pytest
import xarray as xr

from actome.store import schema


def test_breaches__none_in_a_sound_dataset(tiny):
    assert schema.breaches(tiny) == []


def test_breaches__labels_and_numbers_may_be_missing(tiny):
    bare = tiny[["activation"]].drop_vars(["layer", "neuron", "prompt"]).reset_coords(drop=True)
    assert schema.breaches(bare) == []


@pytest.mark.parametrize(
    ("change", "breach"),
    [
        (lambda ds: ds.drop_vars("activation"), "activation is missing"),
        (lambda ds: ds.transpose("token", "prompt", ...), r"activation must have dims \('prompt', 'token'"),
        (
            lambda ds: ds.assign(activation=ds.activation.fillna(0).astype(int)),
            "activation must be float16 or float32",
        ),
        (lambda ds: ds.assign_coords(layer=[0.5, 1.5]), "layer must be int64 or int32, got float64"),
        (
            lambda ds: ds.assign_coords(condition=("prompt", np.arange(12))),
            "condition must be str, got int64",
        ),
        (lambda ds: ds.assign_coords(run=0), r"run must have dims \('prompt',\), got \(\)"),
        (lambda ds: ds.assign_coords(prompt=["p"] * 12), "prompt ids must be unique"),
        (lambda ds: ds.isel(prompt=slice(0)), "there is nothing along 'prompt'"),
        (lambda ds: ds.isel(neuron=slice(0)), "there is nothing along 'neuron'"),
    ],
)
def test_breaches__names_what_is_wrong(tiny, change, breach):
    lines = schema.breaches(change(tiny))
    assert [line for line in lines if re.search(breach, line)], lines


def test_breaches__numbers_as_ids_are_allowed(tiny):
    assert schema.breaches(tiny.assign_coords(prompt=np.arange(12))) == []


@pytest.mark.parametrize(
    ("dtype", "declared", "fits"),
    [("O", ("str",), True), ("U3", ("str",), True), ("f4", ("float32",), True), ("f4", ("float64",), False),
     ("O", ("int64",), False), ("bool", ("bool",), True)],
)  # fmt: skip
def test_variable_matches__by_name_or_as_text(dtype, declared, fits):
    assert schema.Variable("x", ("prompt",), declared, "", 0).matches(np.dtype(dtype)) is fits


def test_breaches_of__prefixes_the_group():
    lines = schema.breaches_of(xr.Dataset(), schema.SUMMARY, "mlp/summary/")
    assert lines == [f"mlp/summary/{n} is missing" for n in ("count", "mean", "m2", "mean_abs")]
