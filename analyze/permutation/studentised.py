"""The cluster-robust t of many designs at once, by products of matrices.

With loadings l of the contrast on the prompts and residuals r = y - B d, the variance sum l^2 r^2 is
sum l^2 y^2 - 2 d'(B'l^2 y) + d'(B'l^2 B)d, so that all designs of a batch take one product with y and one
with y^2. What that loses by cancellation is computed again from the residuals.
"""

import numpy as np

from ...store.moments import Float64
from .exchange import Draws

_ROUNDING = 1e-13  # as in `fit_glm`: a residual this small beside its values is rounding
_CANCELLED = 1e-4  # a variance this small beside its terms has lost digits


def from_residuals(draws: Draws, i: int, Y: Float64, noise: Float64) -> tuple[Float64, Float64]:
    """Effect and variance in one permutation, from its residuals: (neuron,) each.

    Parameters
    ----------
    draws, i
        Permutations, and which of them.
    Y
        (prompt, neuron), freed of the nuisance.
    noise
        (prompt, neuron) or what broadcasts to it: values below are rounding, and count as 0.
    """
    basis, weights, sign = (x[i if len(x) > 1 else 0] for x in (draws.basis, draws.weights, draws.sign))
    Y = sign[:, None] * Y
    delta = basis.T @ Y
    residual = Y - basis @ delta
    residual[np.abs(residual) < noise] = 0.0
    loading = basis @ weights
    effect = weights @ delta
    effect[np.abs(effect) < np.abs(loading) @ noise] = 0.0
    return effect, np.square(loading) @ np.square(residual)


def studentised(draws: Draws, Y: Float64, squares: Float64, scale: Float64, root: Float64) -> Float64:
    """Effect over the root of its variance, in every permutation: (permutation, neuron).

    Parameters
    ----------
    draws
        Permutations.
    Y, squares
        (prompt, neuron), freed of the nuisance; and squared.
    scale
        (neuron,), the largest magnitude of the values as they were.
    root
        (prompt,), root of the tokens of each prompt.

    Returns
    -------
    Infinite where there is an effect but no variance, 0 where there is neither.
    """
    n, n_regressors = draws.basis.shape[1:]
    loading = (draws.basis @ draws.weights[..., None])[..., 0]
    loaded = np.square(loading)[..., None] * draws.basis
    rows = np.concatenate([draws.basis, loaded], axis=2) * draws.sign[..., None]
    product = np.swapaxes(rows, 1, 2).reshape(-1, n) @ Y
    delta, cross = np.moveaxis(product.reshape(len(rows), 2, n_regressors, -1), 1, 0)
    spread = (np.swapaxes(draws.basis, 1, 2) @ loaded) @ delta
    total = np.square(loading) @ squares
    effect = (draws.weights[:, None] @ delta)[:, 0]
    variance = total - np.einsum("prv,prv->pv", delta, 2 * cross - spread)
    lost = ~(variance > _CANCELLED * (total + np.einsum("prv,prv->pv", delta, spread)))
    for i in np.flatnonzero(lost.any(axis=1)).tolist():
        v = np.flatnonzero(lost[i])
        effect[i, v], variance[i, v] = from_residuals(draws, i, Y[:, v], _ROUNDING * np.outer(root, scale[v]))
    with np.errstate(divide="ignore", invalid="ignore"):
        t = effect / np.sqrt(variance)
    return np.where(effect == 0, 0.0, t)


def freed(values: Float64, nuisance: Float64, root: Float64) -> tuple[Float64, Float64]:
    """Take the nuisance off values (prompt, neuron): rows times `root`; and the values' scale (neuron,)."""
    scale = np.abs(values).max(axis=0)
    Y = values * root[:, None]
    for _ in range(2):  # once more, for the digits that a mean far from zero costs
        Y -= nuisance @ (nuisance.T @ Y)
    Y[np.abs(Y) < _ROUNDING * np.outer(root, scale)] = 0.0
    return Y, scale


def observed(draws: Draws, Y: Float64, scale: Float64, root: Float64) -> tuple[Float64, Float64]:
    """Effect and studentised effect of the first of `draws`: (neuron,) each; NaN where nothing varies."""
    effect, variance = from_residuals(draws, 0, Y, _ROUNDING * np.outer(root, scale))
    return effect, effect / np.sqrt(np.where(variance > 0, variance, np.nan))
