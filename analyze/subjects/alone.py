"""One subject alone: the independent components of its tokens, and their match with templates."""

from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import xarray as xr

from ...store.moments import Float64
from ..components.solvers import Solver, rotate
from ..components.subject_pca import leading
from ..overlap import match_networks

Mode = Literal["spatial", "temporal"]

_ROUNDING = 1e-12  # of a neuron's largest value: a spread below it is rounding


def decompose(
    tokens: npt.NDArray[Any], n_components: int, mode: Mode, solver: Solver, standardize: bool, seed: int
) -> tuple[Float64, int, bool]:
    """Decompose the tokens of one subject (token, column).

    Returns
    -------
    Maps (component, column) of zero mean and unit variance, the longer tail positive, NaN for a column that
    is not finite and for components beyond the rank; how many were found; whether the ICA converged.
    """
    maps = np.full((n_components, tokens.shape[1]), np.nan)
    usable = np.isfinite(tokens).all(axis=0)
    X = _centred(tokens[:, usable].astype(np.float64), standardize)
    values, U = leading(X @ X.T, n_components)
    k = len(values)
    if not k:
        return maps, 0, True
    signals = U.T @ X if mode == "spatial" else U.T * np.sqrt(len(X))  # over columns, over tokens
    sources, converged = independent(signals, solver, seed)
    own = sources if mode == "spatial" else sources @ X / len(X)
    k = len(own)
    maps[:k, usable] = _normalised(own)
    return maps, k, converged


def _centred(X: Float64, standardize: bool) -> Float64:
    """Take the mean off each column, and give it unit variance where it varies."""
    largest = np.abs(X).max(axis=0, initial=0.0)
    X = X - X.mean(axis=0)
    sd = X.std(axis=0)
    varies = sd > _ROUNDING * largest
    return np.asarray(np.where(varies, X, 0.0) / np.where(varies & standardize, sd, 1.0))


def independent(signals: Float64, solver: Solver, seed: int) -> tuple[Float64, bool]:
    """Find independent sources (component, sample) of signals (signal, sample); and whether that converged.

    The start is drawn for the samples, so that it does not matter how the signals happen to be turned.
    """
    away = signals - signals.mean(axis=1, keepdims=True)
    values, V = leading(away @ away.T / away.shape[1])
    white = (V / np.sqrt(values)).T @ away
    start = np.random.default_rng(seed).standard_normal(white.shape) @ white.T
    found = rotate(white, start, solver)
    return np.asarray(found.W @ white), found.converged


def _normalised(maps: Float64) -> Float64:
    """Zero mean and unit variance over columns, the longer tail positive; NaN where all are equal."""
    away = maps - maps.mean(axis=1, keepdims=True)
    sd = away.std(axis=1, keepdims=True)
    away = np.divide(away, sd, out=np.full(away.shape, np.nan), where=sd > 0)
    return np.asarray(away * np.where((away**3).mean(axis=1, keepdims=True) < 0, -1.0, 1.0))


def match(maps: Float64, templates: Float64) -> tuple[Float64, Float64]:
    """Order maps (component, column) as the templates that they are matched to, with their signs.

    Returns
    -------
    Maps (template, column), NaN without a partner; and the magnitude of the correlation (template,).
    """
    out, similarity = np.full(templates.shape, np.nan), np.full(len(templates), np.nan)
    found = np.flatnonzero(np.isfinite(maps).any(axis=1))
    if not len(found):
        return out, similarity
    a, b = (
        xr.DataArray(x[:, None], dims=("network", "layer", "neuron"), coords={"network": np.arange(len(x))})
        for x in (templates, maps[found])
    )
    paired = match_networks(a, b)
    for i, partner in enumerate(paired["partner"].to_numpy().tolist()):
        if partner:
            out[i] = paired["partner_sign"].to_numpy()[i] * maps[found[int(partner)]]
            similarity[i] = paired["partner_similarity"].to_numpy()[i]
    return out, similarity
