"""The whole chain on a transformer whose truth is known: planted networks hurt their condition alone."""

import numpy as np
import pytest
import xarray as xr

import actome
from actome.analyze.perturbation.doses import dose_response
from actome.analyze.perturbation.effects import lesion_effects
from actome.analyze.perturbation.preservation import preservation
from actome.analyze.perturbation.series import unions
from actome.ingest.phantom import phantom_model


@pytest.fixture(scope="module")
def phantom():
    return phantom_model(n_neurons=200, n_prompts=24, seed=1)


@pytest.fixture(scope="module")
def model(phantom):
    return (phantom.module, phantom.tokenizer)


@pytest.fixture(scope="module")
def reference(model, phantom, tmp_path_factory):
    out = tmp_path_factory.mktemp("recording") / "r.zarr"
    return actome.record(model, phantom.paradigm, out, dtype="float32", progress=False)


def masks_of(arrays, names):
    dims = ("network", "layer", "neuron")
    coords = {"network": list(names), "layer": range(3), "neuron": range(arrays.shape[2])}
    return xr.DataArray(arrays, dims=dims, coords=coords, attrs={"selected_on": []})


def test_lesion_effects__the_planted_network_hurts_its_condition_and_no_other(model, phantom, tmp_path):
    masks = masks_of(phantom.networks, "ab")
    scores = actome.score(
        model, phantom.paradigm, tmp_path / "s.zarr", masks, controls=19, hits=True, kl=True, progress=False
    )
    result = lesion_effects(scores)
    for own, other in ("ab", "ba"):
        mine, others = (result.sel(network=own, condition=c) for c in (own, other))
        assert mine["low"] > 1 and mine["p_value"] == 0.05
        assert abs(others["effect"]) < 0.01 and others["high"] < 0.02
        # a control may hold a planted neuron or two, as its target is one of the draws
        assert abs(mine["control"]).median() < 0.05 * mine["effect"]
        assert abs(mine["control"]).max() < 0.5 * mine["effect"]
        assert result["selectivity_p"].sel(network=own) == 0.05
    assert (result["selectivity_low"] > 1).all()
    for metric, least in (("hit", 0.5), ("kl", 1.0)):
        other = lesion_effects(scores, metric=metric, n_bootstrap=20)
        own = other["effect"].sel(network="a")
        assert own.sel(condition="a") > least and abs(own.sel(condition="b")) < 0.01
        assert other["p_value"].sel(network="a", condition="a") == 0.05


@pytest.mark.slow
def test_lesion_effects__controls_matched_in_magnitude_hurt_far_less(model, phantom, reference, tmp_path):
    masks = masks_of(phantom.networks[:1], "a")
    scores = actome.score(
        model, phantom.paradigm, tmp_path / "s.zarr", masks, reference=reference, controls=99, progress=False
    )
    result = lesion_effects(scores).sel(network="a")
    assert result["p_value"].sel(condition="a") == 0.01
    control = result["control"].sel(condition="a")
    planted = (scores["shared"].max(), scores["shared"].mean())  # the planted neurons are the most active
    assert planted[0] < 0.5 and planted[1] < 0.25
    assert control.median() < 0.25 * result["effect"].sel(condition="a")


def test_dose_response__of_the_planted_network_rises_with_the_dose(model, phantom, tmp_path):
    masks = masks_of(phantom.networks[:1], "a")
    scores = actome.score(
        model,
        phantom.paradigm,
        tmp_path / "s.zarr",
        masks,
        kind="scale",
        amount=[0.15, 0.1, 0.05, 0.0],
        controls=4,
        progress=False,
    )
    result = dose_response(scores, n_bootstrap=200).sel(network="a")
    own, other = result.sel(condition="a"), result.sel(condition="b")
    assert (own["effect"].diff("dose") < 0).all() and own["effect"].sel(dose=0.0) > 1
    assert (own["p_value"] == 0.2).all() and own["slope_p"] == 0.2 and own["slope_low"] > 0.5
    assert abs(other["effect"]).max() < 0.01 and abs(other["slope"]) < 0.01


@pytest.mark.parametrize(("kind", "neutral"), [("scale", 1.0), ("add", 0.0), ("noise", 0.0)])
def test_dose_response__the_neutral_dose_changes_nothing(model, phantom, tmp_path, kind, neutral):
    masks, few = masks_of(phantom.networks[:1], "a"), phantom.paradigm.select(run=0)
    scores = actome.score(
        model, few, tmp_path / "s.zarr", masks, kind=kind, amount=[neutral, 3.0], controls=1, progress=False
    )
    result = dose_response(scores, n_bootstrap=5)
    assert result.attrs["neutral"] == neutral
    assert abs(result["effect"].sel(dose=neutral)).max() < 1e-5
    assert abs(result["control"].sel(dose=neutral)).max() < 1e-5
    assert abs(result["effect"].sel(dose=3.0)).max() > 0.01


def test_dose_response__no_noise_around_the_means_is_the_mean_lesion(model, phantom, reference, tmp_path):
    masks, few = masks_of(phantom.networks[:1], "a"), phantom.paradigm.select(run=0)
    options = {"reference": reference, "controls": 1, "progress": False}
    noisy = actome.score(model, few, tmp_path / "n.zarr", masks, kind="noise", amount=[0.0, 1.0], **options)
    mean = actome.score(model, few, tmp_path / "m.zarr", masks, kind="mean", **options)
    result, expected = dose_response(noisy, n_bootstrap=5), lesion_effects(mean, n_bootstrap=5)
    none = result.sel(dose=0.0)
    np.testing.assert_allclose(none["effect"], expected["effect"], atol=1e-5)
    assert "neutral" not in result.attrs and none["effect"].sel(condition="a") > 1
    rise = result["effect"].sel(dose=1.0) - none["effect"]
    np.testing.assert_allclose(result["slope"], rise)


def test_preservation__needs_the_planted_networks_and_little_else(model, phantom, tmp_path):
    planted = masks_of(phantom.networks, "ab")
    series = unions(planted, [1, 2])
    scores = actome.score(
        model,
        phantom.paradigm,
        tmp_path / "s.zarr",
        series,
        keep_only=True,
        controls=9,
        progress=False,
    )
    result = preservation(scores, n_bootstrap=100)
    first, both = (result.sel(point=p) for p in ("first 1 network", "first 2 networks"))
    assert result["n_kept"].values.tolist() == [12, 24]
    assert abs(first["effect"].sel(condition="a")) < 0.05 and first["effect"].sel(condition="b") > 1
    assert (abs(both["effect"]) < 0.05).all() and (both["p_value"] == 0.1).all()
    assert (both["control"] > 1).all()


def random_masks(n):
    """Fifteen neurons each, wherever they are."""
    rng = np.random.default_rng(3)
    arrays = np.zeros((n, 3, 200), dtype=bool)
    for mask in arrays:
        mask.ravel()[rng.choice(600, 15, replace=False)] = True
    return masks_of(arrays, [f"n{i}" for i in range(n)])


def p_of_random_masks(model, phantom, out, n, reference=None):
    """p of random masks against 19 random controls, for each condition and for selectivity."""
    few = phantom.paradigm.select(run=0)
    scores = actome.score(model, few, out, random_masks(n), reference=reference, controls=19, progress=False)
    result = lesion_effects(scores, n_bootstrap=1)
    p = {c: result["p_value"].sel(condition=c).values for c in "ab"}
    return p | {"selectivity": result["selectivity_p"].values}


@pytest.mark.slow
def test_lesion_effects__p_of_random_masks_is_uniform(model, phantom, tmp_path):
    """Random masks against their random controls: false positives as often as they may be."""
    n = 150
    for what, p in p_of_random_masks(model, phantom, tmp_path / "s.zarr", n).items():
        for alpha in (0.05, 0.1, 0.2, 0.5):
            rate = (p <= alpha + 1e-9).mean()
            print(f"{what}: {rate:.3f} at {alpha}")
            assert abs(rate - alpha) < 3 * np.sqrt(alpha * (1 - alpha) / n)


@pytest.mark.slow
def test_lesion_effects__p_of_random_masks_is_right_where_magnitudes_are_matched(
    model, phantom, reference, tmp_path
):
    """The planted neurons are the most active of their layers; controls may contain the target's own."""
    n = 150
    for what, p in p_of_random_masks(model, phantom, tmp_path / "s.zarr", n, reference).items():
        for alpha in (0.05, 0.1, 0.5):
            rate = (p <= alpha + 1e-9).mean()
            print(f"{what}: {rate:.3f} at {alpha}")
            assert abs(rate - alpha) < 3 * np.sqrt(alpha * (1 - alpha) / n)
