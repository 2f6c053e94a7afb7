"""Dose-response: planted slopes recovered, calibrated, and the same as of each dose alone."""

import numpy as np
import pytest
import xarray as xr

from actome.analyze.perturbation.doses import amplification, dose_response
from actome.analyze.perturbation.effects import lesion_effects

from .synthetic import make_scores

DOSES = [0.5, 1.0, 2.0]


def test_dose_response__is_that_of_each_dose(rng):
    scores = make_scores(rng, doses=DOSES, effect=0.2, n_prompts=20, kind="noise")
    result = dose_response(scores, n_bootstrap=200)
    for dose in DOSES:
        one = lesion_effects(scores, dose=dose, n_bootstrap=200)
        for name in ("effect", "low", "high", "p_value", "control"):
            np.testing.assert_allclose(result[name].sel(dose=dose), one[name], rtol=1e-12)
    assert result.attrs["kind"] == "dose_response" and result.attrs["lesion"] == "noise"


def test_dose_response__slope_is_least_squares_through_no_effect(rng):
    scores = make_scores(rng, doses=DOSES, effect=0.2, kind="add")
    result = dose_response(scores, n_bootstrap=200)
    for name in result["network"].values:
        for condition in result["condition"].values:
            effect = result["effect"].sel(network=name, condition=condition).values
            expected = np.linalg.lstsq(np.array(DOSES)[:, None], effect, rcond=None)[0].item()
            found = result["slope"].sel(network=name, condition=condition).item()
            assert found == pytest.approx(expected)


def test_dose_response__a_planted_slope_is_recovered_for_its_condition_alone(rng):
    scores = make_scores(rng, doses=DOSES, own=0.4, n_prompts=40, draws=9, kind="add")
    result = dose_response(scores, n_bootstrap=400)
    own = [result.sel(network=f"{c} net", condition=c) for c in ("fr", "en")]
    for one in own:
        assert abs(one["slope"] - 0.4) < 0.05 and one["slope_p"] == 0.1
        assert 0.33 < one["slope_low"] < one["slope"] < one["slope_high"] < 0.47
        assert (one["effect"].diff("dose") > 0).all()
    other = result.sel(network="fr net", condition="en")
    assert abs(other["slope"]) < 0.05


def test_dose_response__p_of_a_null_slope_is_uniform(rng):
    targets = tuple(f"n{i}" for i in range(200))
    scores = make_scores(rng, doses=DOSES, targets=targets, draws=9, n_prompts=6, kind="add")
    p = dose_response(scores, n_bootstrap=1)["slope_p"].sel(condition="fr").values
    for alpha in (0.1, 0.2, 0.5):
        assert abs((p <= alpha + 1e-9).mean() - alpha) < 3 * np.sqrt(alpha * (1 - alpha) / len(p))


def test_amplification__counts_gains_from_one(rng):
    scores = make_scores(rng, doses=[1.5, 3.0], kind="scale")
    result = amplification(scores, n_bootstrap=20)
    effect = result["effect"]
    expected = (0.5 * effect.sel(dose=1.5) + 2 * effect.sel(dose=3.0)) / (0.25 + 4)
    np.testing.assert_allclose(result["slope"], expected)
    assert result.attrs["kind"] == "amplification" and result.attrs["neutral"] == 1.0


def test_dose_response__refuses(rng):
    with pytest.raises(ValueError, match=r"needs scores of two doses at least, got \[2.0\]"):
        dose_response(make_scores(rng, doses=[2.0]))
    with pytest.raises(ValueError, match="needs scores of two doses"):
        dose_response(make_scores(rng))
    with pytest.raises(ValueError, match="of the kinds 'scale' and 'add', got 'zero'"):
        amplification(make_scores(rng, doses=DOSES))
    with pytest.raises(ValueError, match="with keep_only=True all others were: use dose_response"):
        amplification(make_scores(rng, doses=DOSES, kind="scale", keep_only=True))
    scores = make_scores(rng, doses=DOSES)
    last = scores.isel(lesion=slice(None, -1))
    with pytest.raises(ValueError, match="different numbers of controls"):
        dose_response(last)
    fewer = scores.isel(lesion=np.flatnonzero((scores["dose"] != 2.0) | (scores["target"] != "en net")))
    with pytest.raises(ValueError, match="not every network and control was scored at every dose"):
        dose_response(fewer)
    role, draw = scores["role"] == "control", scores["draw"]
    gone = role & (draw == xr.where(scores["dose"] == 2.0, 3, 0))
    with pytest.raises(ValueError, match="not every network and control was scored at every dose"):
        dose_response(scores.isel(lesion=np.flatnonzero(~gone)))
    with pytest.raises(TypeError, match="dose_response takes scores"):
        dose_response(scores["logprob"])


def test_dose_response__does_not_depend_on_the_order_of_prompts_and_lesions(rng):
    scores = make_scores(rng, doses=DOSES, own=0.4, kind="add")
    expected = dose_response(scores, n_bootstrap=50)
    turned = scores.isel(prompt=rng.permutation(12), lesion=rng.permutation(scores.sizes["lesion"]))
    turned = dose_response(turned.chunk(lesion=4), n_bootstrap=50).sel(network=expected["network"])
    for name in expected:
        np.testing.assert_allclose(turned[name], expected[name], rtol=1e-12)


def test_dose_response__counts_the_distance_from_no_change_on_both_sides(rng):
    """Silencing by degrees: the less is left, the more it hurts."""
    scores = make_scores(rng, doses=[0.25, 0.5, 0.75], own=0.4, n_prompts=40, draws=9, kind="scale")
    gains = dose_response(scores.assign_coords(dose=1 - scores["dose"]), n_bootstrap=20)
    distances = dose_response(scores.assign_attrs(inputs={"kind": "add"}), n_bootstrap=20)
    assert gains["dose"].values.tolist() == [0.25, 0.5, 0.75]
    for name in ("slope", "slope_low", "slope_p"):
        np.testing.assert_allclose(gains[name], distances[name])
    assert (gains["slope_p"].sel(network="fr net", condition="fr") == 0.1).all()


@pytest.mark.parametrize(
    "settings", [{"kind": "noise", "reference": {"recording": "sha256:1"}}, {"kind": ""}]
)
def test_dose_response__without_a_neutral_dose_the_line_has_an_intercept(rng, settings):
    scores = make_scores(rng, doses=[0.0, 1.0, 2.0], effect=0.2, **settings)
    at = scores["role"] == "target"
    scores["logprob"] = scores["logprob"] - xr.where(at, 3.0, 0.0)  # the mean lesion, at every dose
    result = dose_response(scores, n_bootstrap=50)
    assert "neutral" not in result.attrs and (result["effect"].sel(dose=0.0) > 2.5).all()
    for name in result["network"].values:
        for condition in result["condition"].values:
            one = result.sel(network=name, condition=condition)
            assert one["slope"].item() == pytest.approx(np.polyfit(one["dose"], one["effect"], 1)[0])
    assert (abs(result["slope"] - 0.2) < 0.1).all()


def test_dose_response__of_kept_networks_asks_for_little_harm(rng):
    scores = make_scores(rng, doses=DOSES, effect=-0.5, n_prompts=20, draws=9, kind="noise", keep_only=True)
    kept = dose_response(scores, n_bootstrap=20)
    lesioned = dose_response(scores.assign_attrs(inputs={"kind": "noise"}), n_bootstrap=20)
    assert (kept["p_value"] == 0.1).all() and (kept["slope_p"] == 0.1).all()
    assert (lesioned["p_value"] == 1.0).all() and (lesioned["slope_p"] == 1.0).all()
    np.testing.assert_allclose(kept["slope"], lesioned["slope"])


def test_dose_response__interval_covers_the_planted_slope(rng):
    targets = tuple(f"n{i}" for i in range(200))
    scores = make_scores(
        rng, doses=DOSES, targets=targets, draws=0, n_prompts=16, effect=0.3, prompt_sd=0.4, kind="add"
    )
    result = dose_response(scores, n_bootstrap=400)
    inside = (result["slope_low"] <= 0.3) & (result["slope_high"] >= 0.3)
    assert 0.9 <= inside.mean() <= 0.985
