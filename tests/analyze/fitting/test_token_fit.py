"""Fits that go through the cube itself: regressors that vary inside a prompt, and noise that remembers."""

import dask
import nilearn.glm
import numpy as np
import pytest
import statsmodels.api as sm
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from nilearn.glm.first_level import run_glm

from actome.analyze.contrasts import compute_contrast
from actome.analyze.fitting.sandwich import Basis
from actome.analyze.fitting.token_fit import fit_tokens
from actome.analyze.glm import fit_glm
from actome.store.archive import open as open_recording
from actome.store.phantom import phantom

from .unequal import token_rows, unequal

NOISES = ("cluster", "cr2", "ols", "ar1")
OPTIONS = {
    "formula": "condition + bs(token_position, df=4)",
    "confounds": ("run", "log_frequency", "n_tokens"),
}


def theirs(y, X, group, noise):
    clustered = {"cov_type": "cluster", "cov_kwds": {"groups": group}}
    return sm.OLS(y, X).fit(**(clustered if noise == "cluster" else {}))


@pytest.mark.parametrize("measure", ["magnitude", "signed"])
@pytest.mark.parametrize("noise", ["cluster", "ols"])
@pytest.mark.parametrize("far", [0.0, 300.0])
def test_fit_glm__of_regressors_that_vary_agrees_with_statsmodels(measure, noise, far):
    ds = unequal(n_tokens=(2, 9), dtype=np.float64)
    ds = ds.assign(activation=ds["activation"] + far)
    fit = fit_glm(ds, **OPTIONS, measure=measure, noise=noise).compute()
    y, X, group = token_rows(ds, fit)
    p = X.shape[1]
    beta, covariance = (
        fit[n].to_numpy().reshape(*s, -1) for n, s in (("beta", (p,)), ("covariance", (p, p)))
    )
    for v in range(y.shape[1]):
        result = theirs(y[:, v], X, group, noise)
        se = np.sqrt(np.diag(result.cov_params()))
        np.testing.assert_allclose(beta[:, v] / se, result.params / se, rtol=1e-8, atol=1e-8)
        scale = np.outer(se, se)
        np.testing.assert_allclose(covariance[..., v] / scale, result.cov_params() / scale, atol=1e-8)
        assert fit["residual_variance"].to_numpy().ravel()[v] == pytest.approx(result.mse_resid, rel=1e-9)
        assert fit["r_squared"].to_numpy().ravel()[v] == pytest.approx(result.rsquared, rel=1e-8)
    assert (fit.attrs["rows"], fit.attrs["rank"]) == X.shape


def test_compute_contrast__of_regressors_that_vary_agrees_with_statsmodels():
    ds = unequal(n_tokens=(2, 9))
    for noise, weights in (("cluster", "a - b"), ("ols", "token_position")):
        fit = fit_glm(ds, confounds=("run", "token_position"), noise=noise)
        ours = compute_contrast(fit, weights).compute()
        y, X, group = token_rows(ds, fit)
        for v in range(y.shape[1]):
            t = theirs(y[:, v], X, group, noise).t_test(ours.attrs["weights"])
            assert ours["stat"].to_numpy().ravel()[v] == pytest.approx(t.tvalue.item(), rel=1e-8)


@pytest.mark.parametrize("noise", ["cluster", "cr2", "ols"])
@pytest.mark.parametrize("measure", ["magnitude", "signed"])
def test_fit_tokens__is_what_the_moments_give_where_nothing_varies(measure, noise):
    ds = unequal().chunk(prompt=4, neuron=2)
    expected = fit_glm(ds, measure=measure, noise=noise).compute()
    count = expected["count"].to_numpy()
    ones = np.ones_like(count)
    basis = Basis.of(expected["design"], count)
    got = fit_tokens(ds, basis, count, ones, measure=measure, noise=noise)
    for name, array in got.items():
        np.testing.assert_allclose(array.compute(), expected[name], rtol=1e-9, atol=1e-13)


def whitened(values, group, rho):
    """What AR(1) leaves of rows, the first of each prompt as it is."""
    out = values.astype(float).copy()
    again = np.flatnonzero(group[1:] == group[:-1]) + 1
    out[again] -= rho * values[again - 1]
    return out


@pytest.mark.parametrize("measure", ["magnitude", "signed"])
@pytest.mark.parametrize("confounds", [("run",), ("run", "token_position")])
@pytest.mark.parametrize("far", [0.0, 300.0])
def test_fit_glm__ar1_is_ols_of_what_was_whitened(measure, confounds, far):
    ds = unequal(n_tokens=(1, 12), dtype=np.float64)
    ds = ds.assign(activation=ds["activation"] + far)
    fit = fit_glm(ds, measure=measure, noise="ar1", confounds=confounds).compute()
    y, X, group = token_rows(ds, fit)
    residual = y - X @ np.linalg.lstsq(X, y, rcond=None)[0]
    pairs = group[1:] == group[:-1]
    rho = (residual[1:] * residual[:-1])[pairs].sum(axis=0) / np.square(residual).sum(axis=0)
    np.testing.assert_allclose(fit["autocorrelation"].to_numpy().ravel(), rho, rtol=1e-7, atol=1e-9)
    p = X.shape[1]
    for v, r in enumerate(np.trunc(rho * 100) / 100):
        result = sm.OLS(whitened(y[:, v], group, r), whitened(X, group, r)).fit()
        np.testing.assert_allclose(fit["beta"].to_numpy().reshape(p, -1)[:, v], result.params, rtol=1e-7)
        ours = fit["covariance"].to_numpy().reshape(p, p, -1)[..., v]
        np.testing.assert_allclose(ours, result.cov_params(), rtol=1e-7, atol=1e-9 * np.abs(ours).max())
        assert fit["residual_variance"].to_numpy().ravel()[v] == pytest.approx(result.mse_resid, rel=1e-8)


@pytest.mark.parametrize("measure", ["magnitude", "signed"])
def test_fit_glm__ar1_agrees_with_nilearn_on_one_prompt(measure, rng):
    ds = phantom(n_prompts=1, n_tokens=(1600, 1600), n_layers=2, n_neurons=30, autocorrelation=0.4, seed=1)
    ds = ds.isel(prompt=[0]).assign(token_id=(("prompt", "token"), rng.integers(0, 40, (1, 1600))))
    fit = fit_glm(ds, "token_position + log_frequency", noise="ar1", measure=measure).compute()
    y, X, _ = token_rows(ds, fit)
    labels, results = run_glm(y, X, noise_model="ar1")
    expected = nilearn.glm.compute_contrast(labels, results, np.array([0.0, 1.0, 0.0]), stat_type="t")
    ours = compute_contrast(fit, "token_position").compute()
    rho = np.trunc(fit["autocorrelation"].to_numpy().ravel() * 100) / 100
    same = np.isclose(rho, np.asarray(labels, dtype=float))  # their estimate divides by one token less
    assert same.mean() > 0.9
    for mine, other in ((ours["stat"], expected.stat()), (ours["effect"], expected.effect_size())):
        np.testing.assert_allclose(mine.to_numpy().ravel()[same], other.ravel()[same], rtol=1e-9)


@pytest.mark.parametrize("confounds", [("run",), ("run", "token_position")])
@pytest.mark.parametrize("noise", ["cluster", "ols"])
def test_fit_glm__weights_agree_with_statsmodels(confounds, noise, rng):
    ds = unequal(n_tokens=(2, 9))
    ds = ds.assign_coords(precision=("prompt", rng.uniform(0.2, 5.0, ds.sizes["prompt"])))
    fit = fit_glm(ds, confounds=confounds, noise=noise, weights="precision").compute()
    y, X, group = token_rows(ds, fit)
    w = ds["precision"].to_numpy()[group]
    clustered = {"cov_type": "cluster", "cov_kwds": {"groups": group}} if noise == "cluster" else {}
    p = X.shape[1]
    for v in range(y.shape[1]):
        result = sm.WLS(y[:, v], X, weights=w).fit(**clustered)
        np.testing.assert_allclose(fit["beta"].to_numpy().reshape(p, -1)[:, v], result.params, rtol=1e-8)
        ours = fit["covariance"].to_numpy().reshape(p, p, -1)[..., v]
        np.testing.assert_allclose(ours, result.cov_params(), rtol=1e-7, atol=1e-9 * np.abs(ours).max())
        assert fit["r_squared"].to_numpy().ravel()[v] == pytest.approx(result.rsquared, rel=1e-8)
    root = np.sqrt(w)
    expected = sm.OLS(root * y[:, 0], root[:, None] * X).fit().get_influence().hat_matrix_diag
    np.testing.assert_allclose(fit["leverage"], np.bincount(group, expected), rtol=1e-8)


def assert_same(a, b):
    a, b = dask.compute(a, b)
    for name in ("beta", "covariance", "residual_variance", "r_squared"):
        xr.testing.assert_allclose(a[name], b[name], rtol=1e-8, atol=1e-12)


@settings(max_examples=12)
@given(
    prompt=st.integers(3, 15),
    layer=st.integers(1, 2),
    neuron=st.integers(2, 5),
    order=st.permutations(range(15)),
    noise=st.sampled_from(NOISES),
)
def test_fit_glm__of_the_cube_does_not_depend_on_chunks_or_order(prompt, layer, neuron, order, noise):
    ds = unequal()
    chunked = ds.isel(prompt=order).chunk({"prompt": prompt, "layer": layer, "neuron": neuron})
    with dask.config.set(scheduler="synchronous"):
        assert_same(*(fit_glm(x, confounds=("run", "token_position"), noise=noise) for x in (ds, chunked)))


@pytest.mark.parametrize("noise", NOISES)
def test_fit_glm__of_the_cube_does_not_depend_on_workers(noise):
    ds = unequal().chunk(prompt=2, neuron=3)
    fits = [fit_glm(ds, confounds=("token_position",), noise=noise) for _ in range(2)]
    assert_same(fits[0].compute(scheduler="synchronous"), fits[1].compute(scheduler="threads", num_workers=4))


@pytest.mark.parametrize("noise", NOISES)
def test_fit_glm__of_the_cube_takes_what_was_sliced_and_changed(noise, tiny_path):
    ds = open_recording(tiny_path)
    part = {"prompt": slice(1, -1), "layer": slice(1, None), "neuron": slice(2, None, 2)}
    lazy = ds.isel(part).assign(activation=2 * ds["activation"].isel(part))
    options = {"confounds": ("run", "token_position"), "noise": noise}
    assert_same(fit_glm(lazy, **options), fit_glm(lazy.compute(), **options))


@pytest.mark.parametrize("noise", NOISES)
def test_fit_glm__of_the_cube_computes_nothing(noise, tiny_path, raise_if_computes):
    ds = open_recording(tiny_path)
    ds = ds.assign({k: v.compute() for k, v in ds.variables.items() if k == "token_id"})
    with raise_if_computes():
        contrast = compute_contrast(fit_glm(ds, confounds=("token_position",), noise=noise), "a - b")
    assert dask.is_dask_collection(contrast)


@pytest.mark.parametrize("noise", NOISES)
def test_compute_contrast__of_the_cube_has_no_statistic_where_a_neuron_never_varies(noise):
    ds = unequal(dtype=np.float64)
    valid = (ds["token_id"] != -1).to_numpy()
    constants = [0.0, 0.1, -1e5 / 3, np.nan]
    for v, value in enumerate(constants):
        ds["activation"].to_numpy()[..., 0, v] = np.where(valid, value, np.nan)
    ds["activation"].to_numpy()[3, 0, 0, 3] = np.inf
    ours = compute_contrast(fit_glm(ds, noise=noise, confounds=("token_position",)), "a - b").compute()
    for name in ("stat", "z_score", "p_value"):
        assert np.isnan(ours[name].to_numpy()[0, : len(constants)]).all()
        assert np.isfinite(ours[name].to_numpy()[0, len(constants) :]).all()


@pytest.mark.parametrize("noise", NOISES)
def test_fit_glm__of_a_design_without_a_constant(noise):
    ds = unequal(n_tokens=(2, 9), dtype=np.float64)
    ds = ds.assign(activation=ds["activation"] + 5.0)
    fit = fit_glm(ds, "0 + token_position", confounds=(), noise=noise).compute()
    y, X, group = token_rows(ds, fit)
    rows, design = y[:, 3], X
    if noise == "ar1":
        rho = float(np.trunc(fit["autocorrelation"].to_numpy().ravel()[3] * 100) / 100)
        rows, design = whitened(rows, group, rho), whitened(X, group, rho)
    result = theirs(rows, design, group, noise)
    assert fit["beta"].to_numpy().ravel()[3] == pytest.approx(result.params[0], rel=1e-9)
    if noise != "cr2":
        assert fit["covariance"].to_numpy().ravel()[3] == pytest.approx(result.cov_params()[0, 0], rel=1e-8)


def test_fit_glm__excluded_tokens_are_left_out_of_the_dataset():
    ds = unequal(n_tokens=(2, 9))
    fit = fit_glm(ds.isel(token=slice(1, None)), confounds=("token_position",), noise="ols").compute()
    y, X, _ = token_rows(ds.isel(token=slice(1, None)), fit)
    result = sm.OLS(y[:, 1], X).fit()
    np.testing.assert_allclose(fit["beta"].to_numpy().reshape(X.shape[1], -1)[:, 1], result.params, rtol=1e-9)
    assert fit.attrs["rows"] == int((ds["token_id"].isel(token=slice(1, None)) != -1).sum())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"unit": "prompt", "noise": "ar1"}, "noise='ar1' is about tokens"),
        ({"unit": "prompt", "confounds": ("token_position",)}, "varies inside prompts"),
        ({"weights": "condition"}, "weights must name a label"),
        ({"weights": "n_words"}, "weights must name a label"),
        ({"weights": "zero"}, "must be positive"),
    ],
)
def test_fit_glm__refuses_what_does_not_go_together(options, message):
    ds = unequal()
    ds = ds.assign_coords(zero=("prompt", np.zeros(ds.sizes["prompt"])))
    with pytest.raises(ValueError, match=message):
        fit_glm(ds, **options)


def test_fit_glm__ar1_needs_the_tokens(tiny_path):
    with pytest.raises(ValueError, match="open the cube"):
        fit_glm(open_recording(tiny_path, level="prompt"), noise="ar1")
