"""The general linear model from the prompts' moments: where nothing in it varies inside a prompt."""

import math
from collections.abc import Callable
from functools import partial

import dask.array as da
import numpy as np
import xarray as xr

from ...store.blocks import one_blas_thread
from ...store.moments import Float64, Measure
from .sandwich import Basis, inflation

_CACHE_BYTES = 2**21  # of one kernel argument at a time
_ROUNDING = 1e-13  # differences this small beside their terms are rounding in float64


def fit_moments(
    moments: xr.Dataset,
    basis: Basis,
    count: Float64,
    weight: Float64,
    *,
    measure: Measure,
    unit: str,
    noise: str,
) -> dict[str, da.Array]:
    """Fit every neuron, lazily; a contrast of clustered noise needs the prompts' means alone.

    Parameters
    ----------
    moments
        As `prompt_level` gives them; every prompt has a token.
    basis
        Of a design (prompt, regressor), with `count` and `weight`.
    count, weight
        (prompt,), rows of each prompt and their precision.
    measure, unit
        As for `fit_glm`.
    noise
        "cluster", "cr2" or "ols".

    Returns
    -------
    Arrays (..., layer, neuron): ``beta`` (regressor), ``covariance`` (regressor, regressor),
    ``residual_variance`` and ``r_squared``.
    """
    n = basis.rank
    mean = _array(moments, "mean_abs" if measure == "magnitude" else "mean")
    mass = count * weight
    if noise == "ols":
        scores = None
    else:
        scores = np.sqrt(mass) * inflation(np.square(basis.Q).sum(axis=1), basis, noise)
    of_means = _mapped(partial(_fit_means, basis=basis, mass=mass, scores=scores), n + n * n, mean)
    others = [] if unit == "prompt" else [_array(moments, name) for name in ("mean", "m2")]
    n_tokens = moments["count"].to_numpy().astype(np.float64)
    squares = partial(_fit_squares, basis=basis, mass=mass, weight=weight, n_tokens=n_tokens)
    residual_variance, r_squared = _mapped(squares, 2, mean, *others)
    covariance = of_means[n:].reshape((n, n, *mean.shape[1:]))
    return {
        "beta": of_means[:n],
        "covariance": covariance * residual_variance if noise == "ols" else covariance,
        "residual_variance": residual_variance,
        "r_squared": r_squared,
    }


def _array(moments: xr.Dataset, name: str) -> da.Array:
    values = moments[name].transpose("prompt", "layer", "neuron").data
    out: da.Array = da.asarray(values)  # type: ignore[no-untyped-call]
    return out


def _mapped(kernel: Callable[..., Float64], n_rows: int, *arrays: da.Array) -> da.Array:
    """Apply a kernel of (prompt, neuron) arrays to each chunk of neurons: (row, layer, neuron).

    A few neurons at a time, so that what the kernel makes on its way stays in the processor's cache.
    """

    def blocks(*arrays: list[Float64]) -> Float64:
        shape = arrays[0][0].shape[1:]
        flat = [[part.reshape(len(part), -1) for part in parts] for parts in arrays]
        out = np.empty((n_rows, math.prod(shape)))
        width = max(1, _CACHE_BYTES // (8 * sum(map(len, flat[0]))))
        for i in range(0, out.shape[1], width):
            some = slice(i, i + width)
            columns = (np.concatenate([p[:, some] for p in parts], dtype=np.float64) for parts in flat)
            out[:, some] = kernel(*columns)
        return out.reshape(n_rows, *shape)

    out: da.Array = da.blockwise(  # type: ignore[no-untyped-call]
        one_blas_thread(blocks), "rlf", *(x for a in arrays for x in (a, "plf")),
        new_axes={"r": n_rows}, concatenate=False, dtype=np.float64, meta=np.empty((0,) * 3),
    )  # fmt: skip
    return out


def _fit_means(mean: Float64, *, basis: Basis, mass: Float64, scores: Float64 | None) -> Float64:
    """Coefficients, then their covariance, flat: (regressor + regressor^2, neuron).

    Without `scores` the covariance is that of noise of variance 1; with them, the factors that turn Q and
    a prompt's mean residual into its score, it is the sandwich with the prompt as cluster.
    """
    projected = (basis.Q * np.sqrt(mass)[:, None]).T @ mean
    inverse = np.linalg.inv(basis.R)
    rank, n_neurons = projected.shape
    if scores is None:
        covariance = np.repeat((inverse @ inverse.T).reshape(-1, 1), n_neurons, axis=1)
        return np.concatenate([inverse @ projected, np.where(np.isnan(projected[0]), np.nan, covariance)])
    square = _squared_residual(mean, projected, basis, mass)
    loading = scores[:, None] * (basis.Q @ inverse.T)
    i, j = np.triu_indices(rank)
    covariance = np.empty((rank, rank, n_neurons))
    covariance[i, j] = (loading[:, i] * loading[:, j]).T @ square
    covariance[j, i] = covariance[i, j]
    return np.concatenate([inverse @ projected, covariance.reshape(rank * rank, -1)])


def _squared_residual(mean: Float64, projected: Float64, basis: Basis, mass: Float64) -> Float64:
    """Square what the fit leaves of the prompts' means; 0 where that is rounding: a constant has no t."""
    square = (basis.Q / np.sqrt(mass)[:, None]) @ projected
    np.subtract(mean, square, out=square)
    np.square(square, out=square)
    rounding = np.square(_ROUNDING * np.maximum(mean.max(axis=0), -mean.min(axis=0)))
    suspect = square.min(axis=0) < rounding  # few neurons, so that the others are not looked at again
    square[:, suspect] *= square[:, suspect] >= rounding[suspect]
    return np.asarray(square)


def _fit_squares(
    explained: Float64,
    mean: Float64 | None = None,
    m2: Float64 | None = None,
    *,
    basis: Basis,
    mass: Float64,
    weight: Float64,
    n_tokens: Float64,
) -> Float64:
    """Residual variance and R squared: (2, neuron).

    Parameters
    ----------
    explained
        (prompt, neuron), the means that are explained, of the activation or of its magnitude.
    mean, m2
        (prompt, neuron), moments of the activation; without them every prompt is one row.
    """
    within = np.zeros(explained.shape[1])
    if mean is not None and m2 is not None:
        # the sum of squares of |y| is that of y
        own = m2 + n_tokens[:, None] * (mean - explained) * (mean + explained)
        own[own < _ROUNDING * m2] = 0.0
        own[own < n_tokens[:, None] * np.square(_ROUNDING * explained)] = 0.0
        within = weight @ own
    projected = (basis.Q * np.sqrt(mass)[:, None]).T @ explained
    rss = within + mass @ _squared_residual(explained, projected, basis, mass)
    about_mean = within + mass @ np.square(explained - mass @ explained / mass.sum())
    with np.errstate(divide="ignore", invalid="ignore"):
        r_squared = np.where(about_mean > 0, 1.0 - rss / about_mean, np.nan)
    return np.stack([rss / (basis.n_rows - basis.rank), r_squared])
