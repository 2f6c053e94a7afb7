"""Contrasts: weighted sums of fitted effects, with their tests."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import scipy.stats
import xarray as xr
from scipy.special import ndtri_exp

from ..store.errors import InputError, InputTypeError
from ..store.moments import Float64
from ..store.provenance import ORIGIN
from ..store.selection import Selection
from .expressions import parse_contrast, regressor_position
from .fitting.sandwich import Basis, satterthwaite_dof

# what p rests on; the figures are those of benchmarks/calibration.py
_ASSUMPTIONS = {
    "cluster": "prompts are independent of each other, and many: below some 30 a condition p was measured to "
    "be 1.1 to 1.5 times too small, and that of noise='cr2' to hold",
    "cr2": "prompts are independent of each other",
    "ar1": "a token's noise remembers the token before and nothing else, so that prompts do not differ",
    "ols": "all tokens are independent and vary alike, which tokens of one prompt do not",
}
_KEPT = ("formula", "confounds", "measure", "noise", "unit", *ORIGIN, "level", "actome")
_ROUNDING = 1e-8  # degrees of freedom below which there are none


def compute_contrast(fit: xr.Dataset, contrast: str | Mapping[str, float] | npt.ArrayLike) -> xr.Dataset:
    """Test a contrast of fitted effects by t or F, for every layer and neuron.

    Parameters
    ----------
    fit
        From `fit_glm`.
    contrast
        An expression over regressor names, such as ``"fr - en"``, ``"fr - mean(de, en)"`` or
        ``"fr - mean(rest)"``, where ``rest`` stands for the conditions not named otherwise (unless
        a condition is called so); a name that is no Python identifier, a keyword or a number stands in
        backticks. Or name -> weight, names left out get 0. Or weights (regressor,) for t,
        (row, regressor) for F.

    Returns
    -------
    Dataset (layer, neuron), lazy if `fit` is

    effect, variance : in units of the activation, and squared; not for F
    stat : t, or Wald's F (the squared norm of the effects over their number)
    z_score : standard normal deviate of the same p, at most 37.5
    p_value : two-sided for t

    with the coordinates ``dof`` and, for F, ``dof_numerator`` q. Where the noise is clustered, p of F is
    that of ``stat * dof / (dof + q - 1)``, Hotelling's scaling: the covariance is estimated too. A neuron
    without variance has NaN. attrs name the contrast, the prompts that were used
    and what the p-values rest on (``assumption``).

    Raises
    ------
    InputError
        A name is not a regressor, the expression cannot be read, the weights do not fit, or (clustered
        noise) one prompt alone determines the contrast, or too few prompts an F.

    References
    ----------
    .. [1] Friston et al. (1994), Human Brain Mapping 2:189-210.
    .. [2] Pustejovsky & Tipton (2018), J. Bus. Econ. Stat. 36:672-683.
    """
    if not isinstance(fit, xr.Dataset) or not {"beta", "covariance"} <= set(fit.variables):
        raise InputTypeError("compute_contrast takes a fit from actome.fit_glm")
    names = [str(n) for n in fit["regressor"].to_numpy()]
    weights = _weights(contrast, names, list(fit.attrs.get("conditions", names)))
    if not weights.size or not np.any(weights, axis=-1).all():
        raise InputError(f"contrast {contrast!r} has no weight other than zero")
    if weights.ndim == 2 and np.linalg.matrix_rank(weights) < len(weights):
        raise InputError(
            f"the {len(weights)} rows of the contrast are linearly dependent; leave the redundant out"
        )
    out = _t_contrast(fit, weights) if weights.ndim == 1 else _f_contrast(fit, weights)
    attrs = {k: fit.attrs[k] for k in _KEPT if k in fit.attrs}
    title = contrast if isinstance(contrast, str) else _describe(weights, names)
    return out.assign_attrs(
        attrs,
        kind="contrast",
        assumption=_assumption(fit.attrs["noise"], fit.attrs["unit"]),
        contrast=title,
        weights=weights.tolist(),
        regressors=names,
        **Selection.made(fit).attrs,
    )


def _assumption(noise: str, unit: str) -> str:
    if unit == "prompt" and noise == "ols":
        return "the prompts' means are independent of each other and vary alike"
    return _ASSUMPTIONS[noise]


def _t_contrast(fit: xr.Dataset, weights: Float64) -> xr.Dataset:
    c = xr.DataArray(weights, dims="regressor", coords={"regressor": fit["regressor"]})
    c_other = c.rename(regressor="regressor_other")
    effect = xr.dot(c, fit["beta"], dim="regressor")
    variance = xr.dot(c, fit["covariance"], c_other, dim=("regressor", "regressor_other"))
    dof = degrees_of_freedom(fit, weights)
    stat = effect / np.sqrt(variance.where(variance > _floor(fit, weights)))
    p, z = (_apply(f, stat, dof) for f in (two_sided_p, t_to_z))
    ds = xr.Dataset({"effect": effect, "variance": variance, "stat": stat, "z_score": z, "p_value": p})
    return ds.drop_vars(["condition", "run", "block"], errors="ignore").assign_coords(dof=dof)


def _floor(fit: xr.Dataset, weights: Float64) -> xr.DataArray:
    """Return the variance below which it is rounding, beside those of the coefficients: (layer, neuron)."""
    basis = basis_of(fit)
    bread = basis.covariance(np.eye(basis.rank))  # of noise of variance 1
    names = fit["regressor"].to_numpy()
    scale = xr.DataArray(
        np.diag(1e-20 * (weights @ bread @ weights) / np.diag(bread)),
        dims=("regressor", "regressor_other"),
        coords={"regressor": names, "regressor_other": names},
    )
    out: xr.DataArray = xr.dot(scale, fit["covariance"], dim=("regressor", "regressor_other"))
    return out


def basis_of(fit: xr.Dataset) -> Basis:
    """Return the basis of a fit's design."""
    weight = fit["weight"].to_numpy() if "weight" in fit else None
    return Basis.of(fit["design"], fit["count"].to_numpy(), weight)


def _f_contrast(fit: xr.Dataset, weights: Float64) -> xr.Dataset:
    """Wald F: the effects' norm in the inverse of their covariance, over their number."""
    rows = len(weights)
    C = xr.DataArray(weights, dims=("row", "regressor"), coords={"regressor": fit["regressor"]})
    C_other = C.rename(row="row_other", regressor="regressor_other")
    effect = xr.dot(C, fit["beta"], dim="regressor")
    covariance = xr.dot(C, fit["covariance"], C_other, dim=("regressor", "regressor_other"))
    stat = (
        xr.apply_ufunc(
            _wald,
            effect.chunk(row=-1) if effect.chunks else effect,
            covariance.chunk(row=-1, row_other=-1) if covariance.chunks else covariance,
            input_core_dims=[["row"], ["row", "row_other"]],
            dask="parallelized",
            output_dtypes=[np.float64],
        )
        / rows
    )
    dof = degrees_of_freedom(fit, weights)
    scale = 1.0 if fit.attrs["noise"] in ("ols", "ar1") else dof / (dof + rows - 1)
    p, z = (_apply(f, stat * scale, dof, rows) for f in (_f_p, _f_to_z))
    ds = xr.Dataset({"stat": stat, "z_score": z, "p_value": p})
    return ds.assign_coords(dof=dof, dof_numerator=rows)


def degrees_of_freedom(fit: xr.Dataset, weights: Float64) -> float:
    """Return the dof of a contrast's reference t, or of the denominator of its F: weights ([row,] regressor).

    Raises
    ------
    InputError
        The noise is clustered, and the prompts do not suffice to estimate the variance.
    """
    noise = fit.attrs["noise"]
    if noise in ("ols", "ar1"):
        return float(fit.attrs["rows"] - fit.attrs["rank"])
    dof = satterthwaite_dof(basis_of(fit), weights, noise)
    if np.isnan(dof):
        raise InputError(
            "one prompt alone determines the contrast, so nothing tells how prompts vary there; "
            "record more prompts of the condition, or fit with noise='ols' (--noise ols)"
        )
    dof -= len(np.atleast_2d(weights)) - 1
    if dof < _ROUNDING:
        raise InputError(
            f"too few prompts to test {len(weights)} rows at once; record more, or test fewer rows"
        )
    return dof


def _apply(function: Callable[..., Float64], stat: xr.DataArray, *args: float) -> xr.DataArray:
    out: xr.DataArray = xr.apply_ufunc(function, stat, *args, dask="parallelized", output_dtypes=[np.float64])
    return out


def two_sided_p(t: Float64, dof: float | Float64) -> Float64:
    """Return the chance of a t as far from 0."""
    return np.asarray(2 * scipy.stats.t.sf(np.abs(t), dof))


def t_to_z(t: Float64, dof: float | Float64) -> Float64:
    """Return the standard normal deviate of the same tail, at most 37.5 from 0."""
    tail = np.maximum(scipy.stats.t.sf(np.abs(t), dof), np.finfo(np.float64).tiny)
    return np.asarray(-np.sign(t) * ndtri_exp(np.log(tail)))


def _f_p(f: Float64, dof: float, rows: float) -> Float64:
    return np.asarray(scipy.stats.f.sf(f, rows, dof))


def _f_to_z(f: Float64, dof: float, rows: float) -> Float64:
    return np.asarray(-ndtri_exp(np.log(np.maximum(_f_p(f, dof, rows), np.finfo(np.float64).tiny))))


def _wald(effect: Float64, covariance: Float64) -> Float64:
    """Squared norm of the effects (..., row) in the inverse covariance; NaN where that is singular."""
    sd = np.sqrt(np.maximum(np.nan_to_num(np.einsum("...ii->...i", covariance)), 0.0))
    unit = np.where(sd > 0, sd, 1.0)
    # as correlations, so that the rank depends on no row's units
    correlation = np.nan_to_num(covariance / (unit[..., :, None] * unit[..., None, :]))
    singular = np.linalg.matrix_rank(correlation, hermitian=True) < effect.shape[-1]
    singular |= np.isnan(covariance).any(axis=(-2, -1))
    safe = np.where(singular[..., None, None], np.eye(effect.shape[-1]), correlation)
    z = effect / unit
    out = np.einsum("...i,...i->...", z, np.linalg.solve(safe, z[..., None])[..., 0])
    return np.where(singular, np.nan, out)


def _weights(
    contrast: str | Mapping[str, float] | npt.ArrayLike, names: Sequence[str], conditions: Sequence[str]
) -> Float64:
    if isinstance(contrast, str):
        return parse_contrast(contrast, names, conditions)
    try:
        if isinstance(contrast, Mapping):
            out = np.zeros(len(names))
            for name, weight in contrast.items():
                out[regressor_position(str(name), names)] = float(weight)
        else:
            out = np.asarray(contrast, dtype=np.float64)
    except (TypeError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputTypeError(f"contrast weights must be numbers, got {contrast!r}") from error
    if out.ndim not in (1, 2) or out.shape[-1] != len(names):
        raise InputError(
            f"contrast weights must have {len(names)} columns, one per regressor {list(names)}, "
            f"got shape {out.shape}"
        )
    if not np.isfinite(out).all():
        raise InputError(f"contrast weights must be finite, got {contrast!r}")
    return out


def _describe(weights: Float64, names: Sequence[str]) -> str:
    rows = np.atleast_2d(weights)
    return "; ".join(" ".join(f"{w:+g} {n}" for w, n in zip(row, names, strict=True) if w) for row in rows)
