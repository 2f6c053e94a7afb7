import numpy as np
import pandas as pd
import pytest
import scipy.stats
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from actome.analyze.perturbation.effects import lesion_effects
from actome.store.errors import ActomeError

from .synthetic import CONDITIONS, make_scores


@pytest.fixture
def scores(rng):
    return make_scores(rng)


def test_lesion_effects__agree_with_a_groupby(scores):
    table = scores["logprob"].astype(float).to_dataframe().reset_index().dropna(subset="logprob")
    loss = -table.groupby(["role", "target", "draw", "condition"])["logprob"].mean()
    result = lesion_effects(scores, n_bootstrap=20)
    base = loss["baseline", "", -1]
    for name in ("fr net", "en net"):
        for condition in CONDITIONS:
            here = {"network": name, "condition": condition}
            expected = loss["target", name, -1, condition] - base[condition]
            assert result["effect"].sel(here).item() == pytest.approx(expected, abs=1e-9)
            controls = [loss["control", name, d, condition] - base[condition] for d in range(4)]
            np.testing.assert_allclose(result["control"].sel(here), controls, atol=1e-9)
            assert result["p_value"].sel(here).item() == (1 + sum(c >= expected for c in controls)) / 5
            perplexity = np.exp(loss["target", name, -1, condition])
            assert result["perplexity"].sel(here).item() == pytest.approx(perplexity, rel=1e-9)
            assert result["perplexity_baseline"].sel(condition=condition).item() == pytest.approx(
                np.exp(base[condition])
            )
    sizes = scores["network"].sum(("layer", "neuron")).to_numpy()
    assert result["size"].to_numpy().tolist() == sizes[scores["role"] == "target"].tolist()


@pytest.mark.parametrize("n_prompts", [16, 120])
def test_lesion_effects__interval_is_that_of_scipys_bootstrap(n_prompts, rng):
    """Of a ratio of sums, paired by prompt; the level is higher for few prompts."""
    scores = make_scores(
        rng, n_prompts=n_prompts, targets=("n",), effect=0.5, prompt_sd=0.5, conditions=("en",)
    )
    result = lesion_effects(scores, n_bootstrap=20_000)
    change = (scores["logprob"][0] - scores["logprob"][1]).astype(float)
    spread = np.sqrt(n_prompts / (n_prompts - 1)) * scipy.stats.t.ppf(0.975, n_prompts - 1)
    expected = scipy.stats.bootstrap(
        (change.sum("token").values, change.notnull().sum("token").values),
        lambda total, n, axis: total.sum(axis) / n.sum(axis),
        paired=True,
        method="percentile",
        n_resamples=20_000,
        confidence_level=1 - 2 * scipy.stats.norm.cdf(-spread),
        rng=rng,
    ).confidence_interval
    half = (expected.high - expected.low) / 2
    found = [result["low"].item(), result["high"].item()]
    np.testing.assert_allclose(found, [expected.low, expected.high], atol=0.06 * half)


@pytest.mark.parametrize("n_prompts", [10, 40])
def test_lesion_effects__interval_covers_the_planted_effect(n_prompts, rng):
    # every network is a simulation of its own
    targets = tuple(f"n{i}" for i in range(150))
    inside = []
    for _ in range(3):
        scores = make_scores(rng, n_prompts=n_prompts, targets=targets, draws=0, effect=0.3, prompt_sd=0.5)
        result = lesion_effects(scores, n_bootstrap=400, seed=int(rng.integers(1000)))
        inside.append(((result["low"] <= 0.3) & (result["high"] >= 0.3)).to_numpy())
        assert (result["low"] < result["effect"]).all() and (result["effect"] < result["high"]).all()
    assert 0.9 <= np.mean(inside) <= 0.985


def test_lesion_effects__p_of_a_null_is_uniform(rng):
    scores = make_scores(rng, n_prompts=6, targets=tuple(f"n{i}" for i in range(300)), draws=9)
    p = lesion_effects(scores, n_bootstrap=1)["p_value"].sel(condition="fr").to_numpy()
    for alpha in (0.1, 0.2, 0.5):
        assert abs((p <= alpha + 1e-9).mean() - alpha) < 3 * np.sqrt(alpha * (1 - alpha) / len(p))


def test_lesion_effects__a_planted_effect_beats_its_controls(rng):
    result = lesion_effects(make_scores(rng, effect=1.0, draws=19), n_bootstrap=200)
    assert (result["p_value"] == 0.05).all()
    assert (result["low"] > 0.8).all() and (result["high"] < 1.2).all()


@settings(max_examples=10)
@given(order=st.permutations(range(12)), lesions=st.permutations(range(11)))
def test_lesion_effects__do_not_depend_on_the_order_of_prompts_or_lesions(order, lesions):
    scores = make_scores(np.random.default_rng(0))
    a = lesion_effects(scores, n_bootstrap=1)
    b = lesion_effects(scores.isel(prompt=order, lesion=lesions), n_bootstrap=1).sel(network=a["network"])
    for name in ("effect", "low", "high", "control", "perplexity", "perplexity_baseline", "p_value", "size"):
        np.testing.assert_allclose(a[name], b[name], rtol=1e-12, atol=1e-12)


def test_lesion_effects__are_the_same_lazy_and_for_one_seed(scores):
    expected = lesion_effects(scores, seed=3)
    xr.testing.assert_identical(lesion_effects(scores.chunk(lesion=3, prompt=5), seed=3), expected)
    assert (lesion_effects(scores, seed=4)["low"] != expected["low"]).any()


def test_lesion_effects__without_controls_have_no_p(rng):
    result = lesion_effects(make_scores(rng, draws=0), n_bootstrap=10)
    assert result["p_value"].isnull().all() and result.sizes["draw"] == 0
    assert result["effect"].notnull().all()


def test_lesion_effects__ignore_prompts_without_scored_tokens(scores):
    silent = scores.copy(deep=True)
    silent["logprob"][:, [0, 3]] = np.nan
    dropped = scores.isel(prompt=[i for i in range(12) if i not in (0, 3)])
    xr.testing.assert_allclose(lesion_effects(silent), lesion_effects(dropped))


def test_lesion_effects__are_nan_for_a_condition_without_tokens_and_have_no_interval_of_one_prompt(scores):
    few = scores.isel(prompt=[0, 1, 3, 5]).copy(deep=True)  # one en, three fr
    result = lesion_effects(few)
    assert result["effect"].notnull().all()
    assert (
        result["low"].sel(condition="en").isnull().all() and result["low"].sel(condition="fr").notnull().all()
    )
    few["logprob"][:, 0] = np.nan
    result = lesion_effects(few)
    for name in ("effect", "low", "high", "perplexity", "perplexity_baseline", "p_value"):
        assert result[name].sel(condition="en").isnull().all()
        assert result[name].sel(condition="fr").notnull().all()


def test_lesion_effects__show_a_lesion_that_breaks_the_model(scores):
    broken = scores.copy(deep=True)
    broken["logprob"][1, 1, 1] = np.nan  # the first target, an fr prompt
    result = lesion_effects(broken)
    assert np.isnan(result["effect"].sel(network="fr net", condition="fr"))
    assert np.isnan(result["p_value"].sel(network="fr net", condition="fr"))
    assert result["effect"].isnull().sum() == 1
    for name in ("selectivity", "selectivity_p", "selectivity_low"):
        assert result[name].isnull().values.tolist() == [True, False]
    intact = lesion_effects(scores)["p_value"]
    broken = scores.copy(deep=True)
    broken["logprob"][2:6, 1, 1] = np.nan  # all of its controls
    result = lesion_effects(broken)
    assert result["p_value"].sel(network="fr net", condition="fr") == 1
    assert result["selectivity_p"].sel(network="fr net") == 1
    assert result["p_value"].sel(network="en net", condition="fr") == intact[1, 1]


def rename_target(ds):
    return ds.assign_coords(target=("lesion", np.where(ds["role"] == "target", "same", ds["target"])))


@pytest.mark.parametrize(
    ("change", "options", "error", "message"),
    [
        (lambda ds: ds.isel(lesion=[0]), {}, ValueError, "must hold one baseline and a target"),
        (
            lambda ds: ds.isel(lesion=slice(-1)),
            {},
            ValueError,
            "different numbers of controls: .*'fr net': 4, 'en net': 3",
        ),
        (rename_target, {}, ValueError, "a network's name comes twice"),
        (
            lambda ds: ds,
            {"own": "fr"},
            TypeError,
            "own must be a mapping from networks to conditions, got 'fr'",
        ),
        (lambda ds: ds, {"dose": 1.0}, ValueError, r"dose must be one of those scored, \[\], got 1.0"),
    ],
)
def test_lesion_effects__refuse(change, options, error, message, scores):
    with pytest.raises(error, match=message) as caught:
        lesion_effects(change(scores), **options)
    assert isinstance(caught.value, ActomeError)


def test_lesion_effects__take_any_label_of_the_prompts(scores):
    labelled = scores.assign_coords(length=("prompt", np.arange(12) % 3))
    result = lesion_effects(labelled, by="length")
    assert result["length"].to_numpy().tolist() == ["0", "1", "2"]
    assert isinstance(result["effect"].to_pandas(), pd.DataFrame)


def test_lesion_effects__hits_and_kl_take_their_own_variables(scores, rng):
    shape = scores["logprob"].shape
    hit = xr.where(scores["logprob"].notnull(), rng.random(shape) < 0.5, -1).astype(np.int8)
    with_more = scores.assign(hit=hit, kl=abs(scores["logprob"]) / 10)
    result = lesion_effects(with_more, metric="hit", n_bootstrap=20)
    table = hit.to_dataframe(name="hit").reset_index().query("hit >= 0")
    mean = table.groupby(["role", "target", "draw", "condition"])["hit"].mean()
    for name in ("fr net", "en net"):
        for condition in CONDITIONS:
            here = {"network": name, "condition": condition}
            lesioned, base = mean["target", name, -1, condition], mean["baseline", "", -1, condition]
            assert result["accuracy"].sel(here).item() == pytest.approx(lesioned)
            assert result["effect"].sel(here).item() == pytest.approx(base - lesioned)  # positive hurts
            assert result["accuracy_baseline"].sel(condition=condition).item() == pytest.approx(base)
    kl = lesion_effects(with_more, metric="kl", n_bootstrap=20)
    loss = lesion_effects(scores, n_bootstrap=20)
    np.testing.assert_allclose(kl["effect"], loss["effect"] / 10, atol=1e-6)
    assert "perplexity" not in kl and result.attrs["metric"] == "hit"


def test_lesion_effects__accuracy_counts_questions_and_answers_that_are_not_understood(scores):
    correct = np.ones((11, 12), dtype=np.int8)
    correct[:, 10] = -1  # the last en prompt is no question
    correct[1, 0] = 0  # under the first target one of the other five is answered wrongly
    parsed = np.where(correct < 0, -2, np.where(correct > 0, 3, 0))
    parsed[1, 2] = -1  # ... and in words one more is not understood
    more = {"correct": (("lesion", "prompt"), correct), "parsed": (("lesion", "prompt"), parsed)}
    asked = scores.assign(more | {"answer_index": ("prompt", np.full(12, 3))})
    result = lesion_effects(asked, metric="accuracy", n_bootstrap=20)
    hurt = {"network": "fr net", "condition": "en"}
    assert result["effect"].sel(hurt).item() == pytest.approx(1 / 5)
    assert result["effect"].sum() == pytest.approx(1 / 5) and (result["accuracy_baseline"] == 1).all()
    result = lesion_effects(asked, metric="answer", n_bootstrap=20)
    assert result["effect"].sel(hurt).item() == pytest.approx(2 / 5)
    assert result["unparsed"].sel(hurt).item() == pytest.approx(1 / 5)
    assert result["unparsed"].sum() == pytest.approx(1 / 5) and (result["unparsed_baseline"] == 0).all()
    with pytest.raises(
        ValueError, match=r"no 'hit', which 'hit' needs; they allow .*'loss', 'accuracy', 'ans"
    ):
        lesion_effects(asked, metric="hit")
    with pytest.raises(ValueError, match="metric must be one of"):
        lesion_effects(asked, metric="bleu")


def test_lesion_effects__of_untrained_copies_stand_beside(scores):
    copies = xr.concat([scores["logprob"], 2 * scores["logprob"]], "copy")
    copies = copies.where(scores["role"] != "control")
    result = lesion_effects(scores.assign(logprob_untrained=copies), n_bootstrap=1)
    np.testing.assert_allclose(result["untrained"].sel(copy=0), result["effect"])
    np.testing.assert_allclose(result["untrained"].sel(copy=1), 2 * result["effect"], rtol=1e-6)


@pytest.mark.parametrize("doses", [None, [0.5, 2.0]])
def test_lesion_effects__refuse_networks_that_were_kept(rng, doses):
    scores = make_scores(rng, doses=doses, keep_only=True)
    with pytest.raises(ActomeError, match=r"keep_only=True they were kept .* use preservation"):
        lesion_effects(scores)


@pytest.mark.parametrize("method", ["fdr", "by", "holm"])
def test_lesion_effects__correct_for_the_number_of_cells(rng, method):
    from statsmodels.stats.multitest import multipletests

    scores = make_scores(rng, targets=tuple("abcd"), draws=19)
    result = lesion_effects(scores, correction=method, n_bootstrap=1)
    names = {"fdr": "fdr_bh", "by": "fdr_by", "holm": "holm"}
    expected = multipletests(result["p_value"].values.ravel(), method=names[method])[1]
    np.testing.assert_allclose(result["p_corrected"].values.ravel(), expected)
    plain = lesion_effects(scores, correction="none", n_bootstrap=1)
    np.testing.assert_array_equal(plain["p_corrected"], plain["p_value"])
    assert result.attrs["correction"] == method and "any dependence" in (
        result.attrs["assumption"] + "any dependence" * (method == "fdr")
    )


def test_lesion_effects__refuse_prompts_that_selected_the_networks(scores):
    for attrs in ({"selected_on": ["p03"]}, {"inputs": {"selected_on": ["p03", "p99"]}}):
        with pytest.raises(ValueError, match="1 of the scored prompts, such as 'p03', took part"):
            lesion_effects(scores.assign_attrs(attrs))
    fine = scores.assign_attrs(selected_on=["p99"])
    assert lesion_effects(fine, n_bootstrap=1).attrs["selected_on"] == ["p99"]


def test_lesion_effects__of_one_of_several_doses(rng):
    scores = make_scores(rng, doses=[0.5, 2.0], effect=1.0)
    with pytest.raises(ValueError, match=r"hold the doses \[0.5, 2.0\]; choose one"):
        lesion_effects(scores)
    with pytest.raises(ValueError, match="must be one of those scored"):
        lesion_effects(scores, dose=1.0)
    with pytest.raises(TypeError, match="dose must be a number, got 'high'"):
        lesion_effects(scores, dose="high")
    one = lesion_effects(scores, dose=2.0, n_bootstrap=50)
    alone = lesion_effects(
        scores.isel(lesion=np.flatnonzero(scores["dose"] != 0.5)).drop_vars("dose"), n_bootstrap=50
    )
    xr.testing.assert_equal(one, alone)
    assert one.attrs["dose"] == 2.0 and (one["effect"] > 1.7).all()


def test_lesion_effects__keep_controls_of_other_kinds_apart(scores):
    kind = np.array(["", "", *["matched"] * 3, "least_selective", "", *["matched"] * 3, "least_selective"])
    result = lesion_effects(scores.assign_coords(control_kind=("lesion", kind.astype(object))), n_bootstrap=1)
    plain = lesion_effects(scores, n_bootstrap=1)
    assert result.sizes["draw"] == 3 and result["control_kind"].values.tolist() == ["least_selective"]
    np.testing.assert_array_equal(result["control"], plain["control"][:, :3])
    np.testing.assert_array_equal(result["other_control"][:, 0], plain["control"][:, 3])
