import numpy as np
import pytest
import scipy.stats
import statsmodels.api as sm
import xarray as xr

from actome.analyze.identification import _condition_t, _permute_within, identify
from actome.analyze.threshold import Top, Z
from actome.store.archive import open as open_recording
from actome.store.blocks import prompt_level
from actome.store.errors import ActomeError
from actome.store.phantom import phantom

FEW = {"n_permutations": 19, "network": Top(0.1)}


def test_condition_t__agrees_with_scipy_for_two_conditions(rng):
    values, code = rng.standard_normal((25, 7)), rng.permutation([0] * 10 + [1] * 15)
    theirs = scipy.stats.ttest_ind(values[code == 0], values[code == 1]).statistic
    np.testing.assert_allclose(_condition_t(values, code, 2), [theirs, -theirs], rtol=1e-10)


def test_condition_t__agrees_with_statsmodels_for_four_conditions(rng):
    values, code = (
        1e4 + rng.standard_normal((30, 5)),
        rng.permutation(np.repeat(np.arange(4), [3, 5, 10, 12])),
    )
    ours = _condition_t(values, code, 4)
    for v in range(5):
        fit = sm.OLS(values[:, v], np.eye(4)[code]).fit()
        for c in range(4):
            weights = np.where(np.arange(4) == c, 1.0, -1 / 3)
            assert ours[c, v] == pytest.approx(fit.t_test(weights).tvalue.item(), rel=1e-8)


def test_condition_t__is_nan_for_a_neuron_that_never_varies():
    code = np.array([0, 1, 0, 1, 1])
    values = np.stack([np.full(5, 0.1), np.full(5, -1e6 / 3), np.arange(5.0) ** 2], axis=1)
    assert np.isnan(_condition_t(values, code, 2)).tolist() == [[True, True, False]] * 2


@pytest.fixture(scope="module")
def planted():
    return phantom(n_prompts=8, n_runs=2, n_neurons=20, effect=1.5, fraction=0.1, seed=3)


@pytest.mark.parametrize("measure", ["magnitude", "signed"])
def test_identify__names_the_planted_condition(measure, planted):
    ds = planted.isel(prompt=np.flatnonzero(planted["condition"] != "rest"))
    result = identify(ds, measure=measure, **FEW)
    assert result["accuracy"] > 0.9
    assert result["p_value"] == 1 / 20
    assert result["accuracy"] == (result["predicted"] == result["condition"]).mean()
    assert np.trace(result["confusion"]) == result["accuracy"] * ds.sizes["prompt"]
    assert result["confusion"].sum("named").to_numpy().tolist() == [8, 8]


def test_identify__is_at_chance_on_a_null_and_its_p_uniform():
    p, accuracy = [], []
    for seed in range(40):
        ds = phantom(
            n_prompts=4,
            n_tokens=(3, 5),
            n_layers=1,
            n_neurons=30,
            effect=0.0,
            prompt_sd=0.5,
            autocorrelation=0.5,
            seed=seed,
        )
        result = identify(ds, n_permutations=19, network=Top(0.1), seed=seed)
        p.append(result["p_value"].item())
        accuracy.append(result["accuracy"].item())
    se = np.std(accuracy) / np.sqrt(len(accuracy))
    assert abs(np.mean(accuracy) - 1 / 3) < 3 * se
    # p is discrete and counts ties, so it may be larger than uniform, never smaller
    for alpha in (0.1, 0.2, 0.5):
        assert (np.array(p) <= alpha).mean() < alpha + 3 * np.sqrt(alpha * (1 - alpha) / len(p))
    assert np.mean(p) < 0.75


def test_identify__is_the_same_from_cube_summary_and_disk(tiny, tiny_path):
    expected = identify(tiny, **FEW)
    sources = (
        tiny.chunk(prompt=5, layer=1),
        prompt_level(tiny),
        open_recording(tiny_path),
        open_recording(tiny_path, level="prompt"),
    )
    for ds in sources:
        result = identify(ds, **FEW)
        assert result["predicted"].to_numpy().tolist() == expected["predicted"].to_numpy().tolist()
        np.testing.assert_array_equal(result["null"], expected["null"])


def test_identify__does_not_depend_on_the_order_of_prompts_or_neurons(planted, rng):
    expected = identify(planted, **FEW)
    order = rng.permutation(planted.sizes["prompt"])
    shuffled = identify(planted.isel(prompt=order, neuron=rng.permutation(20)), **FEW)
    assert shuffled["predicted"].to_numpy().tolist() == expected["predicted"].to_numpy()[order].tolist()
    np.testing.assert_array_equal(shuffled["confusion"], expected["confusion"])


def test_identify__repeats_with_its_seed(tiny):
    xr.testing.assert_identical(identify(tiny, **FEW, seed=5), identify(tiny, **FEW, seed=5))
    assert (identify(tiny, **FEW, seed=5)["null"] != identify(tiny, **FEW, seed=6)["null"]).any()


def test_permute_within__keeps_the_labels_of_every_fold(rng):
    code, fold = rng.integers(0, 3, 60), np.arange(60) % 2
    code[fold == 1] += 3
    permuted = _permute_within(code, fold, rng)
    assert (permuted != code).any()
    for f in (0, 1):
        assert sorted(permuted[fold == f]) == sorted(code[fold == f])


def test_identify__leaves_out_empty_prompts_and_neurons_without_values(planted):
    ds = planted.copy(deep=True)
    ds["token_id"][{"prompt": 2}] = -1
    ds["activation"][{"prompt": 2}] = np.nan
    others = [i for i in range(ds.sizes["prompt"]) if i != 2]
    ds["activation"][{"neuron": 3}] = np.nan
    ds["activation"][{"neuron": 4}] = xr.where(ds["token_id"] == -1, np.nan, 0.1)
    expected = identify(ds.isel(prompt=others).drop_isel(neuron=3), **FEW)
    xr.testing.assert_equal(identify(ds, **FEW), expected)


def test_identify__always_has_a_neuron_in_its_network(planted):
    few = identify(planted, network=Top(0.001), n_permutations=1)
    assert few["accuracy"] > 0.4
    assert len(set(few["predicted"].to_numpy())) == 3


@pytest.mark.parametrize(
    ("change", "options", "error", "message"),
    [
        (
            lambda ds: ds.drop_vars("condition"),
            {},
            ValueError,
            "needs the label 'condition' of the prompts; the rec",
        ),
        (lambda ds: ds, {"by": "session"}, ValueError, "needs the label 'session'"),
        (lambda ds: ds, {"by": "token_id"}, ValueError, "needs the label 'token_id'"),
        (lambda ds: ds, {"measure": "square"}, ValueError, "measure must be 'magnitude' or 'signed'"),
        (lambda ds: ds, {"network": Z(3.1)}, TypeError, "network must be Top"),
        (lambda ds: ds, {"n_permutations": 0}, ValueError, "n_permutations must be at least 1"),
        (lambda ds: ds.isel(prompt=ds["condition"] == "a"), {}, ValueError, "at least two conditions, got"),
        (lambda ds: ds.isel(prompt=ds["run"] == 0), {}, ValueError, "at least two values of 'run'"),
        (
            lambda ds: ds,
            {"by": "condition"},
            ValueError,
            "condition 'a' has 0 prompts when one condition is left out",
        ),
        (lambda ds: ds, {"by": "block"}, ValueError, "every block holds one condition only"),
        (lambda ds: ds["activation"], {}, TypeError, "expected a Dataset"),
    ],
)
def test_identify__refuses(change, options, error, message, tiny):
    with pytest.raises(error, match=message) as caught:
        identify(change(tiny), **options)
    assert isinstance(caught.value, ActomeError)
