"""The sections on lesions: the matrix with intervals, selectivity, doses, preservation, pruning."""

import sys

import numpy as np
import pytest
import xarray as xr

import actome
from actome.analyze.perturbation.doses import amplification, dose_response
from actome.analyze.perturbation.effects import lesion_effects
from actome.analyze.perturbation.preservation import preservation
from actome.analyze.report.wording import decimal, probability
from actome.store.errors import InputError

from ..perturbation.synthetic import make_scores
from .test_report import page

TARGETS = ("fr", "other")


@pytest.fixture
def out(tmp_path):
    return tmp_path / "report.html"


def test_lesions__show_the_matrix_with_intervals_and_what_survives_the_correction(rng, out):
    ds = lesion_effects(make_scores(rng, targets=TARGETS, draws=99, own=1.0, n_prompts=20), n_bootstrap=100)
    shown = page(ds, out=out)
    assert shown.sections == ["summary", "lesions", "provenance"]
    one = ds.sel(network="fr", condition="fr")
    assert one["p_corrected"] <= 0.05
    assert f"{decimal(float(one['effect']))} \u2022" in shown.text
    assert f"{decimal(float(one['low']))} to {decimal(float(one['high']))}" in shown.text
    assert "Benjamini and Hochberg" in shown.text and "exchangeable" in shown.text


def test_lesions__show_p_at_equal_activity_where_it_is_known(rng, out):
    ds = lesion_effects(make_scores(rng, targets=TARGETS, draws=19, own=1.0), n_bootstrap=5)
    assert "at equal activity" not in page(ds, out=out).text
    adjusted = xr.full_like(ds["p_value"], 0.4321)
    text = page(ds.assign(p_at_equal_activity=adjusted), out=out).text
    assert "at equal activity" in text and probability(0.4321) in text
    assert (
        "at equal activity"
        not in page(ds.assign(p_at_equal_activity=adjusted).assign_attrs(title="One of many"), out=out).text
    )


def test_lesions__say_how_a_networks_own_condition_is_known(rng, out):
    scores = make_scores(rng, targets=("fr", "en x"), own=1.0, n_prompts=20)
    text = page(lesion_effects(scores, n_bootstrap=20), out=out).text
    assert "frgiven" in text and "enchosen on the other half" in text
    assert "1 of the 1 network named as a condition" in text


def test_lesions__show_controls_of_every_kind(rng, out):
    scores = make_scores(rng, targets=("fr",), draws=3)
    kind = np.array(["", "", "matched", "matched", "least_selective"], dtype=object)
    copies = scores["logprob"].where(scores["role"] != "control").expand_dims(copy=2)
    ds = scores.assign_coords(control_kind=("lesion", kind)).assign(logprob_untrained=copies)
    ds = lesion_effects(ds, n_bootstrap=5)
    text = page(ds, out=out).text
    assert "least selective" in text and "untrained" in text
    assert decimal(ds["other_control"].sel(condition="fr").item()) in text
    assert "What the controls do" not in page(lesion_effects(scores, n_bootstrap=5), out=out).text


def test_lesions__of_accuracy_show_no_perplexity(rng, out):
    scores = make_scores(rng, targets=TARGETS)
    hit = xr.where(scores["logprob"].notnull(), rng.random(scores["logprob"].shape) < 0.5, -1)
    shown = page(lesion_effects(scores.assign(hit=hit), metric="hit", n_bootstrap=20), out=out)
    assert "Accuracy of each condition" in shown.text and "share of the tokens" in shown.text
    assert "erplexity" not in shown.text


@pytest.mark.parametrize("draws", [0, 4])
def test_doses__show_a_panel_a_network_and_the_slopes(rng, out, draws):
    scores = make_scores(rng, targets=TARGETS, doses=[0.5, 2.0], own=0.5, draws=draws, kind="scale")
    curves = dose_response(scores, n_bootstrap=20), amplification(scores, n_bootstrap=20)
    for ds, anchor in zip(curves, ("doses", "gains"), strict=True):
        shown = page(ds, out=out)
        assert shown.sections == ["summary", anchor, "provenance"]
        assert sum(src.startswith("data:image/png") for src in shown.loaded) == 2
        assert "are multiplied by the dose" in shown.text and "Dotted: no change" in shown.text
        assert ("There are no controls" in shown.text) == (draws == 0)


def test_preservation__shows_a_panel_a_condition_and_the_perplexities(rng, out):
    scores = make_scores(rng, targets=("top 1 %", "top 10 %"), effect=0.5, keep_only=True)
    ds = preservation(scores, n_bootstrap=20)
    shown = page(ds, out=out)
    assert shown.sections == ["summary", "preservation", "provenance"]
    assert sum(src.startswith("data:image/png") for src in shown.loaded) == 2
    perplexity = float(np.exp(ds["effect"] + ds["baseline"])[0, 0])
    assert f"{perplexity:.3g}" in shown.text and "all (baseline)" in shown.text


def test_doses__of_one_condition_show_its_interval(rng, out):
    scores = make_scores(rng, targets=TARGETS, doses=[0.5, 2.0], own=0.5, kind="scale")
    one = scores.assign_coords(data_set=("prompt", ["x"] * scores.sizes["prompt"]))
    ds = amplification(one, by="data_set", n_bootstrap=20)
    ds["dose"].attrs["units"] = "times the mean"
    text = page(ds, out=out).text
    low, high = (decimal(float(ds[f"slope_{end}"][0, 0])) for end in ("low", "high"))
    assert "effect, its 95 % interval shaded" in text and "every data set" not in text
    assert f"{low} to {high}" in text and "Outlined" not in text


def test_preservation__of_accuracy_shows_what_is_left_with_each_conditions_own_sets(rng, out):
    scores = make_scores(rng, targets=("first", "second"), effect=0.5, keep_only=True)
    hit = xr.where(scores["logprob"].notnull(), rng.random(scores["logprob"].shape) < 0.5, -1)
    ds = preservation(scores.assign(hit=hit), metric="hit", n_bootstrap=20)
    counts = np.array([[11, 22], [33, 44]])
    own = ds.assign(
        n_kept=(("point", "condition"), counts), share_kept=(("point", "condition"), counts / 100)
    )
    text = page(own, out=out).text
    assert all(f"{n} neurons" in text for n in counts.flat) and "shared" not in text
    assert decimal(float(-(ds["effect"] + ds["baseline"])[0, 0])) in text
    assert "Accuracy of each condition" in text and decimal(float(-ds["baseline"][1])) in text


def test_lesions__that_were_published_are_tables_alone(rng, out):
    ds = lesion_effects(make_scores(rng, targets=TARGETS), n_bootstrap=5)
    bare = ds.drop_vars([v for v in ds if str(v).startswith("selectivity")])
    shown = page(bare.assign_attrs(published=True, title="Published: them"), out=out)
    assert "Published: them" in shown.text and "Perplexity of each condition" in shown.text
    assert not any(src.startswith("data:image/png") for src in shown.loaded)
    assert "95 % interval" not in shown.text.split("Lesions")[-1]


def test_lesions__of_many_results_draw_the_networks_that_cost_most(rng, out, monkeypatch):
    monkeypatch.setattr(sys.modules["actome.analyze.report.lesions"], "_PANELS", 5)
    scores = make_scores(rng, targets=("en x", "fr", "other"), effect=0.5, own=2.0)
    ds = lesion_effects(scores, n_bootstrap=5)
    shown = page(ds, ds, out=out)
    assert sum(src.startswith("data:image/png") for src in shown.loaded) == 4
    assert "The 2 networks that cost most are drawn, of 3." in shown.text
    assert shown.text.count("matched controls a network") == 1  # said once


def pruning(**attrs) -> xr.Dataset:
    return xr.Dataset(
        {
            "perplexity": (("model", "condition"), np.array([[10.0, 20.0], [20.0, 20.0]])),
            "parameters": ("model", [1_000_000, 750_000]),
            "neurons": ("model", [4096, 2048]),
            "width": ("model", [1024, 600]),
            "seconds": (("model", "repeat"), np.ones((2, 3))),
            "tokens_per_second": ("model", [1234.0, 2468.0]),
        },
        coords={
            "model": np.array(["before", "after"], dtype=object),
            "condition": np.array(["en", "fr"], dtype=object),
        },
        attrs={"kind": "pruning", "by": "condition", "removed": [500, 12], "filled": [0, 0], **attrs},
    )


def test_pruning__shows_what_is_saved_and_what_it_costs(out):
    shown = page(pruning(), out=out)
    assert shown.sections == ["summary", "pruning", "provenance"]
    for text in (
        "512 neurons of the MLPs removed",
        "750,000",
        "75.0 %",
        "200.0 %",
        "0.693",
        "Nothing makes up",
    ):
        assert text in shown.text
    filled = page(pruning(filled=[0, 488], compensate=True), out=out).text
    assert "488 neurons of zero weights" in filled and "added to the biases" in filled


def in_archive(scores):
    """As opened: with the digest that tells whether effects are of these scores."""
    n = scores.sizes["lesion"]
    return scores.assign_coords(mismatch=("lesion", np.zeros(n))).assign_attrs(manifest_digest="sha256:1")


def test_report__finds_the_effects_of_scores_that_come_without_any(rng, out):
    settings = (
        {},
        {"doses": [0.5, 2.0], "kind": "noise"},
        {"doses": [1.5, 2.0], "kind": "scale"},
        {"keep_only": True},
    )
    scores = [in_archive(make_scores(rng, targets=("fr",), draws=2, effect=0.5, **s)) for s in settings]
    hit = xr.where(scores[0]["logprob"].notnull(), rng.random(scores[0]["logprob"].shape) < 0.5, -1)
    shown = page(scores[0].assign(hit=hit), *scores[1:], out=out)
    assert shown.sections == ["summary", "lesions", "doses", "gains", "preservation", "provenance"]
    assert "measured by the loss" in shown.text and "measured by the share of tokens foretold" in shown.text
    assert shown.text.count("Measured by the loss") == 3  # of the curves


def test_lesions__show_what_the_model_wrote(rng, out):
    scores = make_scores(rng, targets=TARGETS, draws=1)
    names, n = scores["prompt"].values, scores.sizes["prompt"]
    wrote = [[f"{lesion} wrote of {p}" for p in names] for lesion in scores["lesion"].values]
    scores = in_archive(scores.assign_coords(text=("prompt", [f"text of {p}" for p in names])))
    turned = scores.assign(completion=(("lesion", "prompt"), wrote)).isel(prompt=rng.permutation(n))
    text = page(turned, out=out).text
    for prompt in names:
        assert (f"text of {prompt}" in text) == (prompt in ("p00", "p01"))
        assert (f"fr/target-1/nan wrote of {prompt}" in text) == (prompt in ("p00", "p01"))
    assert "none (baseline)/baseline-1/nan wrote of" in text and "control" in text
    assert "fr/control0/nan wrote" not in text


def test_report__takes_given_effects_of_scores_as_they_are(rng, out):
    scores = in_archive(make_scores(rng, targets=TARGETS))
    hit = xr.where(scores["logprob"].notnull(), 1, -1)
    given = lesion_effects(scores, n_bootstrap=7)
    text = page(scores.assign(hit=hit), given, out=out).text
    assert "tokens foretold" not in text
    other = given.assign_attrs(source="sha256:2")
    assert "tokens foretold" in page(scores.assign(hit=hit), other, out=out).text


def test_report__says_why_scores_have_no_effects(rng, out):
    scores = in_archive(make_scores(rng, targets=TARGETS)).assign_attrs(selected_on=["p03"])
    text = page(scores, out=out).text
    assert "No effects of these scores: 1 of the scored prompts, such as 'p03', took part" in text
    assert "How the controls match" in text


def test_lesions__call_removed_only_what_is_gone(rng, out):
    ds = lesion_effects(make_scores(rng, targets=TARGETS, own=1.0, kind="mean"), n_bootstrap=5)
    text = page(ds, out=out).text
    assert "The lesion (mean) of fr" in text and "lesioned" in text
    assert "Removing" not in text and "removed" not in text


def test_doses__of_noise_around_the_means_show_no_dose_of_no_change(rng, out):
    settings = {"kind": "noise", "reference": {"recording": "sha256:1"}}
    scores = make_scores(rng, targets=TARGETS, doses=[0.0, 1.0], effect=0.5, **settings)
    text = page(dose_response(scores, n_bootstrap=5), out=out).text
    assert "no dose leaves the model as it is" in text and "per unit of dose (" in text
    assert "Dotted" not in text and "from the dose that changes nothing" not in text


def test_doses__of_kept_networks_say_so(rng, out):
    scores = make_scores(rng, targets=TARGETS, doses=[0.0, 0.5], effect=0.5, kind="scale", keep_only=True)
    text = page(dose_response(scores, n_bootstrap=5), out=out).text
    assert "activations of all neurons but the network's are multiplied" in text
    assert "small where the network holds up better" in text


def test_preservation__says_what_became_of_the_others(rng, out):
    scores = make_scores(rng, targets=TARGETS, effect=0.5, keep_only=True, kind="mean")
    text = page(preservation(scores, n_bootstrap=5), out=out).text
    assert "The networks are kept; all other neurons are set to their means in the reference." in text


def test_report__refuses_curves_that_lack_something(rng, out):
    ds = preservation(make_scores(rng, keep_only=True), n_bootstrap=5).drop_vars("n_kept")
    with pytest.raises(InputError, match=r"of kind 'preservation' but lacks \['n_kept'\]"):
        actome.report(ds, out=out)
