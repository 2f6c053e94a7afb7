from itertools import permutations, product

import numpy as np
import pytest
import scipy.linalg
import scipy.stats
import xarray as xr

from actome.analyze.contrasts import compute_contrast
from actome.analyze.glm import fit_glm
from actome.analyze.permutation import permutation_test
from actome.store.blocks import prompt_level
from actome.store.phantom import phantom

EVERY = 10**5  # more than the small designs here have


def small(n_prompts=3, *, conditions=("a", "rest"), n_runs=1, seed=0):
    """Unequal prompts, one fewer of a condition, neurons 300 standard deviations from zero."""
    ds = phantom(
        conditions=conditions, n_prompts=n_prompts, n_runs=n_runs, n_tokens=(1, 6), n_layers=2, n_neurons=4,
        fraction=0.2, prompt_sd=1.0, dtype=np.float64, seed=seed,
    )  # fmt: skip
    return ds.assign(activation=ds["activation"] + 300.0).isel(prompt=slice(1, None))


def t_map(ds, contrast, **options):
    return compute_contrast(fit_glm(prompt_level(ds).compute(), **options), contrast)["stat"].to_numpy()


def reaching(null, stat):
    """Count the rows of a null that reach a statistic, ties included."""
    return (null >= stat - 1e-6).sum(axis=0)


def check_against(result, null):
    """Compare with all permutations (permutation, layer, neuron), the recorded labels first."""
    stat, n = null[0], len(null)
    assert result.attrs["n_permutations"] == n - 1 and result.attrs["n_distinct"] == n
    np.testing.assert_allclose(result["stat"], stat, rtol=1e-10)
    p = np.minimum(1, 2 * np.minimum(reaching(null, stat), reaching(-null, -stat)) / n)
    np.testing.assert_allclose(result["p_value"], p, rtol=1e-12)
    null = np.abs(null) if result.attrs["two_sided"] else null
    largest = null.max(axis=(1, 2))
    np.testing.assert_allclose(np.sort(result["null_max"]), np.sort(largest[1:]), rtol=1e-8)
    corrected = reaching(largest[:, None, None], null[0]) / n
    np.testing.assert_allclose(result["p_corrected"], corrected, rtol=1e-12)


def with_labels(ds, labels):
    return ds.assign_coords(condition=("prompt", np.array(labels, dtype=object)))


def orders_of(labels):
    """All distinct orders, the given one first."""
    return sorted(set(permutations(labels)), key=lambda order: order != tuple(labels))


@pytest.mark.parametrize(
    ("n_prompts", "unit", "two_sided"),
    [
        (3, "token", True),
        (3, "prompt", False),
        pytest.param(4, "token", False, marks=pytest.mark.slow),
    ],
)
def test_permutation_test__agrees_with_a_loop_over_all_labels(n_prompts, unit, two_sided):
    ds = small(n_prompts)
    orders = orders_of(ds["condition"].to_numpy())
    assert len(orders) == {4: 35, 3: 10}[n_prompts]
    null = [t_map(with_labels(ds, order), "a - rest", unit=unit) for order in orders]
    result = permutation_test(ds, "a - rest", unit=unit, two_sided=two_sided, n_permutations=EVERY)
    check_against(result, np.array(null))


def test_permutation_test__stays_within_runs_and_leaves_other_conditions_alone():
    ds = small(4, conditions=("a", "b", "rest"), n_runs=2)
    condition, run = ds["condition"].to_numpy(), ds["run"].to_numpy()
    places = [np.flatnonzero((run == r) & (condition != "b")) for r in (0, 1)]
    null = []
    for way in product(*(orders_of(condition[p]) for p in places)):
        labels = condition.copy()
        for p, order in zip(places, way, strict=True):
            labels[p] = order
        null.append(t_map(with_labels(ds, labels), "a - rest"))
    assert len(null) in (18, 36)
    result = permutation_test(ds, "a - rest", n_permutations=EVERY)
    check_against(result, np.array(null))
    assert result.attrs["exchangeability"] == "the labels a, rest are exchangeable between prompts of one run"


def test_permutation_test__keeps_a_numeric_confound_with_its_prompt(rng):
    ds = small().assign_coords(age=("prompt", rng.standard_normal(5)))
    orders = orders_of(ds["condition"].to_numpy())
    null = [t_map(with_labels(ds, order), "a - rest", confounds=("age",)) for order in orders]
    result = permutation_test(ds, "a - rest", confounds=("age",), n_permutations=EVERY)
    check_against(result, np.array(null))


def test_permutation_test__permutes_a_numeric_label(rng):
    ds = small().assign_coords(age=("prompt", rng.standard_normal(5))).isel(prompt=slice(4))
    ages = ds["age"].to_numpy()
    null = [
        t_map(ds.assign_coords(age=("prompt", ages[[*order]])), "age", formula="1 + age")
        for order in permutations(range(4))
    ]
    result = permutation_test(ds, "age", formula="1 + age", n_permutations=EVERY)
    check_against(result, np.array(null))
    assert result.attrs["exchangeability"] == "the labels in the formula are exchangeable between all prompts"


@pytest.mark.parametrize("contrast", ["a", "a - 2 * rest", pytest.param("a - rest", marks=pytest.mark.slow)])
def test_permutation_test__signs_agree_with_a_loop_over_restricted_fits(contrast):
    ds = small()
    fit = fit_glm(ds, measure="signed")
    X, n = fit["design"].to_numpy(), fit["count"].to_numpy()
    weights = np.array(compute_contrast(fit, contrast).attrs["weights"])
    Z = X @ scipy.linalg.null_space(weights[None])
    y = ds["activation"].mean("token").to_numpy().reshape(len(n), -1)
    root = np.sqrt(n)[:, None]
    fitted = Z @ np.linalg.lstsq(root * Z, root * y, rcond=None)[0]
    null = []
    for signs in product((1, -1), repeat=len(n)):
        drawn = (fitted + np.array(signs)[:, None] * (y - fitted)).reshape(len(n), 1, 2, 4)
        cube = ds["activation"] * 0 + xr.DataArray(drawn, dims=ds["activation"].dims).isel(token=0)
        null.append(t_map(ds.assign(activation=cube), contrast, measure="signed"))
    result = permutation_test(ds, contrast, measure="signed", scheme="signs", n_permutations=EVERY)
    check_against(result, np.array(null))


def cluster_t(x, y, axis):
    """CR1 t of a difference of means of independent prompts, from its definition."""
    groups, n, m = (x, y), x.shape[axis], y.shape[axis]
    inflation = (n + m) / (n + m - 1) * (n + m - 1) / (n + m - 2)
    variance = sum(g.var(axis=axis) / g.shape[axis] for g in groups)
    return (x.mean(axis=axis) - y.mean(axis=axis)) / np.sqrt(inflation * variance)


def prompt_means(ds, condition):
    values = ds["activation"].isel(prompt=np.flatnonzero(ds["condition"] == condition))
    return np.abs(values).mean("token").isel(layer=0, neuron=0).to_numpy()


def test_permutation_test__agrees_with_scipy_on_two_groups():
    ds = small(5).isel(layer=[0], neuron=[0])
    samples = [prompt_means(ds, c) for c in ("a", "rest")]
    for two_sided, alternative in ((False, "greater"), (True, "two-sided")):
        ours = permutation_test(ds, "a - rest", unit="prompt", two_sided=two_sided, n_permutations=EVERY)
        theirs = scipy.stats.permutation_test(
            samples, cluster_t, vectorized=True, n_resamples=np.inf, alternative=alternative
        )
        np.testing.assert_allclose(ours["stat"].item(), theirs.statistic, rtol=1e-9)
        if two_sided:
            np.testing.assert_allclose(ours["p_value"].item(), theirs.pvalue, rtol=1e-12)
        else:
            np.testing.assert_allclose(ours["p_corrected"].item(), theirs.pvalue, rtol=1e-12)


def test_permutation_test__drawn_p_is_near_scipys_over_all():
    ds = small(8).isel(layer=[0], neuron=[0])
    samples = [prompt_means(ds, c) for c in ("a", "rest")]
    exact = scipy.stats.permutation_test(
        samples, cluster_t, vectorized=True, n_resamples=np.inf, alternative="greater"
    ).pvalue
    ours = permutation_test(ds, "a - rest", unit="prompt", n_permutations=4000, seed=2)
    assert ours.attrs["n_distinct"] == 6435 and ours.attrs["n_permutations"] == 4000
    assert abs(ours["p_corrected"].item() - exact) < 4 * np.sqrt(exact * (1 - exact) / 4000)


def test_permutation_test__signs_agree_with_scipy_on_one_group():
    ds = small(8)
    ds = ds.isel(prompt=np.flatnonzero(ds["condition"] == "rest"), layer=[0], neuron=[0])
    ds = ds.assign(activation=ds["activation"] - 300.4)
    values = ds["activation"].mean("token").to_numpy().ravel()

    def t(x, axis):
        n = x.shape[axis]
        return x.mean(axis=axis) / np.sqrt(x.var(axis=axis) / (n - 1))

    ours = permutation_test(ds, "rest", measure="signed", unit="prompt", scheme="signs", n_permutations=EVERY)
    theirs = scipy.stats.permutation_test(
        (values,), t, permutation_type="samples", vectorized=True, n_resamples=np.inf, alternative="greater"
    )
    np.testing.assert_allclose(ours["stat"].item(), theirs.statistic, rtol=1e-9)
    np.testing.assert_allclose(ours["p_corrected"].item(), theirs.pvalue, rtol=1e-12)
