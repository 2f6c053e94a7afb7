"""Cross-fitting against statsmodels, against fits of each part alone, and against what was planted."""

import dask
import numpy as np
import pytest
import scipy.stats
import statsmodels.api as sm
import xarray as xr
from hypothesis import given, settings

from actome.analyze.contrasts import compute_contrast
from actome.analyze.crossfit import cross_fit, fold_network
from actome.analyze.glm import fit_glm
from actome.analyze.threshold import Top, threshold
from actome.store.archive import open as open_recording
from actome.store.archive import save
from actome.store.blocks import prompt_level
from actome.store.errors import ActomeError
from actome.store.phantom import phantom
from actome.store.results import save_result

from ...strategies import chunkings

NUMBERS = ("effect", "variance", "dof", "low", "high", "naive", "effect_combined", "naive_combined")
TENTH = {"control": Top(0.1)}


def planted(seed=0, **options):
    made = {
        "n_prompts": 12,
        "n_runs": 3,
        "n_tokens": (2, 5),
        "n_layers": 2,
        "n_neurons": 40,
        "prompt_sd": 0.5,
    }
    return phantom(**{**made, **options}, seed=seed)


def same(a, b, rtol=1e-9):
    """The same networks, and the same numbers but for rounding."""
    np.testing.assert_array_equal(a["mask"], b["mask"])
    for name in NUMBERS:
        np.testing.assert_allclose(a[name], b[name], rtol=rtol, atol=rtol, err_msg=name)


def by_statsmodels(ds, network, measure):
    """Effect of a - rest of a network's mean over these prompts, and its CR1 variance."""
    valid = (ds["token_id"] != -1).to_numpy()
    values = ds["activation"].astype(np.float64)
    values = (abs(values) if measure == "magnitude" else values).to_numpy()[valid]
    group = np.nonzero(valid)[0]
    condition, run = ds["condition"].to_numpy()[group], ds["run"].to_numpy()[group]
    columns = [condition == name for name in ("a", "b", "rest")]
    columns += [(run == r) * 1.0 - (run == run.max()) for r in np.unique(run)[:-1]]
    X = np.stack(columns, axis=1).astype(np.float64)
    fit = sm.OLS(values[:, network].mean(axis=1), X).fit(cov_type="cluster", cov_kwds={"groups": group})
    test = fit.t_test(np.array([1.0, 0, -1] + [0.0] * (X.shape[1] - 3)))
    return test.effect.item(), test.sd.item() ** 2


@pytest.mark.parametrize("measure", ["magnitude", "signed"])
@pytest.mark.parametrize("mean", [0, 300])
def test_cross_fit__agrees_with_statsmodels(measure, mean):
    ds = planted()
    ds["activation"] = ds["activation"].astype(np.float64) + mean
    result = cross_fit(ds, "a - rest", measure=measure, noise="cluster", **TENTH)
    for run, fold in enumerate(result["fold"]):
        one, inside = result.sel(fold=fold), (ds["run"] == run).to_numpy()
        network = one["mask"].to_numpy()
        effect, variance = by_statsmodels(ds.isel(prompt=inside), network, measure)
        naive, _ = by_statsmodels(ds.isel(prompt=~inside), network, measure)
        np.testing.assert_allclose([one["effect"], one["naive"]], [effect, naive], rtol=1e-9, atol=1e-11)
        np.testing.assert_allclose(one["variance"], variance, rtol=1e-7)
        half = scipy.stats.t.ppf(0.975, one["dof"]) * np.sqrt(variance)
        np.testing.assert_allclose([one["low"], one["high"]], [effect - half, effect + half], rtol=1e-7)
    for name in ("effect", "low", "high", "naive"):
        assert result[f"{name}_combined"].item() == pytest.approx(result[name].mean().item())


def test_cross_fit__selects_as_a_fit_of_the_other_prompts_alone():
    ds = planted(effect=2.5)
    for control in ("fdr", Top(0.1)):
        result = cross_fit(ds, "a - rest", control=control, alpha=0.2, n_folds=3, seed=3)
        for fold in range(3):
            others = ds.isel(prompt=result["selected_on"].sel(fold=fold).to_numpy())
            expected = threshold(
                compute_contrast(fit_glm(others, noise="cr2"), "a - rest"), control=control, alpha=0.2
            )
            np.testing.assert_array_equal(result["mask"].sel(fold=fold), expected)
        np.testing.assert_array_equal(result["estimated_on"], ~result["selected_on"])
        np.testing.assert_array_equal(result["size"], result["mask"].sum(("layer", "neuron")))
        assert result["size"].min() > 0


def test_cross_fit__a_fold_has_no_say_in_its_network(rng):
    ds = planted()
    before = cross_fit(ds, "a - rest", **TENTH)
    changed = ds.copy(deep=True)
    inside = (ds["run"] == 1).to_numpy()
    changed["activation"][inside] = changed["activation"][inside] * rng.normal(
        size=ds["activation"][inside].shape
    )
    after = cross_fit(changed, "a - rest", **TENTH)
    np.testing.assert_array_equal(after["mask"].sel(fold=1), before["mask"].sel(fold=1))
    assert after["naive"].sel(fold=1) == before["naive"].sel(fold=1)
    assert after["effect"].sel(fold=1) != before["effect"].sel(fold=1)
    assert (after["mask"].sel(fold=0) != before["mask"].sel(fold=0)).any()


def common_factor(seed, **options):
    """A recording in which all neurons share what differs between prompts: the worst for independence."""
    ds = phantom(conditions=("a", "rest"), n_layers=1, n_neurons=100, n_tokens=(2, 5), seed=seed, **options)
    rng = np.random.default_rng([seed, 1])
    shared = rng.standard_normal((ds.sizes["prompt"], 1, 1, 1)) * rng.standard_normal((1, 1, 1, 100))
    return ds.assign(activation=ds["activation"] + shared.astype(np.float32))


def truth_of(ds, result):
    """True effect of a - rest of each network's mean; rest has none."""
    raised = ds["true_effect"].sel(condition_name="a", drop=True)
    return (result["mask"] * raised).sum(("layer", "neuron")) / result["size"]


@pytest.mark.slow
def test_cross_fit__on_a_null_only_the_naive_effect_is_biased():
    effect, naive = [], []
    for seed in range(16):
        ds = common_factor(seed, n_prompts=8, effect=0.0, prompt_sd=0.5)
        result = cross_fit(prompt_level(ds).compute(), "a - rest", measure="signed", **TENTH)
        effect.append(result["effect_combined"].item())
        naive.append(result["naive_combined"].item())
    assert abs(np.mean(effect)) < 3 * np.std(effect) / np.sqrt(len(effect))
    assert np.mean(naive) > 10 * np.std(naive) / np.sqrt(len(naive))
    assert min(naive) > 0


@pytest.mark.slow
@pytest.mark.parametrize(("effect", "make"), [(0.0, common_factor), (0.0, phantom), (1.5, phantom)])
def test_cross_fit__intervals_hold_the_truth_at_their_rate(effect, make):
    covered, combined, biased = [], [], []
    for seed in range(200):
        sizes = {"conditions": ("a", "rest"), "n_layers": 1, "n_neurons": 100, "n_tokens": (2, 5)}
        options = {} if make is common_factor else sizes
        ds = make(seed=seed, n_prompts=10, effect=effect, prompt_sd=0.5, **options)
        result = cross_fit(prompt_level(ds).compute(), "a - rest", measure="signed", **TENTH)
        truth = truth_of(ds, result)
        covered.append(((result["low"] <= truth) & (truth <= result["high"])).to_numpy())
        mean = truth.mean().item()
        combined.append(result["low_combined"].item() <= mean <= result["high_combined"].item())
        biased.append(result["naive_combined"].item() > result["effect_combined"].item())
    margin = 3 * np.sqrt(0.95 * 0.05 / 200)
    # the folds of one recording are not independent of each other, so each is counted by itself
    assert (abs(np.mean(covered, axis=0) - 0.95) < margin).all()
    assert np.mean(combined) > 0.95 - margin
    assert np.mean(biased) > 0.5


def test_cross_fit__finds_what_was_planted():
    ds = planted(n_prompts=30, effect=2.0, prompt_sd=0.3, seed=2)
    result = cross_fit(ds, "a - rest", measure="signed")
    truth = truth_of(ds, result)
    assert (result["size"] >= 3).all()
    assert (truth > 1.5).all()
    assert ((result["low"] <= truth) & (truth <= result["high"])).all()
    assert result["low_combined"] > 1
    assert result.attrs["folds"] == "run" and result.attrs["contrast"] == "a - rest"
    assert "independent" in result.attrs["exchangeability"] and result.attrs["confounds"] == ["run"]


SMALL = planted(conditions=("a", "rest"), n_prompts=6, n_runs=2, n_neurons=10)
DRAWN = {"n_folds": 2, "seed": 1, **TENTH}


@pytest.fixture(scope="module")
def expected():
    return cross_fit(SMALL, "a - rest", **DRAWN)


@settings(max_examples=1)
@given(chunkings(SMALL.drop_dims("condition_name")))
def test_cross_fit__does_not_depend_on_chunks(expected, chunks):
    same(cross_fit(SMALL.chunk(chunks), "a - rest", **DRAWN), expected)


def test_cross_fit__does_not_depend_on_order_level_or_workers(expected, tmp_path, rng):
    path = save(SMALL.drop_dims(["condition_name", "network"]), tmp_path / "recording.zarr")
    shuffled = SMALL.isel(prompt=rng.permutation(SMALL.sizes["prompt"]))
    for ds in (shuffled, prompt_level(SMALL), open_recording(path)):
        result = cross_fit(ds, "a - rest", **DRAWN)
        same(result, expected)
        xr.testing.assert_equal(
            result["estimated_on"].sel(prompt=expected["prompt"]), expected["estimated_on"]
        )
    with dask.config.set(num_workers=4):
        same(cross_fit(SMALL.chunk(prompt=5, neuron=7), "a - rest", **DRAWN), expected)


def test_cross_fit__neurons_without_values_and_prompts_without_tokens_take_no_part():
    ds = planted()
    ds["activation"][{"neuron": 3}] = np.nan
    ds["activation"][{"neuron": 4}] = xr.where(ds["token_id"] == -1, np.nan, 0.1)
    ds["activation"][{"neuron": 5, "prompt": 7}] = np.nan  # in one prompt alone
    ds["activation"][{"prompt": 2}] = np.nan
    ds["token_id"][{"prompt": 2}] = -1
    result = cross_fit(ds, "a - rest", control=Top(0.5))
    assert result.sizes["prompt"] == ds.sizes["prompt"] - 1
    assert not result["mask"].isel(neuron=[3, 4, 5]).any()
    assert np.isfinite(result["effect"]).all()
    rest = ds.drop_isel(prompt=2, neuron=[3, 4, 5])
    expected = cross_fit(rest, "a - rest", control=Top(0.5))
    same(result.drop_isel(neuron=[3, 4, 5]), expected)


def test_cross_fit__of_empty_networks_has_no_effect():
    ds = planted(effect=0.0)
    none = cross_fit(ds, "a - rest", alpha=1e-9)
    assert not none["mask"].any()
    for name in NUMBERS:
        assert np.isnan(none[name]).all()
    # raised in two runs and lowered in the third: found only where that one is held out
    sign = xr.where(ds["run"] == 2, -1, 1) * (ds["condition"] == "a")
    ds["activation"] = ds["activation"] + 4 * sign * (ds["neuron"] < 4)
    some = cross_fit(ds, "a - rest", alpha=0.001, measure="signed")
    assert some["size"].to_numpy().tolist() == [0, 0, 8]
    assert some["effect_combined"] == some["effect"][2] < -3
    assert some["naive_combined"] == some["naive"][2] > 3


def test_cross_fit__of_weights_is_that_of_the_expression():
    ds = planted()
    expected = cross_fit(ds, "a - rest", **TENTH)
    same(cross_fit(ds, {"a": 1, "rest": -1}, **TENTH), expected)


def test_cross_fit__survives_being_saved(tmp_path):
    result = cross_fit(planted(), "a - rest", **TENTH)
    again = open_recording(save_result(result, tmp_path / "result.zarr")).compute()
    same(again, result)
    assert fold_network(again, 2).attrs["selected_on"] == fold_network(result, 2).attrs["selected_on"]


def test_fold_network__carries_the_prompts_that_selected_it():
    ds = planted()
    result = cross_fit(ds, "a - rest", **TENTH)
    network = fold_network(result, 1)
    assert network.dims == ("network", "layer", "neuron") and network.dtype == bool
    np.testing.assert_array_equal(network[0], result["mask"].sel(fold=1))
    assert network.attrs["selected_on"] == ds["prompt"].to_numpy()[ds["run"] != 1].tolist()
    assert set(result["mask"].attrs["selected_on"]) == set(ds["prompt"].to_numpy())
    with pytest.raises(ValueError, match=r"there is no fold 7; there are \[0, 1, 2\]"):
        fold_network(result, 7)
    with pytest.raises(TypeError, match="fold_network takes a result of"):
        fold_network(result[["mask"]], 1)


def renamed(ds):
    """With c for rest, so that rest stands for the others."""
    return ds.assign_coords(condition=ds["condition"].where(ds["condition"] != "rest", "c"))


@pytest.mark.parametrize(
    ("change", "options", "error", "message"),
    [
        (
            lambda ds: ds,
            {"contrast": [1, 0, -1, 0, 0]},
            TypeError,
            "takes a contrast as an expression .* got list",
        ),
        (lambda ds: ds, {"contrast": "a - c"}, ValueError, "^contrast names unknown regressor 'c'"),
        (lambda ds: ds, {"measure": "square"}, ValueError, "measure must be"),
        (
            lambda ds: ds,
            {"noise": "ols"},
            ValueError,
            "noise must be 'cluster' or 'cr2' in cross_fit, got 'ols'",
        ),
        (lambda ds: ds, {"confidence": 95}, ValueError, "confidence must lie between 0 and 1, got 95"),
        (lambda ds: ds, {"control": "maxt"}, ValueError, "control 'maxt' needs p_corrected"),
        (lambda ds: ds, {"control": "holm"}, ValueError, "control must be"),
        (lambda ds: ds, {"n_folds": 0}, ValueError, "n_folds must be a whole number from 2 to 36, got 0"),
        (lambda ds: ds, {"by": "session"}, ValueError, "no label 'session' to make folds of"),
        (lambda ds: ds, {"by": "block"}, ValueError, r"the prompts of fold 0 \(1\) do not suffice: "),
        (
            lambda ds: renamed(ds).isel(prompt=~((ds["run"] == 1) & (ds["condition"] == "b"))),
            {"contrast": "a - mean(rest)"},
            ValueError,
            r"something else in the prompts of fold 1 \(8\): it weights {'a': 1.0, 'c': -1.0} there",
        ),
        (
            lambda ds: ds.rename(n_tokens="length"),
            {"formula": "scale(length) + condition", "contrast": "`scale(length)`"},
            ValueError,
            "the contrast means something else in the prompts of fold 0",
        ),
        (lambda ds: ds["activation"], {}, TypeError, "expected a Dataset"),
    ],
)
def test_cross_fit__refuses(change, options, error, message, raise_if_computes):
    ds = planted()
    ds = change(ds.assign(activation=ds["activation"].chunk(neuron=10)))
    options = {"contrast": "a - mean(b, rest)", **options}
    with pytest.raises(error, match=message) as caught, raise_if_computes():
        cross_fit(ds, options.pop("contrast"), **options)
    assert isinstance(caught.value, ActomeError)
