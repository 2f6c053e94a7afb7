"""Contrasts: weighted sums of fitted effects, with their tests."""

import ast
import re
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import scipy.stats
import xarray as xr
from scipy.special import ndtri_exp

from ..store.errors import InputError, InputTypeError
from ..store.moments import Float64
from .glm import inverse_gram, satterthwaite_dof


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
    without variance has NaN. attrs name the contrast and the prompts that were used.

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
    keep = ("formula", "measure", "noise", "unit", "source", "source_name", "level", "actome")
    attrs = {k: fit.attrs[k] for k in keep if k in fit.attrs}
    title = contrast if isinstance(contrast, str) else _describe(weights, names)
    return out.assign_attrs(
        attrs,
        kind="contrast",
        contrast=title,
        weights=weights.tolist(),
        regressors=names,
        selected_on=[str(p) for p in fit["prompt"].to_numpy()],
    )


def _t_contrast(fit: xr.Dataset, weights: Float64) -> xr.Dataset:
    c = xr.DataArray(weights, dims="regressor", coords={"regressor": fit["regressor"]})
    c_other = c.rename(regressor="regressor_other")
    effect = xr.dot(c, fit["beta"], dim="regressor")
    variance = xr.dot(c, fit["covariance"], c_other, dim=("regressor", "regressor_other"))
    dof = degrees_of_freedom(fit, weights)
    stat = effect / np.sqrt(variance.where(variance > _floor(fit, weights)))
    p, z = (_apply(f, stat, dof) for f in (_two_sided_p, _t_to_z))
    ds = xr.Dataset({"effect": effect, "variance": variance, "stat": stat, "z_score": z, "p_value": p})
    return ds.drop_vars(["condition", "run", "block"], errors="ignore").assign_coords(dof=dof)


def _floor(fit: xr.Dataset, weights: Float64) -> xr.DataArray:
    """Return the variance below which it is rounding, beside that of independent rows: (layer, neuron)."""
    bread = inverse_gram(fit["design"].to_numpy(), fit["count"].to_numpy())
    return fit["residual_variance"] * (1e-20 * float(weights @ bread @ weights))


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
    scale = 1.0 if fit.attrs["noise"] == "ols" else dof / (dof + rows - 1)
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
    if noise == "ols":
        return float(fit.attrs["rows"] - fit.attrs["rank"])
    dof = satterthwaite_dof(fit["design"].to_numpy(), fit["count"].to_numpy(), weights, noise)
    if np.isnan(dof):
        raise InputError(
            "one prompt alone determines the contrast, so nothing tells how prompts vary there; "
            "record more prompts of the condition, or fit with noise='ols'"
        )
    dof -= len(np.atleast_2d(weights)) - 1
    if dof <= 0:
        raise InputError(
            f"too few prompts to test {len(weights)} rows at once; record more, or test fewer rows"
        )
    return dof


def _apply(function: Callable[..., Float64], stat: xr.DataArray, *args: float) -> xr.DataArray:
    out: xr.DataArray = xr.apply_ufunc(function, stat, *args, dask="parallelized", output_dtypes=[np.float64])
    return out


def _two_sided_p(t: Float64, dof: float) -> Float64:
    return np.asarray(2 * scipy.stats.t.sf(np.abs(t), dof))


def _t_to_z(t: Float64, dof: float) -> Float64:
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
                out[_position(str(name), names)] = float(weight)
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


def _position(name: str, names: Sequence[str]) -> int:
    if name not in names:
        raise InputError(
            f"contrast names unknown regressor {name!r}; the fit has {list(names)}. "
            "Add it to the formula or correct the name."
        )
    return list(names).index(name)


def parse_contrast(expression: str, names: Sequence[str], conditions: Sequence[str] | None = None) -> Float64:
    """Read a contrast expression: sums, differences and multiples of names and of ``mean(...)``.

    Parameters
    ----------
    expression
        Nothing in it is executed; names, numbers, + - * / and mean are all that is known.
    names
        The regressors.
    conditions
        Those that ``rest`` may stand for; all by default.

    Returns
    -------
    (regressor,): the weights.

    Raises
    ------
    InputError
        It cannot be read, or it names an unknown regressor or none.

    Examples
    --------
    >>> parse_contrast("fr - mean(rest)", ["fr", "en", "de"]).tolist()
    [1.0, -0.5, -0.5]
    """
    quoted: dict[str, str] = {}

    def placeholder(match: re.Match[str]) -> str:
        key = f"quoted_{len(quoted)}_"
        quoted[key] = match.group(1)
        return key

    source = re.sub(r"`([^`]+)`", placeholder, expression).strip()
    reader = _Reader(expression, names, quoted)
    try:
        tree = ast.parse(source, mode="eval").body
        called = {id(n.func) for n in ast.walk(tree) if isinstance(n, ast.Call)}
        mentioned = {reader.name_of(n) for n in ast.walk(tree) if id(n) not in called} - {""}
        reader.rest = [n for n in (names if conditions is None else conditions) if n not in mentioned]
        with np.errstate(over="ignore", invalid="ignore"):  # weights that are not finite are refused below
            value = reader.value(tree)
    except SyntaxError as error:
        raise InputError(
            f"contrast {expression!r} cannot be read; write it like 'fr - mean(de, en)', "
            "with a name that is no Python identifier in backticks"
        ) from error
    except RecursionError as error:
        raise InputError(
            f"contrast of {len(expression)} characters is nested too deeply; give weights"
        ) from error
    if isinstance(value, float):
        raise InputError(
            f"contrast {expression!r} names no regressor; the fit has {list(names)}. "
            "A name that is a number stands in backticks."
        )
    if not np.isfinite(value).all():
        raise reader.unreadable()
    return value


class _Reader:
    """Walks the syntax tree of an expression; nothing but names, numbers, + - * / and mean is known."""

    def __init__(self, expression: str, names: Sequence[str], quoted: Mapping[str, str]) -> None:
        self.expression, self.names, self.quoted = expression, names, quoted
        self.rest: list[str] = []

    def name_of(self, node: ast.AST) -> str:
        """Return the name that a node stands for, "" if none; True, False and None may be labels."""
        if isinstance(node, ast.Name):
            return self.quoted.get(node.id, node.id)
        if isinstance(node, ast.Constant) and any(node.value is word for word in (True, False, None)):
            return str(node.value)
        return ""

    def value(self, node: ast.expr) -> Float64 | float:
        if name := self.name_of(node):
            return self.named(name)
        if isinstance(node, ast.Constant) and isinstance(node.value, int | float):
            return self.number(node.value)
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.UAdd):
            value = self.value(node.operand)
            return -value if isinstance(node.op, ast.USub) else value
        if isinstance(node, ast.BinOp):
            return self.combined(node.op, self.value(node.left), self.value(node.right))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "mean":
            return self.mean(node)
        raise self.unreadable()

    def number(self, value: int | float) -> float:
        try:
            return float(value)
        except OverflowError as error:
            raise self.unreadable() from error

    def named(self, name: str) -> Float64:
        out = np.zeros(len(self.names))
        out[_position(name, self.names)] = 1.0
        return out

    def combined(self, op: ast.operator, left: Float64 | float, right: Float64 | float) -> Float64 | float:
        scalars = [isinstance(v, float) for v in (left, right)]
        if isinstance(op, ast.Add) and scalars[0] == scalars[1]:
            return left + right
        if isinstance(op, ast.Sub) and scalars[0] == scalars[1]:
            return left - right
        if isinstance(op, ast.Mult) and any(scalars):
            return left * right
        if isinstance(op, ast.Div) and scalars[1] and right != 0:
            return left / right
        raise self.unreadable()

    def mean(self, node: ast.Call) -> Float64:
        values: list[Float64] = []
        for argument in node.args:
            if isinstance(argument, ast.Name) and argument.id == "rest" and "rest" not in self.names:
                values += [self.named(n) for n in self.rest]
            else:
                value = self.value(argument)
                if isinstance(value, float):
                    raise self.unreadable()
                values.append(value)
        if node.keywords:
            raise self.unreadable()
        if not values:
            raise InputError(
                f"contrast {self.expression!r}: mean() of nothing; "
                "'rest' stands for the cell means that the contrast does not name, and none is left"
            )
        return np.asarray(np.mean(values, axis=0))

    def unreadable(self) -> InputError:
        return InputError(
            f"contrast {self.expression!r} cannot be read: "
            "only names, numbers, + - * / and mean(...) are known"
        )
