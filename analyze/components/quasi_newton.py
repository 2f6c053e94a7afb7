"""Independent components by a quasi-Newton method on rotations, a block of samples at a time.

The stationary points are those of FastICA with symmetric decorrelation and tanh. Where components are
hardly non-Gaussian, as most of a real decomposition are, the fixed-point iteration wanders for a thousand
steps; here each step lessens a loss.
"""

from collections import deque
from dataclasses import dataclass

import numpy as np
import scipy.linalg

from ...store.moments import Float64

_MAX_ITER = 500
_MEMORY = 8
_LEAST_CURVATURE = 0.01
_HALVINGS = 10
_BLOCK_BYTES = 2**18  # of samples that are gone through at once: they stay in the cache
_PRODUCT = 512  # factors of at most 2 that are multiplied before a logarithm is taken


@dataclass(frozen=True)
class _Point:
    """The contrast at a rotation.

    Attributes
    ----------
    logcosh, slope, moment
        E[log cosh y], E[1 - tanh(y)^2] (component,) and E[tanh(y) y'] (component, component).
    """

    logcosh: Float64
    slope: Float64
    moment: Float64

    @property
    def curvature(self) -> Float64:
        """Return how far each component is from Gaussian: positive where it has the heavier tails."""
        return np.asarray(self.slope - np.diag(self.moment))

    def loss(self, sign: Float64) -> float:
        return float(sign @ self.logcosh)

    def gradient(self, sign: Float64) -> Float64:
        G = sign[:, None] * self.moment
        return np.asarray((G - G.T) / 2)


def quasi_newton(X: Float64, W: Float64, tolerance: float = 1e-6) -> tuple[Float64, bool, int]:
    """Rotate white signals until each is as far from Gaussian as it can be.

    Preconditioned L-BFGS over rotations with a backtracking line search [1]_; components with lighter
    tails than the Gaussian's are found too.

    Parameters
    ----------
    X
        (signal, sample), of zero mean and unit covariance.
    W
        (component, signal), orthogonal: where to start.
    tolerance
        Largest element of the gradient at which to stop.

    Returns
    -------
    The rotation, whether it converged, and the iterations it took.

    References
    ----------
    .. [1] Ablin, Cardoso & Gramfort (2018), ICASSP: 4464-4468.
    """
    blocks = _blocks(X)
    here = _evaluate(blocks, W)
    sign = _sign(here)
    past: deque[tuple[Float64, Float64, float]] = deque(maxlen=_MEMORY)
    for i in range(_MAX_ITER):
        gradient = here.gradient(sign)
        if np.abs(gradient).max(initial=0.0) < tolerance:
            return W, True, i
        direction = _direction(gradient, here.curvature * sign, past)
        found = _search(blocks, W, here, sign, gradient, direction)
        if found is None and past:  # what was learnt misleads: forget it
            past.clear()
            direction = _direction(gradient, here.curvature * sign, past)
            found = _search(blocks, W, here, sign, gradient, direction)
        if found is None:
            return W, False, i
        W, there, step = found
        changed = _sign(there)
        if (changed != sign).any():
            past.clear()
        else:
            away = there.gradient(sign) - gradient
            along = float((step * away).sum())
            if along > 0:
                past.append((step, away, 1 / along))
        here, sign = there, changed
    return W, False, _MAX_ITER


def _blocks(X: Float64) -> list[Float64]:
    width = max(64, _BLOCK_BYTES // (8 * len(X)))
    return [np.ascontiguousarray(X[:, a : a + width]) for a in range(0, X.shape[1], width)]


def _evaluate(blocks: list[Float64], W: Float64) -> _Point:
    k, n = len(W), sum(x.shape[1] for x in blocks)
    logcosh, squares, moment = np.zeros(k), np.zeros(k), np.zeros((k, k))
    for x in blocks:
        y = W @ x
        size = np.abs(y)
        logcosh += size.sum(axis=1)
        size *= -2.0
        e = np.exp(size, out=size)
        rise = e + 1.0
        starts = np.arange(0, y.shape[1], _PRODUCT)
        logcosh += np.log(np.multiply.reduceat(rise, starts, axis=1)).sum(axis=1)
        np.subtract(1.0, e, out=e)
        e /= rise  # tanh |y|
        tanh = np.copysign(e, y, out=e)
        squares += np.einsum("ij,ij->i", tanh, tanh)
        moment += tanh @ y.T
    return _Point(logcosh / n - np.log(2), 1 - squares / n, moment / n)


def _sign(point: _Point) -> Float64:
    return np.where(point.curvature < 0, -1.0, 1.0)


def _direction(gradient: Float64, curvature: Float64, past: deque[tuple[Float64, Float64, float]]) -> Float64:
    """Descend as L-BFGS does, from the Hessian that independent components would have."""
    H = np.maximum((curvature[:, None] + curvature[None]) / 2, _LEAST_CURVATURE)
    q = gradient.copy()
    used = []
    for step, away, rho in reversed(past):
        a = rho * float((step * q).sum())
        q -= a * away
        used.append(a)
    q /= H
    for (step, away, rho), a in zip(past, reversed(used), strict=True):
        q += (a - rho * float((away * q).sum())) * step
    return -q


def _search(
    blocks: list[Float64], W: Float64, here: _Point, sign: Float64, gradient: Float64, direction: Float64
) -> tuple[Float64, _Point, Float64] | None:
    """Halve the step until the loss falls; None if it never does."""
    slope = float((gradient * direction).sum())
    if slope >= 0:
        return None
    rounding = 1e-13 * max(1.0, float(np.abs(here.logcosh).sum()))
    length = 1.0
    for _ in range(_HALVINGS):
        rotated = scipy.linalg.expm(length * direction) @ W
        there = _evaluate(blocks, rotated)
        if there.loss(sign) <= here.loss(sign) + 1e-4 * length * slope + rounding:
            return rotated, there, length * direction
        length /= 2
    return None
