"""Noise that remembers the token before: AR(1) inside each prompt, fitted from sums of one pass."""

from dataclasses import dataclass

import numpy as np

from ...store.moments import Bool, Float64
from .products import Sums

_BINS = 100  # rho is truncated to hundredths, as first-level models of neuroimaging do


@dataclass(frozen=True)
class Lagged:
    """What the design shares with itself one token before: Q orthonormal.

    Attributes
    ----------
    pairs
        Sum of Q_t Q_(t-1)' and its transpose over pairs of one prompt: (regressor, regressor).
    last
        Sum of Q_t Q_t' over the last tokens of the prompts: (regressor, regressor).
    """

    pairs: Float64
    last: Float64

    @classmethod
    def of(cls, Q: Float64, valid: Bool) -> "Lagged":
        """Sum over the valid tokens; Q (prompt, token, regressor), or (prompt, regressor) for all tokens."""
        n_regressors = Q.shape[-1]
        pairs, last = (np.zeros((n_regressors, n_regressors)) for _ in range(2))
        for rows, there in zip(Q, valid, strict=True):
            n = int(there.sum())
            if n:
                q = rows[there] if rows.ndim == 2 else np.broadcast_to(rows, (n, n_regressors))
                pairs += q[1:].T @ q[:-1]
                last += np.outer(q[-1], q[-1])
        return cls(pairs + pairs.T, last)


def autocorrelation(sums: Sums, lagged: Lagged, rss: Float64) -> Float64:
    """Lag-1 autocorrelation of the residuals of ordinary least squares, inside prompts: (neuron,).

    The sum of r_t r_(t-1) over pairs, over the sum of r_t^2 over all tokens; NaN without residuals.
    """
    g, neighbours = sums.product[:2]
    lag = sums.square[1] - (g * neighbours).sum(axis=0) + (g * (lagged.pairs @ g)).sum(axis=0) / 2
    return np.asarray(np.divide(lag, rss, out=np.full_like(rss, np.nan), where=rss > 0))


def generalised(
    sums: Sums, lagged: Lagged, rho: Float64, transform: Float64
) -> tuple[Float64, Float64, Float64]:
    """Generalised least squares under AR(1), the first token of a prompt left as it is.

    Parameters
    ----------
    sums
        With lags.
    lagged
        Of the same design.
    rho
        (neuron,), truncated here to hundredths; 0 where it is NaN.
    transform
        From coefficients on Q to others, whose covariance is wanted: (regressor, regressor).

    Returns
    -------
    Coefficients on Q: (regressor, neuron); the sum of squared residuals: (neuron,); the covariance of the
    transformed coefficients, but for the noise's variance: (regressor, regressor, neuron).
    """
    bins = np.trunc(np.nan_to_num(rho) * _BINS).astype(int)
    ordinary, neighbours, last = sums.product
    identity = np.eye(len(ordinary))
    beta, rss = np.empty_like(ordinary), np.empty(ordinary.shape[1])
    covariance = np.empty((len(ordinary), *ordinary.shape))
    for k in np.unique(bins):
        r, here = k / _BINS, bins == k
        normal = identity - r * lagged.pairs + r**2 * (identity - lagged.last)
        inverse = np.linalg.inv(normal)
        right = ordinary[:, here] - r * neighbours[:, here] + r**2 * (ordinary - last)[:, here]
        square = sums.square[:, here]
        beta[:, here] = inverse @ right
        whitened = square[0] - 2 * r * square[1] + r**2 * (square[0] - square[2])
        rss[here] = whitened - (right * beta[:, here]).sum(axis=0)
        covariance[..., here] = (transform @ inverse @ transform.T)[..., None]
    return beta, rss, covariance
