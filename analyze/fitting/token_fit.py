"""The general linear model from the cube itself: where regressors vary inside a prompt, or the noise does.

One pass over the cube gives the fit; noise that is clustered by prompt takes a second, for the scores.
"""

from functools import partial

import dask.array as da
import numpy as np
import xarray as xr
from dask.delayed import delayed

from ...store.blocks import activation_array, valid_tokens
from ...store.moments import Float64, Measure
from .autoregression import Lagged, autocorrelation, generalised
from .passes import assembled, scored, summed
from .products import Sums
from .sandwich import Basis, adjustment
from .token_rows import Rows

_ROUNDING = 1e-13  # a residual sum of squares this small beside that of the values is rounding


def fit_tokens(
    ds: xr.Dataset,
    basis: Basis,
    count: Float64,
    weight: Float64,
    *,
    measure: Measure,
    noise: str,
) -> dict[str, da.Array]:
    """Fit every neuron, lazily.

    Parameters
    ----------
    ds
        The cube; every prompt has a token.
    basis
        Of the design, with `count` and `weight`.
    count, weight
        (prompt,), tokens and their precision.
    measure, noise
        As for `fit_glm`.

    Returns
    -------
    Arrays (..., layer, neuron): ``beta`` (regressor), ``covariance`` (regressor, regressor),
    ``residual_variance``, ``r_squared`` and, for AR(1), ``autocorrelation``.
    """
    cube, valid = activation_array(ds), valid_tokens(ds)
    rows = Rows(basis.token_rows(count), valid, np.sqrt(weight), measure == "magnitude")
    lagged = Lagged.of(rows.Q, valid) if noise == "ar1" else None
    sums = summed(cube, rows, lags=lagged is not None)
    finish = delayed(partial(_finished, lagged=lagged, basis=basis), pure=False, traverse=False)
    n, shape = basis.rank, (basis.rank, basis.rank, *cube.shape[2:])
    n_maps = n + 2 + (0 if lagged is None else 1 + n * n)
    maps = assembled({place: finish(s) for place, s in sums.items()}, cube, n_maps)
    out = {"beta": maps[:n], "residual_variance": maps[n], "r_squared": maps[n + 1]}
    if lagged is not None:
        return out | {"autocorrelation": maps[n + 2], "covariance": maps[n + 3 :].reshape(shape)}
    if noise == "ols":
        return out | {"covariance": basis.covariance(np.eye(n))[..., None, None] * maps[n]}
    inflate = np.linalg.inv(basis.R) @ adjustment(basis, noise)  # to scores of the regressors
    covariance = assembled(scored(cube, rows, sums, basis.leverage, inflate), cube, n * n)
    return out | {"covariance": da.where(maps[n] == 0, 0.0, covariance.reshape(shape))}  # type: ignore[no-untyped-call]


def _finished(sums: Sums, *, lagged: Lagged | None, basis: Basis) -> Float64:
    """Coefficients, residual variance, R squared; for AR(1) autocorrelation and covariance: (row, neuron)."""
    beta, square = sums.product[0], sums.square[0]
    rank, dof = basis.rank, basis.n_rows - basis.rank
    rss = _rounded(square - np.square(beta).sum(axis=0), square)
    about_mean = square - np.square(sums.total[0]) / sums.weight[0]
    with np.errstate(divide="ignore", invalid="ignore"):
        r_squared = np.where(about_mean > 0, 1.0 - rss / about_mean, np.nan)
    inverse = np.asarray(np.linalg.inv(basis.R))
    constant = sums.design[0][:, None] * sums.shift  # what was taken off, on the basis
    if lagged is None:
        return np.concatenate([inverse @ (beta + constant), [rss / dof, r_squared]])
    rho = autocorrelation(sums, lagged, rss)
    beta, whitened, covariance = generalised(sums, lagged, rho, inverse)
    variance = _rounded(whitened, square) / dof
    covariance = (covariance * variance).reshape(rank * rank, -1)
    return np.concatenate([inverse @ (beta + constant), [variance, r_squared, rho], covariance])


def _rounded(rss: Float64, square: Float64) -> Float64:
    """Return sums of squares without those that are rounding beside the squares of the values."""
    return np.where(rss < _ROUNDING * square, 0.0, rss)  # NaN stays
