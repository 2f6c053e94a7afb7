import numpy as np
import pytest
import scipy.stats
import statsmodels.api as sm
import xarray as xr

from actome.analyze.contrasts import compute_contrast
from actome.analyze.glm import fit_glm
from actome.store.errors import ActomeError
from actome.store.phantom import phantom

NAMES = ["fr", "en", "de", "run[0]"]
CONDITIONS = ["fr", "en", "de"]


@pytest.fixture(scope="module")
def ds():
    return phantom(n_prompts=6, n_tokens=(2, 6), n_layers=2, n_neurons=4, fraction=0.2, prompt_sd=0.5, seed=2)


def tokens(ds, fit):
    valid = (ds["token_id"] != -1).to_numpy()
    y = np.abs(ds["activation"].to_numpy().astype(np.float64)[valid]).reshape(valid.sum(), -1)
    group = np.nonzero(valid)[0]
    return y, fit["design"].to_numpy()[group], group


@pytest.mark.parametrize(
    ("contrast", "weights"),
    [
        ("a - b", [1, -1, 0, 0]),
        ("a - mean(b, rest)", [1, -0.5, -0.5, 0]),
        ("a", [1, 0, 0, 0]),
        ({"a": 2, "rest": -2}, [2, 0, -2, 0]),
        ([0, 0, 0, 1], [0, 0, 0, 1]),
    ],
)
def test_compute_contrast__t_agrees_with_statsmodels(contrast, weights, ds):
    for noise, kwargs in (("cluster", {"cov_type": "cluster"}), ("ols", {})):
        fit = fit_glm(ds, noise=noise)
        ours = compute_contrast(fit, contrast).compute()
        y, X, group = tokens(ds, fit)
        if noise == "cluster":
            kwargs = {**kwargs, "cov_kwds": {"groups": group}}
        for v in range(y.shape[1]):
            theirs = sm.OLS(y[:, v], X).fit(**kwargs).t_test(weights)
            mine = {name: ours[name].to_numpy().ravel()[v] for name in ours}
            np.testing.assert_allclose(mine["effect"], theirs.effect.item(), rtol=1e-9)
            np.testing.assert_allclose(mine["variance"], theirs.sd.item() ** 2, rtol=1e-8)
            np.testing.assert_allclose(mine["stat"], theirs.tvalue.item(), rtol=1e-8)
            p = 2 * scipy.stats.t.sf(abs(mine["stat"]), ours["dof"].item())
            np.testing.assert_allclose(mine["p_value"], p, rtol=1e-9)
            if noise == "ols":
                np.testing.assert_allclose(mine["p_value"], theirs.pvalue, rtol=1e-7)


ROWS = np.array([[1.0, -1, 0, 0], [0, 1, -1, 0]])


def test_compute_contrast__f_agrees_with_statsmodels(ds):
    for noise in ("cluster", "ols"):
        fit = fit_glm(ds, noise=noise)
        ours = compute_contrast(fit, ROWS).compute()
        y, X, group = tokens(ds, fit)
        kwargs = (
            {"cov_type": "cluster", "cov_kwds": {"groups": group}, "use_t": True}
            if noise == "cluster"
            else {}
        )
        for v in range(y.shape[1]):
            theirs = sm.OLS(y[:, v], X).fit(**kwargs).f_test(ROWS)
            np.testing.assert_allclose(ours["stat"].to_numpy().ravel()[v], theirs.fvalue, rtol=1e-7)
            if noise == "ols":
                np.testing.assert_allclose(ours["p_value"].to_numpy().ravel()[v], theirs.pvalue, rtol=1e-7)


@pytest.mark.parametrize("noise", ["cluster", "cr2", "ols"])
def test_compute_contrast__f_does_not_depend_on_how_its_rows_are_written(noise, ds):
    fit = fit_glm(ds, noise=noise)
    other = np.array([[1.0, 3.0], [-200.0, 50.0]]) @ ROWS
    a, b = (compute_contrast(fit, rows).compute() for rows in (ROWS, other))
    for name in ("stat", "p_value", "z_score", "dof"):
        np.testing.assert_allclose(a[name], b[name], rtol=1e-8)


@pytest.mark.parametrize("noise", ["cluster", "cr2", "ols"])
def test_compute_contrast__f_of_one_row_is_t_squared(noise, ds):
    fit = fit_glm(ds, noise=noise)
    t, f = compute_contrast(fit, ROWS[0]), compute_contrast(fit, ROWS[:1])
    np.testing.assert_allclose(f["stat"], t["stat"] ** 2, rtol=1e-9)
    np.testing.assert_allclose(f["p_value"], t["p_value"], rtol=1e-7)
    assert f["dof"].item() == pytest.approx(t["dof"].item())


def test_compute_contrast__f_p_is_hotellings(ds):
    f = compute_contrast(fit_glm(ds), ROWS).compute()
    dof = f["dof"].item()
    assert f["dof_numerator"].item() == 2
    np.testing.assert_allclose(f["p_value"], scipy.stats.f.sf(f["stat"] * dof / (dof + 1), 2, dof), rtol=1e-9)
    np.testing.assert_allclose(scipy.stats.norm.sf(f["z_score"]), f["p_value"], rtol=1e-7)


def test_compute_contrast__z_has_the_sign_and_the_tail_of_t(ds):
    contrast = compute_contrast(fit_glm(ds), "a - b").compute()
    z, t = contrast["z_score"].to_numpy(), contrast["stat"].to_numpy()
    assert (np.sign(z) == np.sign(t)).all()
    np.testing.assert_allclose(2 * scipy.stats.norm.sf(np.abs(z)), contrast["p_value"], rtol=1e-8)


def test_compute_contrast__z_stays_finite_and_ordered_where_p_vanishes():
    ds = phantom(n_prompts=50, n_tokens=(30, 40), effect=20.0, n_neurons=4, n_layers=1, fraction=0.25)
    contrast = compute_contrast(fit_glm(ds, measure="signed", noise="ols"), "a - b").compute()
    assert contrast["p_value"].min() == 0
    z = contrast["z_score"].to_numpy().ravel()[np.argsort(contrast["stat"].to_numpy().ravel())]
    assert (np.diff(z) >= 0).all() and np.abs(z).max() == pytest.approx(37.5, abs=0.1)


def test_compute_contrast__does_not_depend_on_the_order_of_conditions(ds):
    fit = fit_glm(ds)
    shuffled = fit.isel(regressor=[2, 0, 3, 1], regressor_other=[2, 0, 3, 1])
    order = shuffled["design"].regressor.to_numpy().tolist()
    assert order != fit["regressor"].to_numpy().tolist()
    for contrast in ("a - mean(rest)", {"a": 1.0, "b": -1.0}):
        xr.testing.assert_allclose(
            compute_contrast(fit, contrast), compute_contrast(shuffled, contrast), rtol=1e-9
        )


def test_compute_contrast__says_what_it_used(ds):
    attrs = compute_contrast(fit_glm(ds, measure="signed", noise="cr2"), {"a": 1, "b": -1}).attrs
    assert attrs["selected_on"] == ds["prompt"].to_numpy().tolist()
    assert (attrs["measure"], attrs["noise"], attrs["contrast"]) == ("signed", "cr2", "+1 a -1 b")
    assert attrs["assumption"] == "prompts are independent of each other"
    assert "1.5 times too small" in compute_contrast(fit_glm(ds), "a - b").attrs["assumption"]
    means = compute_contrast(fit_glm(ds, noise="ols", unit="prompt"), "a - b")
    assert means.attrs["assumption"].startswith("the prompts' means")


@pytest.mark.parametrize("noise", ["cluster", "cr2"])
def test_compute_contrast__refuses_what_one_prompt_alone_determines(noise, ds):
    one = ds.isel(prompt=np.flatnonzero((ds["condition"] != "b") | (np.cumsum(ds["condition"] == "b") == 1)))
    fit = fit_glm(one, noise=noise, confounds=())
    with pytest.raises(ValueError, match="one prompt alone determines the contrast") as caught:
        compute_contrast(fit, "a - b")
    assert isinstance(caught.value, ActomeError)
    assert np.isfinite(compute_contrast(fit, "a - rest")["p_value"]).all()
    assert np.isfinite(compute_contrast(fit_glm(one, noise="ols", confounds=()), "a - b")["p_value"]).all()


def test_compute_contrast__refuses_an_f_of_too_few_prompts(ds):
    few = ds.isel(
        prompt=np.concatenate([np.flatnonzero(ds["condition"] == c)[:2] for c in ("a", "b", "rest")])
    )
    fit = fit_glm(few, confounds=())
    with pytest.raises(ValueError, match="too few prompts to test 3 rows at once"):
        compute_contrast(fit, np.eye(3))


@pytest.mark.parametrize(
    ("contrast", "error", "message"),
    [
        ({"x": 1}, ValueError, "unknown regressor 'x'; the fit has"),
        ({"a": "one"}, TypeError, "weights must be numbers"),
        ({"a": 0}, ValueError, "no weight other than zero"),
        ([1, -1], ValueError, r"must have 4 columns, .* got shape \(2,\)"),
        ([[[1, -1, 0, 0]]], ValueError, r"got shape \(1, 1, 4\)"),
        ([[1, -1, 0, 0], [0, 0, 0, 0]], ValueError, "no weight other than zero"),
        ([[1, -1, 0, 0], [-2, 2, 0, 0]], ValueError, "2 rows of the contrast are linearly dependent"),
        (np.empty((0, 4)), ValueError, "no weight other than zero"),
        ([1, np.nan, 0, 0], ValueError, "must be finite"),
        (None, (TypeError, ValueError), "contrast weights must"),
        ("a - a", ValueError, "no weight other than zero"),
    ],
)
def test_compute_contrast__refuses(contrast, error, message, ds):
    with pytest.raises(error, match=message) as caught:
        compute_contrast(fit_glm(ds), contrast)
    assert isinstance(caught.value, ActomeError)


def test_compute_contrast__refuses_what_is_no_fit(ds):
    with pytest.raises(TypeError, match=r"takes a fit from actome\.fit_glm"):
        compute_contrast(ds, "a - b")


def test_compute_contrast__rest_needs_cell_means(ds):
    fit = fit_glm(ds, "1 + condition")
    with pytest.raises(ValueError, match=r"mean\(\) of nothing; 'rest' stands for the cell means"):
        compute_contrast(fit, "Intercept - mean(rest)")
    assert compute_contrast(fit, "`condition[T.b]`").attrs["weights"] == [0, 1, 0, 0]
