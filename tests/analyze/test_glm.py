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
from actome.analyze.glm import fit_glm, satterthwaite_dof
from actome.store.archive import open as open_recording
from actome.store.blocks import prompt_level
from actome.store.errors import ActomeError
from actome.store.phantom import phantom

MEASURES = ("magnitude", "signed")
NOISES = ("cluster", "cr2", "ols")


def unequal(seed=0, **options):
    """Conditions and runs of unequal size, prompts of unequal length, tokens that depend on each other."""
    made = {
        "n_prompts": 6,
        "n_tokens": (1, 6),
        "n_layers": 2,
        "n_neurons": 5,
        "fraction": 0.1,
        "prompt_sd": 1.0,
    }
    ds = phantom(**{**made, **options}, autocorrelation=0.4, seed=seed)
    return ds.isel(prompt=[i for i in range(ds.sizes["prompt"]) if i not in (0, 3, 4)])


def token_rows(ds, fit):
    """Valid activations, their design, their prompt: (row, neuron), (row, regressor), (row,)."""
    valid = (ds["token_id"] != -1).to_numpy()
    y = ds["activation"].to_numpy().astype(np.float64)[valid].reshape(valid.sum(), -1)
    group = np.nonzero(valid)[0]
    y = np.abs(y) if fit.attrs["measure"] == "magnitude" else y
    return y, fit["design"].to_numpy()[group], group


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


def brute_force(X, group, noise):
    """Full hat matrix H, and each cluster's adjustment of its residuals, by eigenvalues."""
    H = X @ np.linalg.solve(X.T @ X, X.T)
    n, k, n_groups = *X.shape, len(set(group))
    adjust = []
    for g in sorted(set(group)):
        own = group == g
        if noise == "cluster":
            adjust.append(np.eye(own.sum()) * np.sqrt(n_groups / (n_groups - 1) * (n - 1) / (n - k)))
            continue
        values, vectors = np.linalg.eigh((np.eye(n) - H)[np.ix_(own, own)])
        adjust.append(vectors @ np.diag(values**-0.5) @ vectors.T)
    return H, adjust


@pytest.mark.parametrize("measure", MEASURES)
def test_fit_glm__cr2_agrees_with_matrix_square_roots(measure):
    ds = unequal()
    fit = fit_glm(ds, measure=measure, noise="cr2").compute()
    y, X, group = token_rows(ds, fit)
    H, adjust = brute_force(X, group, "cr2")
    bread = np.linalg.inv(X.T @ X)
    e = y - H @ y
    scores = [X[group == g].T @ A @ e[group == g] for g, A in enumerate(adjust)]
    meat = np.einsum("giv,gjv->ijv", scores, scores)
    expected = np.einsum("ai,ijv,jb->abv", bread, meat, bread)
    np.testing.assert_allclose(
        fit["covariance"].to_numpy().reshape(expected.shape), expected, rtol=1e-9, atol=1e-13
    )


@pytest.mark.parametrize("noise", ["cluster", "cr2"])
@pytest.mark.parametrize(
    "weights", [[1, -1, 0, 0], [1, -0.5, -0.5, 0], [0, 0, 0, 1], [[1, -1, 0, 0], [0, 1, -1, 0]]]
)
def test_satterthwaite_dof__agrees_with_the_full_quadratic_forms(noise, weights):
    ds = unequal()
    fit = fit_glm(ds, noise=noise)
    _, X, group = token_rows(ds, fit)
    H, adjust = brute_force(X, group, noise)
    M = np.eye(len(X)) - H
    loading = X @ np.linalg.inv(X.T @ X) @ np.atleast_2d(weights).T
    # u[g, s]: what a cluster's score of row s is, as a vector over all rows
    u = np.array([M[:, group == g] @ A @ loading[group == g] for g, A in enumerate(adjust)]).transpose(
        0, 2, 1
    )
    expected = np.einsum("gsn,gtn->st", u, u)
    values, vectors = np.linalg.eigh(expected)
    u = np.einsum("st,gtn->gsn", (vectors / np.sqrt(values)).T, u)
    inner = np.einsum("gsn,htn->gsht", u, u)
    spread = np.einsum("gshs,gtht->", inner, inner) + np.einsum("gsht,gths->", inner, inner)
    q = len(expected)
    X_prompt, count = fit["design"].to_numpy(), fit["count"].to_numpy()
    ours = satterthwaite_dof(X_prompt, count, np.array(weights, dtype=float), noise)
    assert ours == pytest.approx(q * (q + 1) / spread, rel=1e-9)
    if q == 1:
        eigenvalues = np.linalg.eigvalsh(inner[:, 0, :, 0])
        assert ours == pytest.approx(eigenvalues.sum() ** 2 / np.square(eigenvalues).sum(), rel=1e-9)


def test_satterthwaite_dof__is_the_textbook_value_for_two_balanced_groups():
    X = np.kron(np.eye(2), np.ones((5, 1)))
    assert satterthwaite_dof(X, np.full(10, 7.0), np.array([1.0, -1.0]), "cr2") == pytest.approx(8.0)
    assert satterthwaite_dof(X, np.full(10, 7.0), np.array([1.0, 0.0]), "cr2") == pytest.approx(4.0)


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
    with pytest.raises(ValueError, match=f"{name} must be one of .*, got '{option[name]}'") as caught:
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
