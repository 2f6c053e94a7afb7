"""Scoring under lesions: the planted network must hurt its condition and no other."""

import numpy as np
import pytest
import xarray as xr

import actome
from actome.ingest.phantom import phantom_model
from actome.store.errors import InputError, InputTypeError


def test_score__masks_that_do_not_say_what_selected_them_give_a_warning(model, phantom, masks, tmp_path):
    with pytest.warns(UserWarning, match="do not say which prompts selected them"):
        actome.score(model, phantom.paradigm, tmp_path / "s.zarr", masks.drop_attrs(), controls=0)


def test_score__logprob_is_that_of_the_lesioned_model(model, phantom, masks, tmp_path):
    scores = actome.score(model, phantom.paradigm, tmp_path / "s.zarr", masks, controls=1)
    for lesion in scores["lesion"].values:
        one = scores.sel(lesion=lesion)
        with actome.lesion(model, one["network"].values):
            expected = actome.record(
                model, phantom.paradigm, tmp_path / f"{str(lesion).replace('/', '-')}.zarr"
            )
        np.testing.assert_allclose(one.logprob, expected.logprob, atol=1e-5)


def test_score__the_planted_network_hurts_its_condition_and_no_other(model, phantom, masks, tmp_path):
    reference = actome.record(model, phantom.paradigm, tmp_path / "r.zarr")
    scores = actome.score(
        model, phantom.paradigm, tmp_path / "s.zarr", masks, reference=reference, controls=3
    )
    effect = actome.lesion_effects(scores)["effect"]
    assert (
        float(effect.sel(network="a", condition="a")) > 1
        and float(effect.sel(network="b", condition="b")) > 1
    )
    assert abs(float(effect.sel(network="a", condition="b"))) < 1e-3
    assert abs(float(effect.sel(network="b", condition="a"))) < 1e-3


def test_score__the_glm_finds_the_planted_networks_on_other_prompts(model, phantom, tmp_path):
    """The whole chain on known truth: record, contrast, threshold, lesion."""
    ds = actome.record(model, phantom.paradigm, tmp_path / "r.zarr")
    train = ds.isel(prompt=np.flatnonzero(ds.run < 2))
    contrast = actome.compute_contrast(actome.fit_glm(train), "a - b")
    mask = actome.threshold(contrast, control="bonferroni")
    # a word that few prompts hold is missed; unplanted neurons see other words in "a" and may differ too
    assert mask.values[phantom.networks[0]].mean() > 0.8
    assert not mask.values[phantom.networks[1]].any()
    scores = actome.score(model, phantom.paradigm, tmp_path / "s.zarr", mask, controls=0)
    assert set(scores["prompt"].values) == set(ds["prompt"].values) - set(train["prompt"].values)
    effect = actome.lesion_effects(scores)["effect"].isel(network=0)
    assert float(effect.sel(condition="a")) > 0.8 > 0.05 > abs(float(effect.sel(condition="b")))


def test_score__same_call_opens_what_is_there_another_is_refused(model, phantom, masks, tmp_path):
    first = actome.score(model, phantom.paradigm, tmp_path / "s.zarr", masks, controls=1)
    again = actome.score(model, phantom.paradigm, tmp_path / "s.zarr", masks, controls=1)
    xr.testing.assert_identical(first.compute(), again.compute())
    with pytest.raises(InputError, match="holds other scores"):
        actome.score(model, phantom.paradigm, tmp_path / "s.zarr", masks, controls=2)


def test_score__bad_input_is_refused_before_anything_is_written(model, phantom, masks, tmp_path):
    out = tmp_path / "s.zarr"
    with pytest.raises(InputTypeError, match="bool DataArray"):
        actome.score(model, phantom.paradigm, out, masks.astype(int))
    with pytest.raises(InputError, match="controls must be at least 0"):
        actome.score(model, phantom.paradigm, out, masks, controls=-1)
    with pytest.raises(InputError, match="every prompt of the paradigm took part"):
        selected = masks.assign_attrs(selected_on=phantom.paradigm.table["prompt"].tolist())
        actome.score(model, phantom.paradigm, out, selected)
    with pytest.raises(InputError, match="neurons up to 63"):
        actome.score(model, phantom.paradigm, out, masks.assign_coords(layer=[1, 2, 3]))
    assert not out.exists()


def test_score__masks_count_by_their_numbers_not_by_the_order_of_their_dimensions(
    model, phantom, masks, tmp_path
):
    first = actome.score(model, phantom.paradigm, tmp_path / "s.zarr", masks, controls=0)
    turned = masks.transpose("neuron", "network", "layer").isel(neuron=slice(None, None, -1))
    again = actome.score(model, phantom.paradigm, tmp_path / "s.zarr", turned, controls=0)
    xr.testing.assert_identical(first.compute(), again.compute())


def test_score__the_same_pattern_in_other_layers_is_not_taken_for_the_first(model, phantom, masks, tmp_path):
    part = masks.isel(layer=[0, 1])
    actome.score(model, phantom.paradigm, tmp_path / "s.zarr", part, controls=0)
    with pytest.raises(InputError, match="holds other scores"):
        moved = part.assign_coords(layer=[1, 2])
        actome.score(model, phantom.paradigm, tmp_path / "s.zarr", moved, controls=0)


def test_score__other_prompts_of_the_reference_are_another_call(model, phantom, masks, tmp_path):
    ds = actome.record(model, phantom.paradigm, tmp_path / "r.zarr")
    actome.score(model, phantom.paradigm, tmp_path / "s.zarr", masks, controls=1, reference=ds)
    with pytest.raises(InputError, match="holds other scores"):
        half = ds.isel(prompt=slice(0, 12))
        actome.score(model, phantom.paradigm, tmp_path / "s.zarr", masks, controls=1, reference=half)


@pytest.mark.parametrize("kind", ["mean", "resample"])
def test_score__a_reference_that_was_changed_is_another_call(model, phantom, masks, tmp_path, kind):
    """Its digest and its prompts are the same, or it has no digest."""
    few = phantom.paradigm.select(run=0)
    ds = actome.record(model, few, tmp_path / "r.zarr", index=False)
    for name, first in (("recording", ds), ("memory", ds.load().drop_attrs())):
        options = {"kind": kind, "controls": 0}
        out = tmp_path / f"{name}.zarr"
        scores = actome.score(model, few, out, masks, reference=first, **options)
        again = actome.score(model, few, out, masks, reference=first.copy(deep=True), **options)
        xr.testing.assert_identical(again.compute(), scores.compute())
        doubled = first.assign(activation=first["activation"] * 2)
        for changed in (first.isel(token=slice(0, 2)), doubled):
            with pytest.raises(InputError, match=r"holds other scores \(reference_values_digest"):
                actome.score(model, few, out, masks, reference=changed, **options)


def test_score__one_selected_network_keeps_its_name(model, phantom, masks, tmp_path):
    scores = actome.score(model, phantom.paradigm, tmp_path / "s.zarr", masks.sel(network="b"), controls=0)
    assert scores["lesion"].values.tolist() == ["baseline", "b/target"]


def test_score__names_used_twice_negative_seeds_and_taken_folders_are_refused(
    model, phantom, masks, tmp_path
):
    (tmp_path / "notes.txt").write_text("kept")
    for out, given, seed, message in (
        ("s.zarr", masks.assign_coords(network=["a", "a"]), 0, "names of the networks must differ"),
        ("s.zarr", masks, -1, "seed must be at least 0"),
        (".", masks, 0, "a folder with other files"),
    ):
        with pytest.raises(InputError, match=message):
            actome.score(model, phantom.paradigm, tmp_path / out, given, controls=0, seed=seed)


def test_score__the_training_mode_of_a_loaded_module_is_put_back(masks, tmp_path):
    other = phantom_model()
    other.module.train()
    actome.score((other.module, other.tokenizer), other.paradigm, tmp_path / "s.zarr", masks, controls=0)
    assert all(m.training for m in other.module.modules())


def test_score__networks_of_another_site_are_refused(model, phantom, tmp_path):
    """Numbers alone would fit: the residual stream is narrower than the hidden layer."""
    ds = actome.record(model, phantom.paradigm, tmp_path / "r.zarr", sites=["residual"], dtype="float32")
    train = ds.isel(prompt=np.flatnonzero(ds.run < 2))
    glm = actome.threshold(actome.compute_contrast(actome.fit_glm(train), "a - b"))
    ica = actome.networks(actome.group_ica(train, n_components=2, n_runs=1), actome.Z(1.5))
    for masks in (glm, ica):
        with pytest.raises(InputError, match="the mask is of the site 'residual', the lesion of 'mlp'"):
            actome.score(model, phantom.paradigm, tmp_path / "s.zarr", masks, controls=0)
        out = tmp_path / f"{masks.ndim}.zarr"
        actome.score(model, phantom.paradigm, out, masks, site="residual", controls=0)


def test_score__texts_without_a_second_token_are_refused(model, masks, tmp_path):
    short = actome.Paradigm([{"text": "a1"}, {"text": "b1"}])
    with pytest.raises(InputError, match="no prompt has a second token"):
        actome.score(model, short, tmp_path / "s.zarr", masks, controls=0)
