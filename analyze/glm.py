"""The general linear model of every neuron at once.

Rows of the model are tokens, and the prompt is the exchangeable unit: tokens of one prompt are
alike for reasons that the design does not know. Where the design is constant within a prompt, the
prompt's count, mean and sum of squared deviations hold all that the fit needs, so a fit costs one
pass over the cube, or none where the summaries are stored.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import xarray as xr

from .. import _version
from ..store.blocks import level_of, prompt_level
from ..store.errors import InputError
from ..store.moments import Float64
from .design import design_matrix

Measure = Literal["magnitude", "signed"]
_MEASURES = ("magnitude", "signed")
_NOISES = ("cluster", "cr2", "ols")
_UNITS = ("token", "prompt")
_ROUNDING = 1e-13  # differences this small beside their terms are rounding in float64
_ALONE = 1e-10  # one less a prompt's leverage, below which no other prompt speaks to what it determines


def fit_glm(
    ds: xr.Dataset,
    formula: str = "condition",
    *,
    measure: Measure = "magnitude",
    noise: Literal["cluster", "cr2", "ols"] = "cluster",
    unit: Literal["token", "prompt"] = "token",
    confounds: Sequence[str] = ("run",),
) -> xr.Dataset:
    """Fit a linear model of the labels to every neuron.

    Parameters
    ----------
    ds
        A recording at either level, whole or in part.
    formula
        A label (one column per value) or a formula over the labels; see `design_matrix`.
    measure
        "magnitude": |activation|, how strongly a neuron is used; "signed": the activation.
    noise
        "cluster": covariance robust to any dependence within a prompt (CR1); "cr2": the same with
        Bell and McCaffrey's bias reduction, the better one below about ten prompts a condition;
        "ols": independent rows of equal variance, which tokens of one prompt are not.
    unit
        "token": every token is a row; "prompt": every prompt is one row, its mean.
    confounds
        Labels whose effects are removed; one that the recording lacks is left out.

    Prompts without tokens are left out.

    Returns
    -------
    Dataset, lazy; NaN for a neuron with any NaN

    beta : (regressor, layer, neuron), in units of the activation
    covariance : (regressor, regressor_other, layer, neuron), of beta
    residual_variance : (layer, neuron)
    design : (prompt, regressor)
    count : (prompt), rows that each prompt contributes

    attrs ``conditions`` lists the regressors that are cell means.

    Raises
    ------
    InputError
        An option is unknown, or the design does not fit the recording.

    References
    ----------
    .. [1] Liang & Zeger (1986), Biometrika 73:13-22.
    .. [2] Bell & McCaffrey (2002), Survey Methodology 28:169-181.
    """
    for name, value, allowed in (
        ("measure", measure, _MEASURES),
        ("noise", noise, _NOISES),
        ("unit", unit, _UNITS),
    ):
        if value not in allowed:
            raise InputError(f"{name} must be one of {list(allowed)}, got {value!r}")
    level = level_of(ds)
    moments = prompt_level(ds)
    if not moments["count"].all():
        moments = moments.isel(prompt=np.flatnonzero(moments["count"] > 0))
    design = design_matrix(moments, formula, confounds)
    count, mean, m2 = _rows(moments, measure, unit)
    X = design.to_numpy()
    bread = inverse_gram(X, count)
    beta = xr.dot(_label(bread @ (X * count[:, None]).T, design, ("regressor", "prompt")), mean, dim="prompt")
    residual = _residual(mean, design, beta)  # of the prompts' means
    rss = (m2 + residual**2 * xr.DataArray(count, dims="prompt")).sum("prompt", skipna=False)
    variance = rss / (count.sum() - X.shape[1])
    if noise == "ols":
        covariance = _label(bread, design, ("regressor", "regressor_other")) * variance
    else:
        covariance = _cluster_covariance(X, count, bread, residual, design, noise)
    return xr.Dataset(
        {
            "beta": beta.transpose("regressor", "layer", "neuron"),
            "covariance": covariance.transpose("regressor", "regressor_other", "layer", "neuron"),
            "residual_variance": variance,
            "design": design.drop_vars([c for c in design.coords if c not in design.dims]).drop_attrs(),
            "count": ("prompt", count),
        },
        coords={c: moments[c] for c in ("condition", "run", "block") if c in moments.coords},
        attrs={
            "kind": "fit",
            "formula": formula,
            "measure": measure,
            "noise": noise,
            "unit": unit,
            "confounds": list(confounds),
            "conditions": design.attrs["conditions"],
            "level": level,
            "rank": X.shape[1],
            "rows": int(count.sum()),
            "source": ds.attrs.get("manifest_digest", ""),
            "source_name": ds.attrs.get("name", ""),
            "site": ds.attrs.get("site", ""),
            "actome": _version.__version__,
        },
    )


def _rows(moments: xr.Dataset, measure: Measure, unit: str) -> tuple[Float64, xr.DataArray, xr.DataArray]:
    """Rows per prompt, their mean, and their sum of squared deviations, of the chosen measure."""
    count = moments["count"].to_numpy().astype(np.float64)
    n = xr.DataArray(count, dims="prompt")
    mean, m2 = moments["mean"], moments["m2"]
    if measure == "magnitude":
        # the sum of squares of |y| is that of y
        magnitude = moments["mean_abs"]
        within = m2 + n * (mean - magnitude) * (mean + magnitude)
        mean, m2 = magnitude, within.where(~(within < _ROUNDING * m2), 0.0)
    m2 = m2.where(~(m2 < n * (_ROUNDING * mean) ** 2), 0.0)
    drop = [c for c in mean.coords if c not in mean.dims]
    mean, m2 = mean.drop_vars(drop), m2.drop_vars(drop)
    if unit == "prompt":
        return np.ones_like(count), mean, xr.zeros_like(m2)
    return count, mean, m2


def _residual(mean: xr.DataArray, design: xr.DataArray, beta: xr.DataArray) -> xr.DataArray:
    """Return what the fit leaves of the prompts' means; 0 where that is rounding: a constant has no t."""
    residual = mean - xr.dot(design, beta, dim="regressor")
    scale = abs(mean).max("prompt", skipna=False)
    out: xr.DataArray = residual.where(~(abs(residual) < _ROUNDING * scale), 0.0)
    return out


def inverse_gram(X: Float64, count: Float64) -> Float64:
    """Return (X'WX)^-1 for rows that count `count` times; QR keeps twice the digits of the product."""
    R = np.linalg.qr(np.sqrt(count)[:, None] * X, mode="r")
    inverse = np.linalg.inv(R)
    return np.asarray(inverse @ inverse.T)


def _label(values: Float64, design: xr.DataArray, dims: tuple[str, ...]) -> xr.DataArray:
    regressors = design["regressor"].to_numpy()
    coords = {"prompt": design["prompt"].variable, "regressor": regressors, "regressor_other": regressors}
    return xr.DataArray(values, dims=dims, coords={d: coords[d] for d in dims})


def _cluster_covariance(
    X: Float64, count: Float64, bread: Float64, residual: xr.DataArray, design: xr.DataArray, noise: str
) -> xr.DataArray:
    """Sandwich with the prompt as cluster: bread (sum_g s_g s_g') bread, s_g = n_g x_g mean residual."""
    scale = count * adjustment(X, count, bread, noise)
    loading = (scale[:, None] * X) @ bread  # (prompt, regressor)
    outer = loading[:, :, None] * loading[:, None, :]
    weights = _label(outer, design, ("prompt", "regressor", "regressor_other"))
    out: xr.DataArray = xr.dot(weights, residual**2, dim="prompt")
    return out


def adjustment(X: Float64, count: Float64, bread: Float64, noise: str) -> Float64:
    """Factor by which each prompt's residuals are inflated: (prompt,).

    CR1: the root of G / (G - 1) * (N - 1) / (N - k). CR2: (I - H_gg)^(-1/2), which acts on rows
    that are all alike as (1 - n_g h_g)^(-1/2); a prompt that alone determines a regressor has no
    residual and gets 0, as the pseudo-inverse says.
    """
    n_prompts, rank = X.shape
    if noise == "cluster":
        n_rows = count.sum()
        return np.full(n_prompts, np.sqrt(n_prompts / (n_prompts - 1) * (n_rows - 1) / (n_rows - rank)))
    left = 1.0 - count * np.einsum("pi,ij,pj->p", X, bread, X)
    return np.where(left > _ALONE, 1.0 / np.sqrt(np.maximum(left, _ALONE)), 0.0)


def satterthwaite_dof(X: Float64, count: Float64, weights: Float64, noise: str) -> float:
    """Degrees of freedom of a cluster-robust variance matrix, from the design alone.

    Under independent errors of equal variance a contrast's variance is a quadratic form; a multiple
    of chi-squared with the same mean and variance has (sum lambda)^2 / sum lambda^2 degrees of
    freedom, lambda the eigenvalues of G'G, with one column a cluster in G (Bell and McCaffrey). For
    several rows: the Wishart matrix that has the same mean and the same total variance, whichever way
    the rows are written (Pustejovsky and Tipton).

    Parameters
    ----------
    X, count
        (prompt, regressor), (prompt,): the design and the rows of each prompt.
    weights
        (regressor,), or (row, regressor): the contrast.
    noise
        "cluster" or "cr2".

    Returns
    -------
    Degrees of freedom; NaN where the design leaves the variance nothing to be estimated from: a prompt
    that alone determines a regressor of the contrast.

    References
    ----------
    .. [1] Bell & McCaffrey (2002), Survey Methodology 28:169-181.
    .. [2] Pustejovsky & Tipton (2018), J. Bus. Econ. Stat. 36:672-683.
    """
    C = np.atleast_2d(weights)
    bread = inverse_gram(X, count)
    loading = X @ bread @ C.T  # (prompt, row), constant within a prompt
    alone = 1.0 - count * np.einsum("pi,ij,pj->p", X, bread, X) < _ALONE
    if (np.abs(loading[alone]) > _ALONE * np.abs(loading).max()).any():
        return float("nan")
    loading *= adjustment(X, count, bread, noise)[:, None]
    left = count - count**2 * np.einsum("pi,ij,pj->p", X, bread, X)
    expected = (loading * left[:, None]).T @ loading  # of the variance matrix: (row, row)
    values, vectors = np.linalg.eigh(expected)
    loading = loading @ vectors / np.sqrt(values)
    norm = count * np.square(loading).sum(axis=1)
    # |K * (diag(count) - count X M X' count)|^2 with K = loading loading', without a (prompt, prompt) matrix
    F = count[:, None, None] * loading[:, :, None] * X[:, None, :]
    FM = (F @ bread).reshape(len(X), -1)
    F = F.reshape(len(X), -1)
    inner = FM.T @ F
    square = np.square(norm).sum() - 2 * (norm * (FM * F).sum(axis=1)).sum() + (inner * inner.T).sum()
    rows = len(C)
    return float(rows * (rows + 1) / (2 * square))
