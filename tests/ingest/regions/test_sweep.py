"""Sweeps of single parameters, rows and columns, against weights changed by hand."""

import numpy as np
import pytest
import torch
import xarray as xr

from actome.ingest.identity import weights_digest
from actome.ingest.regions.losses import scorable_tokens, score_all
from actome.ingest.regions.sweep import sweep
from actome.store.errors import InputError, InputTypeError

NAME = "model.layers.0.mlp.down_proj.weight"


def places(rows, columns, tensors=NAME, selected_on=()):
    names = [tensors] * len(rows) if isinstance(tensors, str) else tensors
    columns_of = {"tensor": np.array(names, dtype=object), "row": list(rows), "column": list(columns)}
    return xr.Dataset(
        {k: ("place", v) for k, v in columns_of.items()}, attrs={"selected_on": list(selected_on)}
    )


def test_sweep__losses_are_those_of_weights_changed_by_hand(loaded, phantom, tmp_path):
    few, digest = phantom.paradigm.select(run=0), weights_digest(phantom.module)
    swept = sweep(loaded, few, tmp_path / "w.zarr", places([3, 4, -1], [5, -1, 6]), factors=(0, 10))
    assert weights_digest(phantom.module) == digest
    tokens = scorable_tokens(loaded, few)
    weight = phantom.module.get_parameter(NAME)
    kept = weight.detach().clone()
    for i, where in enumerate([(3, 5), (4, slice(None)), (slice(None), 6)]):
        for factor in (0, 10):
            with torch.no_grad():
                weight[where] *= factor
            expected = -np.nansum(score_all(loaded, tokens).astype(float), axis=1)
            found = swept["loss"].isel(place=i).sel(factor=factor)
            np.testing.assert_allclose(found, expected, rtol=1e-12)
            with torch.no_grad():
                weight.copy_(kept)
    np.testing.assert_allclose(
        swept["loss_baseline"], -np.nansum(score_all(loaded, tokens).astype(float), axis=1), rtol=1e-12
    )


def test_sweep__a_model_that_is_destroyed_has_no_loss(model, phantom, tmp_path):
    few = phantom.paradigm.select(run=0)
    swept = sweep(model, few, tmp_path / "w.zarr", places([-1], [-1]), factors=(float("inf"),))
    assert swept["loss"].isnull().all() and swept["loss_baseline"].notnull().all()


def test_sweep__same_call_opens_what_is_there_and_the_selecting_prompts_are_left_out(
    model, phantom, tmp_path
):
    ids = phantom.paradigm.table["prompt"].tolist()
    where = places([0], [0], selected_on=ids[:20])
    first = sweep(model, phantom.paradigm, tmp_path / "w.zarr", where)
    assert first["prompt"].values.tolist() == ids[20:]
    xr.testing.assert_identical(first, sweep(model, phantom.paradigm, tmp_path / "w.zarr", where))
    with pytest.raises(InputError, match="holds other sweeps"):
        sweep(model, phantom.paradigm, tmp_path / "w.zarr", where, factors=(2,))


def test_sweep__bad_input_is_refused(model, phantom, tmp_path):
    for where, options, error, message in (
        (xr.Dataset(), {}, InputTypeError, "tensor, row and column"),
        (places([0], [0], "x"), {}, InputError, "no weight tensor 'x'"),
        (places([50], [0]), {}, InputError, "50 rows and 64 columns"),
        (places([0], [0]), {"factors": ()}, InputError, "at least one number"),
        (places([0], [0]), {"factors": (2, 2.0)}, InputError, "each once"),
        (places([0], [0]), {"factors": ("much",)}, InputTypeError, "must be a number"),
    ):
        with pytest.raises(error, match=message):
            sweep(model, phantom.paradigm, tmp_path / "w.zarr", where, **options)
    assert not (tmp_path / "w.zarr").exists()
