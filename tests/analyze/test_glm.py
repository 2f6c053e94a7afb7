import dask
import nilearn.glm
import numpy as np
import pytest
import statsmodels.api as sm
import xarray as xr
from distributed import Client, LocalCluster
from hypothesis import given, settings
from hypothesis import strategies as st

from actome.analyze.contrasts import compute_contrast
from actome.analyze.glm import fit_glm
from actome.store.archive import open as open_recording
from actome.store.blocks import prompt_level
from actome.store.errors import ActomeError
from actome.store.phantom import phantom

from .fitting.unequal import token_rows, unequal

MEASURES = ("magnitude", "signed")
NOISES = ("cluster", "cr2", "ols")
WAYS = [("run",), ("run", "token_position")]  # of the prompts' moments, of the cube itself


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize("noise", ["cluster", "ols"])
def test_fit_glm__agrees_with_statsmodels(measure, noise):
    ds = unequal()
    fit = fit_glm(ds, measure=measure, noise=noise).compute()
    y, X, group = token_rows(ds, fit)
    beta = fit["beta"].to_numpy().reshape(4, -1)
    covariance = fit["covariance"].to_numpy().reshape(4, 4, -1)
    for v in range(y.shape[1]):
        kwargs = {"cov_type": "cluster", "cov_kwds": {"groups": group}} if noise == "cluster" else {}
        theirs = sm.OLS(y[:, v], X).fit(**kwargs)
        np.testing.assert_allclose(beta[:, v], theirs.params, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(covariance[..., v], theirs.cov_params(), rtol=1e-8, atol=1e-12)
        np.testing.assert_allclose(
            fit["residual_variance"].to_numpy().ravel()[v], theirs.mse_resid, rtol=1e-9
        )
    assert (fit.attrs["rows"], fit.attrs["rank"]) == (len(y), 4)


@pytest.mark.parametrize("measure", MEASURES)
def test_fit_glm__ols_agrees_with_nilearn(measure):
    ds = unequal()
    fit = fit_glm(ds, measure=measure, noise="ols")
    y, X, _ = token_rows(ds, fit)
    labels, results = nilearn.glm.first_level.run_glm(y, X, noise_model="ols")
    theirs = nilearn.glm.compute_contrast(labels, results, np.array([1.0, -1.0, 0.0, 0.0]), stat_type="t")
    ours = compute_contrast(fit, "a - b")
    np.testing.assert_allclose(ours["effect"].to_numpy().ravel(), theirs.effect_size().ravel(), rtol=1e-9)
    np.testing.assert_allclose(ours["stat"].to_numpy().ravel(), theirs.stat().ravel(), rtol=1e-9)


@pytest.mark.parametrize("measure", MEASURES)
def test_fit_glm__prompt_unit_is_ols_on_the_prompts_means(measure):
    ds = unequal()
    fit = fit_glm(ds, measure=measure, noise="ols", unit="prompt")
    values = abs(ds["activation"]) if measure == "magnitude" else ds["activation"]
    y = values.astype(np.float64).mean("token").to_numpy().reshape(ds.sizes["prompt"], -1)
    contrast = compute_contrast(fit, "a - b").compute()
    for v in range(y.shape[1]):
        theirs = sm.OLS(y[:, v], fit["design"].to_numpy()).fit().t_test([1, -1, 0, 0])
        np.testing.assert_allclose(contrast["stat"].to_numpy().ravel()[v], theirs.tvalue.item(), rtol=1e-9)
        np.testing.assert_allclose(contrast["p_value"].to_numpy().ravel()[v], theirs.pvalue, rtol=1e-8)


CHECKED = [("magnitude", "cluster"), ("signed", "cr2"), ("magnitude", "ols"), ("signed", "ols")]


def assert_same_fit(a, b, rtol=1e-9):
    a, b = dask.compute(a, b)
    for name in ("beta", "covariance", "residual_variance"):
        xr.testing.assert_allclose(a[name], b[name], rtol=rtol, atol=1e-12)


@settings(max_examples=8)
@given(
    prompt=st.integers(3, 15),
    token=st.integers(2, 6),
    layer=st.integers(1, 2),
    neuron=st.integers(2, 5),
    option=st.sampled_from(CHECKED),
)
def test_fit_glm__does_not_depend_on_chunks(prompt, token, layer, neuron, option):
    ds = unequal()
    measure, noise = option
    chunked = ds.chunk({"prompt": prompt, "token": token, "layer": layer, "neuron": neuron})
    with dask.config.set(scheduler="synchronous"):
        assert_same_fit(
            fit_glm(ds, measure=measure, noise=noise), fit_glm(chunked, measure=measure, noise=noise)
        )


@settings(max_examples=10)
@given(order=st.permutations(range(15)), option=st.sampled_from(CHECKED))
def test_fit_glm__does_not_depend_on_the_order_of_prompts(order, option):
    ds = unequal()
    measure, noise = option
    with dask.config.set(scheduler="synchronous"):
        fits = (fit_glm(d, measure=measure, noise=noise) for d in (ds, ds.isel(prompt=order)))
        assert_same_fit(*fits)


@pytest.mark.parametrize(("measure", "noise"), CHECKED)
def test_fit_glm__is_the_same_from_summaries_and_from_disk(measure, noise, tiny, tiny_path):
    expected = fit_glm(tiny, measure=measure, noise=noise)
    for ds in (prompt_level(tiny), open_recording(tiny_path), open_recording(tiny_path, level="prompt")):
        fit = fit_glm(ds, measure=measure, noise=noise)
        assert_same_fit(fit, expected)
        assert fit.attrs["level"] == ("token" if "activation" in ds else "prompt")


@pytest.mark.parametrize("workers", [1, 4])
def test_fit_glm__does_not_depend_on_the_number_of_workers(workers):
    ds = unequal()
    expected = fit_glm(ds).compute(scheduler="synchronous")
    assert_same_fit(fit_glm(ds.chunk(prompt=2)).compute(scheduler="threads", num_workers=workers), expected)


def test_fit_glm__runs_on_a_cluster(tiny_path):
    expected = compute_contrast(fit_glm(open_recording(tiny_path)), "a - b").compute(scheduler="synchronous")
    with (
        LocalCluster(n_workers=1, threads_per_worker=2, processes=False, dashboard_address=None) as cluster,
        Client(cluster),
    ):
        got = compute_contrast(fit_glm(open_recording(tiny_path)), "a - b").compute()
    xr.testing.assert_allclose(got, expected)


@pytest.mark.parametrize("level", ["token", "prompt"])
@pytest.mark.parametrize("noise", NOISES)
def test_fit_glm__computes_nothing(level, noise, tiny_path, raise_if_computes):
    ds = open_recording(tiny_path, level=level)
    ds = ds.assign({k: v.compute() for k, v in ds.variables.items() if k == "token_id"})
    with raise_if_computes():
        fit = fit_glm(ds, noise=noise)
        contrasts = [compute_contrast(fit, c) for c in ("a - b", [[1, -1, 0, 0], [0, 1, -1, 0]])]
        with pytest.raises(AssertionError, match="something was computed"):
            contrasts[0]["stat"].compute()
    assert all(dask.is_dask_collection(c[name]) for c in contrasts for name in c)


def test_fit_glm__leaves_its_input_unchanged(tiny):
    before = tiny.copy(deep=True)
    fit_glm(tiny).compute()
    xr.testing.assert_identical(tiny, before)


@pytest.mark.parametrize("noise", NOISES)
@pytest.mark.parametrize("lazy", [False, True])
def test_fit_glm__ignores_prompts_without_tokens(noise, lazy):
    ds = unequal()
    empty = ds.copy(deep=True)
    empty["token_id"][{"prompt": 4}] = -1
    empty["activation"][{"prompt": 4}] = np.nan
    without = ds.isel(prompt=[i for i in range(ds.sizes["prompt"]) if i != 4])
    fit = fit_glm(empty.chunk(prompt=4) if lazy else empty, noise=noise)
    assert_same_fit(fit, fit_glm(without, noise=noise))
    assert compute_contrast(fit, "a - b").attrs["selected_on"] == without["prompt"].to_numpy().tolist()


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize("noise", NOISES)
@pytest.mark.parametrize("unit", ["token", "prompt"])
def test_compute_contrast__has_no_statistic_where_a_neuron_never_varies(measure, noise, unit):
    ds = unequal(dtype=np.float64)
    valid = (ds["token_id"] != -1).to_numpy()
    constants = [0.0, 0.1, -1e5 / 3, np.nan]
    for v, value in enumerate(constants):
        ds["activation"].to_numpy()[..., 0, v] = np.where(valid, value, np.nan)
    fit = fit_glm(ds, measure=measure, noise=noise, unit=unit)
    for contrast in ("a - b", "a", [[1, -1, 0, 0], [0, 1, -1, 0]]):
        ours = compute_contrast(fit, contrast).compute()
        for name in ("stat", "z_score", "p_value"):
            assert np.isnan(ours[name].to_numpy()[0, : len(constants)]).all()
            assert np.isfinite(ours[name].to_numpy()[0, len(constants) :]).all()


def test_compute_contrast__has_no_statistic_where_only_the_sign_varies(rng):
    ds = unequal(dtype=np.float64)
    ds["activation"].to_numpy()[..., 0, 0] = np.where(
        ds["token_id"] != -1, 0.3 * rng.choice([-1, 1], ds["token_id"].shape), np.nan
    )
    for noise in NOISES:
        assert np.isnan(compute_contrast(fit_glm(ds, noise=noise), "a - b")["stat"].to_numpy()[0, 0])
        assert np.isfinite(
            compute_contrast(fit_glm(ds, measure="signed", noise=noise), "a - b")["stat"].to_numpy()[0, 0]
        )


def test_compute_contrast__has_no_statistic_where_two_conditions_never_vary():
    ds = unequal(dtype=np.float64)
    still = ((ds["condition"] != "rest") & (ds["token_id"] != -1)).to_numpy()
    ds["activation"].to_numpy()[..., 0, 0][still] = 0.1
    fit = fit_glm(ds, confounds=())
    assert np.isnan(compute_contrast(fit, "a - b")["stat"].to_numpy()[0, 0])
    assert np.isfinite(compute_contrast(fit, "a - rest")["stat"].to_numpy()[0, 0])


def test_fit_glm__keeps_its_digits_far_from_zero():
    ds = unequal(dtype=np.float64)
    shifted = ds.assign(activation=ds["activation"] + 1e5)
    for noise in NOISES:
        a, b = (compute_contrast(fit_glm(d, measure="signed", noise=noise), "a - b") for d in (ds, shifted))
        np.testing.assert_allclose(a["stat"], b["stat"], rtol=1e-6)


@pytest.mark.parametrize("measure", MEASURES)
def test_fit_glm__recovers_the_planted_effect(measure):
    ds = phantom(n_prompts=30, effect=2.0, prompt_sd=0.3, autocorrelation=0.3, seed=4)
    contrast = compute_contrast(fit_glm(ds, measure=measure), "a - rest").compute()
    planted = (ds["true_effect"].sel(condition_name="a") > 0).to_numpy()
    stat = contrast["stat"].to_numpy()
    assert (
        stat[planted].min()
        > np.abs(stat[~planted & (ds["true_effect"].sum("condition_name") == 0).to_numpy()]).max()
    )
    if measure == "signed":
        inside = np.abs(contrast["effect"].to_numpy()[planted] - 2.0) / np.sqrt(
            contrast["variance"].to_numpy()[planted]
        )
        assert inside.max() < 4


def false_positives(measure, noise, contrast, n_seeds=4, n_prompts=20):
    p = []
    for seed in range(n_seeds):
        ds = phantom(
            n_prompts=n_prompts,
            n_layers=4,
            n_neurons=100,
            effect=0.0,
            prompt_sd=0.5,
            autocorrelation=0.5,
            seed=seed,
        )
        p.append(
            compute_contrast(fit_glm(ds, measure=measure, noise=noise), contrast)["p_value"]
            .to_numpy()
            .ravel()
        )
    return np.concatenate(p)


def excess(p, alpha):
    """Standard errors by which the share of p below alpha exceeds alpha."""
    return ((p <= alpha).mean() - alpha) / np.sqrt(alpha * (1 - alpha) / len(p))


@pytest.mark.parametrize("measure", MEASURES)
def test_compute_contrast__is_calibrated_on_a_null_with_prompt_effects(measure):
    for noise in ("cluster", "cr2"):
        p = false_positives(measure, noise, "a - b")
        assert len(p) == 1600
        assert all(abs(excess(p, alpha)) < 3 for alpha in (0.05, 0.01, 0.001)), noise
    # the same neurons, taken for independent tokens, must fail the test
    p = false_positives(measure, "ols", "a - b")
    assert all(excess(p, alpha) > 10 for alpha in (0.05, 0.01, 0.001))


def test_compute_contrast__f_is_calibrated_on_a_null_with_few_prompts():
    p = false_positives("magnitude", "cr2", [[1, -1, 0, 0], [0, 1, -1, 0]], n_prompts=6)
    assert all(excess(p, alpha) < 3 for alpha in (0.05, 0.01, 0.001))
    assert (p <= 0.05).mean() > 0.02


def test_compute_contrast__cr2_is_calibrated_with_few_prompts():
    p = false_positives("signed", "cr2", "a - b", n_prompts=4)
    assert all(abs(excess(p, alpha)) < 3 for alpha in (0.05, 0.01, 0.001))


@pytest.mark.parametrize("option", [{"measure": "square"}, {"noise": "white"}, {"unit": "layer"}])
def test_fit_glm__refuses_an_unknown_option(option, tiny):
    (name,) = option
    with pytest.raises(ValueError, match=f"{name} must be .*, got '{option[name]}'") as caught:
        fit_glm(tiny, **option)
    assert isinstance(caught.value, ActomeError)


def test_fit_glm__refuses_what_is_no_recording(tiny):
    with pytest.raises(TypeError, match="expected a Dataset"):
        fit_glm(tiny["activation"])
    with pytest.raises(ValueError, match="neither 'activation' nor per-prompt moments"):
        fit_glm(tiny[["true_effect"]])
    with pytest.raises(ValueError, match="activation must have dims"):
        fit_glm(tiny.isel(layer=0))


def test_fit_glm__refuses_too_few_prompts(tiny):
    with pytest.raises(ValueError, match="3 prompts are too few for 3 regressors"):
        fit_glm(tiny.isel(prompt=[0, 1, 2]), "block", confounds=())
