"""Covariance that is robust to any dependence within a prompt, and its degrees of freedom.

All of it is said in an orthonormal basis of the design, X = QR, where each prompt counts by the matrix
Q_g'Q_g alone: (regressor, regressor), its leverage. These matrices sum to the identity.
"""

from dataclasses import dataclass

import numpy as np
import xarray as xr

from ...store.moments import Float64

_ALONE = 1e-10  # one less a leverage, below which no other prompt speaks to what a prompt determines
_PART = 1e-8  # of a contrast, below which it is rounding


@dataclass(frozen=True)
class Basis:
    """A design in an orthonormal basis of its columns.

    Attributes
    ----------
    Q
        (prompt, regressor), or (prompt, token, regressor) with zeros where there is no token.
    R
        (regressor, regressor): X = QR.
    n_rows
        Tokens in all.
    """

    Q: Float64
    R: Float64
    n_rows: int

    @classmethod
    def of(cls, design: xr.DataArray, count: Float64, weight: Float64 | None = None) -> "Basis":
        """Factorise a design: (prompt, regressor), each row `count` times, or (prompt, token, regressor).

        Parameters
        ----------
        design
            NaN where there is no token.
        count
            (prompt,), tokens of each prompt.
        weight
            (prompt,), precision of the tokens of each prompt; ones by default.
        """
        scale = np.ones_like(count) if weight is None else np.sqrt(weight)
        if design.ndim == 2:
            rows = (scale * np.sqrt(count))[:, None] * design.transpose("prompt", "regressor").to_numpy()
        else:
            rows = np.nan_to_num(design.transpose("prompt", "token", "regressor").to_numpy())
            rows = scale[:, None, None] * rows
        Q, R = np.linalg.qr(rows.reshape(-1, rows.shape[-1]))
        return cls(Q.reshape(rows.shape), R, int(count.sum()))

    @property
    def rank(self) -> int:
        """Number of regressors, which are linearly independent."""
        return len(self.R)

    def token_rows(self, count: Float64) -> Float64:
        """Return the rows of Q for single tokens: one for all tokens of a prompt, where they are alike."""
        return self.Q if self.Q.ndim == 3 else self.Q / np.sqrt(count)[:, None]

    @property
    def leverage(self) -> Float64:
        """Q_g'Q_g of each prompt: (prompt, regressor, regressor)."""
        Q = self.Q if self.Q.ndim == 3 else self.Q[:, None]
        return np.asarray(np.swapaxes(Q, 1, 2) @ Q)

    def rotated(self, weights: Float64) -> Float64:
        """Return contrast weights ([row,] regressor) in this basis: their effect is weights @ Q'y."""
        return np.asarray(np.linalg.solve(self.R.T, np.atleast_2d(weights).T).T)

    def covariance(self, inner: Float64) -> Float64:
        """Return a covariance (regressor, regressor) of Q'y as that of the coefficients."""
        inverse = np.linalg.inv(self.R)
        return np.asarray(inverse @ inner @ inverse.T)


def adjustment(basis: Basis, noise: str) -> Float64:
    """Matrix by which each prompt's score Q_g'r_g is inflated: (prompt, regressor, regressor).

    CR1: the root of G / (G - 1) * (N - 1) / (N - k), times the identity. CR2: (I - Q_g'Q_g)^(-1/2),
    which is what (I - H_gg)^(-1/2) does to the residuals before Q_g' is applied; what a prompt alone
    determines leaves no residual and gets 0, as the pseudo-inverse says.
    """
    values, vectors = np.linalg.eigh(basis.leverage)
    return _spectral(inflation(values, basis, noise), vectors)


def inflation(values: Float64, basis: Basis, noise: str) -> Float64:
    """Inflation of a prompt's residuals along an eigenvector of its leverage, by the eigenvalue: any shape.

    Where the rows of a prompt are all alike there is one such eigenvalue, the trace of Q_g'Q_g.
    """
    if noise == "cluster":
        return np.full_like(values, cr1_inflation(len(basis.Q), basis.n_rows, basis.rank))
    left = 1.0 - values
    return np.where(left > _ALONE, 1.0 / np.sqrt(np.maximum(left, _ALONE)), 0.0)


def cr1_inflation(n_prompts: int, n_rows: int, rank: int) -> float:
    """Return the factor by which CR1 inflates residuals, and so a standard error."""
    return float(np.sqrt(n_prompts / (n_prompts - 1) * (n_rows - 1) / (n_rows - rank)))


def _spectral(values: Float64, vectors: Float64) -> Float64:
    """Matrices of given eigenvalues and eigenvectors: (prompt, regressor, regressor)."""
    return np.asarray((vectors * values[:, None, :]) @ np.swapaxes(vectors, 1, 2))


def satterthwaite_dof(basis: Basis, weights: Float64, noise: str) -> float:
    """Degrees of freedom of a cluster-robust variance matrix, from the design alone.

    Under independent errors of equal variance a contrast's variance is a quadratic form; a multiple
    of chi-squared with the same mean and variance has (sum lambda)^2 / sum lambda^2 degrees of
    freedom, lambda the eigenvalues of G'G, with one column a cluster in G (Bell and McCaffrey). For
    several rows: the Wishart matrix that has the same mean and the same total variance, whichever way
    the rows are written (Pustejovsky and Tipton).

    Parameters
    ----------
    basis
        Of the design.
    weights
        (regressor,), or (row, regressor): the contrast.
    noise
        "cluster" or "cr2".

    Returns
    -------
    Degrees of freedom; NaN where the design leaves the variance nothing to be estimated from: a prompt
    that alone determines what the contrast is about.

    References
    ----------
    .. [1] Bell & McCaffrey (2002), Survey Methodology 28:169-181.
    .. [2] Pustejovsky & Tipton (2018), J. Bus. Econ. Stat. 36:672-683.
    """
    values, vectors = np.linalg.eigh(basis.leverage)
    C = basis.rotated(weights)
    along = np.abs(C @ vectors)  # (prompt, row, regressor)
    if (along * (1.0 - values < _ALONE)[:, None, :]).max() > _PART * along.max():
        return float("nan")
    inflated = inflation(values, basis, noise)
    # with L_g (token, row) the weights on the residuals of a prompt: U_g = Q_g'L_g and N_g = L_g'L_g
    U = _spectral(values * inflated, vectors) @ C.T  # (prompt, regressor, row)
    N = C @ _spectral(values * inflated**2, vectors) @ C.T  # (prompt, row, row)
    expected = (N - np.swapaxes(U, 1, 2) @ U).sum(axis=0)  # of the variance matrix
    scale, rotation = np.linalg.eigh(expected)
    rotation = rotation / np.sqrt(scale)
    U, N = U @ rotation, rotation.T @ N @ rotation
    rows = len(C)
    return float(rows * (rows + 1) / _total_variance(U, N))


def _total_variance(U: Float64, N: Float64) -> float:
    """Variance of all entries of sum_g (L_g'r_g)(L_g'r_g)' under independent errors of variance 1.

    It is the sum over pairs of prompts of tr(A)^2 + tr(A A), with A_gh = (g = h) N_g - U_g'U_h the
    covariance of their weighted residuals; no pair is formed.
    """
    UU = np.swapaxes(U, 1, 2) @ U
    trace, trace_U = (np.einsum("gii->g", x) for x in (N, UU))
    flat = U.reshape(len(U), -1)
    W = (flat.T @ flat).reshape(U.shape[1:] * 2)  # (regressor, row, regressor, row)
    squares = np.square(trace).sum() - 2 * (trace * trace_U).sum() + np.square(W).sum()
    products = (N * N).sum() - 2 * (N * UU).sum() + np.einsum("aibj,ajbi->", W, W)
    return float(squares + products)
