import numpy as np
import pytest
import xarray as xr

from actome.analyze.design import design_matrix
from actome.analyze.fitting.sandwich import Basis, satterthwaite_dof
from actome.analyze.glm import fit_glm

from .unequal import token_rows, unequal

DESIGNS = {
    "constant inside prompts": {},
    "varying inside prompts": {"confounds": ("run", "token_position")},
    "nothing constant": {"formula": "condition * token_position", "confounds": ()},
}


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


@pytest.mark.parametrize("measure", ["magnitude", "signed"])
@pytest.mark.parametrize("design", DESIGNS)
def test_fit_glm__cr2_agrees_with_matrix_square_roots(measure, design):
    ds = unequal()
    fit = fit_glm(ds, measure=measure, noise="cr2", **DESIGNS[design]).compute()
    y, X, group = token_rows(ds, fit)
    H, adjust = brute_force(X, group, "cr2")
    bread = np.linalg.inv(X.T @ X)
    e = y - H @ y
    scores = [X[group == g].T @ A @ e[group == g] for g, A in enumerate(adjust)]
    meat = np.einsum("giv,gjv->ijv", scores, scores)
    expected = np.einsum("ai,ijv,jb->abv", bread, meat, bread)
    ours = fit["covariance"].to_numpy().reshape(expected.shape)
    np.testing.assert_allclose(ours, expected, rtol=1e-8, atol=1e-12 * np.abs(expected).max())


@pytest.mark.parametrize("noise", ["cluster", "cr2"])
@pytest.mark.parametrize("design", DESIGNS)
@pytest.mark.parametrize("rows", [[[1, -1, 0, 0]], [[0, 0, 0, 1]], [[1, -1, 0, 0], [0, 1, -1, 0]]])
def test_satterthwaite_dof__agrees_with_the_full_quadratic_forms(noise, design, rows):
    ds = unequal()
    fit = fit_glm(ds, noise=noise, **DESIGNS[design])
    _, X, group = token_rows(ds, fit)
    weights = np.zeros((len(rows), X.shape[1]))
    weights[:, :4] = rows
    H, adjust = brute_force(X, group, noise)
    M = np.eye(len(X)) - H
    loading = X @ np.linalg.inv(X.T @ X) @ weights.T
    # u[g, s]: what a cluster's score of row s is, as a vector over all rows
    u = np.array([M[:, group == g] @ A @ loading[group == g] for g, A in enumerate(adjust)])
    u = u.transpose(0, 2, 1)
    expected = np.einsum("gsn,gtn->st", u, u)
    values, vectors = np.linalg.eigh(expected)
    u = np.einsum("st,gtn->gsn", (vectors / np.sqrt(values)).T, u)
    inner = np.einsum("gsn,htn->gsht", u, u)
    spread = np.einsum("gshs,gtht->", inner, inner) + np.einsum("gsht,gths->", inner, inner)
    q = len(expected)
    ours = satterthwaite_dof(Basis.of(fit["design"], fit["count"].to_numpy()), weights, noise)
    assert ours == pytest.approx(q * (q + 1) / spread, rel=1e-8)
    if q == 1:
        eigenvalues = np.linalg.eigvalsh(inner[:, 0, :, 0])
        assert ours == pytest.approx(eigenvalues.sum() ** 2 / np.square(eigenvalues).sum(), rel=1e-8)


def test_satterthwaite_dof__is_the_textbook_value_for_two_balanced_groups():
    design = xr.DataArray(np.kron(np.eye(2), np.ones((5, 1))), dims=("prompt", "regressor"))
    basis = Basis.of(design, np.full(10, 7.0))
    assert satterthwaite_dof(basis, np.array([1.0, -1.0]), "cr2") == pytest.approx(8.0)
    assert satterthwaite_dof(basis, np.array([1.0, 0.0]), "cr2") == pytest.approx(4.0)


@pytest.mark.parametrize("noise", ["cluster", "cr2"])
def test_satterthwaite_dof__is_nan_where_one_prompt_alone_determines_the_contrast(noise):
    ds = unequal()
    ds["kind"] = ("prompt", np.array(["alone", *["other"] * (ds.sizes["prompt"] - 1)], dtype=object))
    ds = ds.set_coords("kind")
    for confounds in ((), ("token_position",)):
        design = design_matrix(ds, "kind", confounds)
        basis = Basis.of(design["design"], design["count"].to_numpy().astype(float))
        others = np.eye(basis.rank)[1]
        assert np.isnan(satterthwaite_dof(basis, np.eye(basis.rank)[0], noise))
        assert np.isfinite(satterthwaite_dof(basis, others, noise))


def test_basis__is_orthonormal_and_gives_back_the_design():
    ds = unequal()
    design = design_matrix(ds, "condition", ("run", "token_position"))
    count = design["count"].to_numpy().astype(float)
    basis = Basis.of(design["design"], count)
    np.testing.assert_allclose(basis.leverage.sum(axis=0), np.eye(basis.rank), atol=1e-12)
    rows = np.nan_to_num(design["design"].to_numpy())
    np.testing.assert_allclose(basis.token_rows(count) @ basis.R, rows, atol=1e-12)
