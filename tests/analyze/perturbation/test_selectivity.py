"""Selectivity: recovered where planted, never chosen on the prompts it is judged on, calibrated."""

import numpy as np
import pytest

from actome.analyze.perturbation.effects import lesion_effects
from actome.analyze.perturbation.measures import measure
from actome.analyze.perturbation.selectivity import halves

from .synthetic import make_scores

THREE = ("en", "fr", "de")


def of(scores, **options):
    names = ["selectivity", "selectivity_low", "selectivity_high", "selectivity_p", "own", "own_given"]
    return lesion_effects(scores, n_bootstrap=options.pop("n_bootstrap", 200), **options)[names]


def test_selectivity__of_a_network_named_like_a_condition_is_its_effect_less_the_others(rng):
    scores = make_scores(rng, targets=THREE, conditions=THREE, own=0.5, n_prompts=30, draws=9)
    result, effect = of(scores), lesion_effects(scores, n_bootstrap=1)["effect"]
    for name in THREE:
        row = effect.sel(network=name)
        expected = row.sel(condition=name) - row.drop_sel(condition=name).mean()
        assert result["selectivity"].sel(network=name).item() == pytest.approx(expected.item())
    assert result["own"].values.tolist() == list(THREE) and result["own_given"].all()
    assert (result["selectivity_p"] == 0.1).all()
    assert (abs(result["selectivity"] - 0.5) < 0.1).all()
    assert (result["selectivity_low"] < result["selectivity"]).all()
    assert (result["selectivity_low"] > 0.3).all() and (result["selectivity_high"] < 0.7).all()


def test_selectivity__of_other_networks_is_chosen_on_the_other_half(rng):
    scores = make_scores(rng, targets=("fr x", "en y"), conditions=THREE, own=0.5, n_prompts=30, draws=9)
    result = of(scores)
    assert result["own"].values.tolist() == ["fr", "en"] and not result["own_given"].any()
    assert (result["selectivity_p"] == 0.1).all() and (abs(result["selectivity"] - 0.5) < 0.15).all()
    given = of(scores, own={"fr x": "fr", "en y": "de"})
    assert given["own"].values.tolist() == ["fr", "de"] and given["own_given"].all()
    assert given["selectivity"][0] > 0.3 > 0 > given["selectivity"][1]


def test_selectivity__that_is_chosen_has_no_bias_where_there_is_none(rng):
    """The condition hit hardest by chance looks selective on the prompts that chose it, not on others."""
    scores = make_scores(
        rng,
        targets=tuple(f"n{i}" for i in range(300)),
        conditions=THREE,
        n_prompts=18,
        draws=0,
        prompt_sd=0.5,
    )
    result = of(scores, n_bootstrap=100)
    mean = result["selectivity"].mean().item()
    error = result["selectivity"].std().item() / np.sqrt(300)
    assert abs(mean) < 3 * error
    effect = lesion_effects(scores, n_bootstrap=1)["effect"].values
    naive = effect.max(axis=1) - (effect.sum(axis=1) - effect.max(axis=1)) / 2
    assert naive.mean() > 10 * error
    assert (result["own"] == "").mean() > 0.4  # the halves disagree where there is nothing to find


@pytest.mark.parametrize("named", [True, False])
def test_selectivity__p_of_a_null_is_uniform(named, rng):
    targets = tuple(f"n{i}" for i in range(300))
    scores = make_scores(rng, targets=targets, conditions=THREE, n_prompts=9, draws=9)
    own = dict.fromkeys(targets, "fr") if named else None
    p = of(scores, own=own, n_bootstrap=1)["selectivity_p"].values
    for alpha in (0.1, 0.2, 0.5):
        assert abs((p <= alpha + 1e-9).mean() - alpha) < 3 * np.sqrt(alpha * (1 - alpha) / len(p))


@pytest.mark.parametrize("how", ["given", "chosen"])
def test_selectivity__interval_covers_the_planted_one(how, rng):
    targets = tuple(f"fr {i}" for i in range(200))
    scores = make_scores(
        rng, targets=targets, conditions=THREE, n_prompts=36, draws=0, own=0.6, prompt_sd=0.3
    )
    own = dict.fromkeys(targets, "fr") if how == "given" else None
    result = of(scores, own=own, n_bootstrap=400)
    inside = (result["selectivity_low"] <= 0.6) & (result["selectivity_high"] >= 0.6)
    assert 0.9 <= inside.mean() <= 0.99


def test_selectivity__does_not_depend_on_the_order_of_prompts_and_lesions(rng):
    scores = make_scores(rng, targets=("fr x", "y"), conditions=THREE, n_prompts=15)
    expected = of(scores)
    turned = of(scores.isel(prompt=rng.permutation(15), lesion=rng.permutation(11))).sel(
        network=["fr x", "y"]
    )
    for name in expected:
        if name != "own":
            np.testing.assert_allclose(turned[name], expected[name], rtol=1e-12)
    assert turned["own"].values.tolist() == expected["own"].values.tolist()


def test_selectivity__needs_a_second_condition(rng):
    result = of(make_scores(rng, targets=("en", "n"), conditions=("en",)))
    assert result["selectivity"].isnull().all() and result["selectivity_p"].isnull().all()


def test_selectivity__unknown_names_are_refused(rng):
    scores = make_scores(rng)
    with pytest.raises(ValueError, match=r"own names the condition 'it'; there are \['en', 'fr'\]"):
        of(scores, own={"fr net": "it"})
    with pytest.raises(ValueError, match="own names the network 'it net'"):
        of(scores, own={"it net": "fr"})


def test_selectivity__halves_are_resampled_independently(rng):
    """Prompts of one half that mirror those of the other would cancel if both had the same resamples."""
    scores = make_scores(rng, targets=("n",), n_prompts=40, draws=0, own=0.0)
    measured = measure(scores, "loss", "condition", 0)
    first = halves(measured, 0)[0]
    change = np.zeros((2, 40))
    for v, base in ((0, 3.0), (1, 0.0)):  # the first condition suffers most
        a, b = (np.flatnonzero((measured.code == v) & part) for part in (first, ~first))
        noise = rng.permutation(np.resize([1.0, -1.0], len(a)))
        change[1, a], change[1, b] = base + noise, base - noise
    scored = scores.drop_vars("logprob").assign(logprob=(("lesion", "prompt"), -change))
    result = of(scored, n_bootstrap=2000)
    width = (result["selectivity_high"] - result["selectivity_low"]).item()
    half = 1.96 * np.sqrt(1 / 10)  # two halves of ten prompts in each of two conditions, each of variance one
    assert 1 < width / (2 * half) < 1.4  # widened for few prompts


def test_selectivity__of_conditions_with_one_prompt_or_none_is_nan(rng):
    scores = make_scores(rng, targets=("en", "n"), conditions=THREE, n_prompts=3)
    result = of(scores)  # given: one prompt each; chosen: one half has none
    assert result["selectivity"].notnull().values.tolist() == [True, False]
    assert result["selectivity_low"].isnull().all() and result["own"].values.tolist() == ["en", ""]
    silent = scores.where(scores["condition"] != "en", drop=False).assign(network=scores["network"])
    assert of(silent)["selectivity"].isnull().all()
