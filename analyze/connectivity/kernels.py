"""Correlations of time courses over the tokens of one prompt."""

from typing import Literal

import numpy as np

from ...store.moments import Float64

Shrinkage = Literal["ledoit_wolf"]

_SINGULAR = 1e12  # condition number of a correlation matrix above which its inverse is rounding
_ROUNDING = 1e-12  # of a course's largest value: a spread below it is rounding
_LARGEST = 1 - 1e-12  # correlation whose Fisher z is still finite


def fewest_tokens(n_networks: int, partial: bool, shrinkage: Shrinkage | None) -> int:
    """Tokens below which Fisher's z of a correlation has no variance that could be stated.

    >>> fewest_tokens(10, False, None), fewest_tokens(10, True, None), fewest_tokens(10, True, "ledoit_wolf")
    (4, 12, 4)
    """
    return n_networks + 2 if partial and shrinkage is None else 4


def correlations(X: Float64, partial: bool, shrinkage: Shrinkage | None) -> Float64:
    """Correlate the columns of X (token, network): (network, network).

    NaN for a network whose course is not finite or never varies; the others are correlated without it.
    Partial correlations are of two networks given all others.
    """
    n = X.shape[1]
    out = np.full((n, n), np.nan)
    varies = np.atleast_1d(np.isfinite(X).all(axis=0))
    varies[varies] = np.ptp(X[:, varies], axis=0) > _ROUNDING * np.abs(X[:, varies]).max(axis=0)
    if not varies.any():
        return out
    Z = X[:, varies] - X[:, varies].mean(axis=0)
    Z /= np.sqrt(np.square(Z).mean(axis=0))
    R: Float64 = _covariance(Z, shrinkage)
    if partial and len(R) > 1:
        if np.linalg.cond(R) > _SINGULAR:
            return out
        precision = np.asarray(np.linalg.inv(R), dtype=np.float64)
        R = -precision
        np.fill_diagonal(R, precision.diagonal())
    scale = np.sqrt(R.diagonal())
    R = np.clip(R / np.outer(scale, scale), -1.0, 1.0)
    np.fill_diagonal(R, 1.0)
    out[np.ix_(varies, varies)] = R
    return out


def _covariance(Z: Float64, shrinkage: Shrinkage | None) -> Float64:
    """Covariance of standardised courses, shrunk towards independence where asked for."""
    if shrinkage is None:
        return np.asarray(Z.T @ Z / len(Z))
    from sklearn.covariance import ledoit_wolf

    return np.asarray(ledoit_wolf(Z, assume_centered=True)[0])


def fisher_z(R: Float64) -> Float64:
    """Fisher's z of correlations (..., network, network); NaN on the diagonal."""
    z = np.arctanh(np.clip(R, -_LARGEST, _LARGEST))
    z[..., np.arange(R.shape[-1]), np.arange(R.shape[-1])] = np.nan
    return np.asarray(z)
