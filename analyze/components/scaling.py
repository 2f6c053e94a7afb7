"""What is taken from every neuron and what it is divided by, from one pass over a recording."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import dask.base
import numpy as np
import numpy.typing as npt
import xarray as xr
from dask.delayed import delayed

from ...store.blocks import activation_array, check_valid, one_blas_thread, tree_reduce, valid_tokens
from ...store.moments import Bool, Float64

Cube = npt.NDArray[np.floating[Any]]
Moments = tuple[int, Float64, Float64]  # tokens, mean (column,), sum of squared deviations (column,)

_ROUNDING = 1e-12  # of a neuron's mean: what varies by less does not vary


@dataclass(frozen=True)
class Scaling:
    """Centre and scale of each neuron of a recording, its columns being layer * neuron.

    Attributes
    ----------
    centre, factor
        (column,): a value becomes (value - centre) * factor; factor is 0 where a neuron never varies.
    usable
        (column,): False for a neuron with a NaN or an infinity.
    squares
        (column,): sum of squares of what is left, over all tokens.
    """

    centre: Float64
    factor: Float64
    usable: Bool
    squares: Float64

    def rows(self, values: Cube, columns: slice) -> Float64:
        """Scale some columns of some tokens: (token, column)."""
        out = values.astype(np.float64)
        out -= self.centre[columns]
        with np.errstate(invalid="ignore"):  # infinity times zero, set to zero below
            out *= self.factor[columns]
        if not self.usable[columns].all():
            out[:, ~self.usable[columns]] = 0.0
        return out


def scaling(ds: xr.Dataset, *, standardize: bool, centre: bool = True) -> Scaling:
    """Centre every neuron over all tokens and, where `standardize`, give it unit variance.

    One pass over the cube, on the active Dask scheduler.

    Parameters
    ----------
    ds
        A recording at the level of tokens, with one token at least.
    standardize
        Divide by the standard deviation over tokens.
    centre
        Subtract the mean over tokens.
    """
    cube = activation_array(ds).rechunk({3: -1})  # type: ignore[no-untyped-call]
    valid = valid_tokens(ds)
    bounds = np.cumsum([0, *cube.chunks[0]])
    reduce_piece = delayed(one_blas_thread(_piece_moments), pure=False)
    pieces = cube.to_delayed()[:, 0, :, 0]
    merged = [
        tree_reduce(
            [reduce_piece(p, valid[a:b]) for p, a, b in zip(column, bounds, bounds[1:], strict=False)], _merge
        )
        for column in pieces.T
    ]
    found: Any = dask.base.compute(*merged)  # type: ignore[no-untyped-call]
    n = found[0][0]
    mean, squares = (np.concatenate([f[i] for f in found]) for i in (1, 2))
    return _make(n, mean, squares, standardize, centre)


def _make(n: int, mean: Float64, squares: Float64, standardize: bool, centre: bool) -> Scaling:
    sd = np.sqrt(squares / n)
    usable = np.isfinite(mean) & np.isfinite(sd)
    varies = usable & (sd > _ROUNDING * np.abs(mean))
    factor = np.zeros(len(mean))
    factor[varies] = 1 / sd[varies] if standardize else 1.0
    if not centre:
        squares = squares + n * np.square(mean)
    left = np.where(varies, squares, 0.0) * np.square(factor)
    return Scaling(np.where(usable, mean, 0.0) if centre else np.zeros(len(mean)), factor, usable, left)


def agreed(scalings: Sequence[Scaling]) -> list[Scaling]:
    """Use only the neurons that every recording can use."""
    usable = np.logical_and.reduce([s.usable for s in scalings])
    return [replace(s, usable=usable, squares=np.where(usable, s.squares, 0.0)) for s in scalings]


def _piece_moments(piece: Cube, valid: Bool) -> Moments:
    """Moments of a piece (prompt, token, layer, neuron) over its valid tokens."""
    check_valid(piece, valid)
    n_columns = piece.shape[2] * piece.shape[3]
    out: Moments = (0, np.zeros(n_columns), np.zeros(n_columns))
    for prompt, mask in zip(piece, valid, strict=True):
        n = int(mask.sum())
        if not n:
            continue
        mean, squares = np.empty(piece.shape[2:]), np.empty(piece.shape[2:])
        with np.errstate(invalid="ignore"):  # an infinite value makes its neuron unusable
            for layer in range(piece.shape[2]):  # one at a time stays in the cache
                rows = (prompt[:, layer] if mask.all() else prompt[mask, layer]).astype(np.float64)
                mean[layer] = rows.mean(axis=0)
                rows -= mean[layer]
                squares[layer] = np.einsum("tv,tv->v", rows, rows)
            out = _merge([out, (n, mean.ravel(), squares.ravel())])
    return out


def _merge(parts: list[Moments]) -> Moments:
    """Pool moments, as Chan, Golub and LeVeque (1983) do."""
    n, mean, squares = parts[0]
    for m, other, more in parts[1:]:
        if not m:
            continue
        away = other - mean
        squares = squares + more + np.square(away) * (n * m / (n + m))
        mean = mean + away * (m / (n + m))
        n += m
    return n, mean, squares
