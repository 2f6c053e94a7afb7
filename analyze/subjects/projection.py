"""Sums over neurons of every token, and sums over tokens of every neuron, out of core."""

from typing import Any

import dask.array as da
import numpy as np
import numpy.typing as npt

from ...store.blocks import one_blas_thread
from ...store.moments import Bool, Float64
from ..components.scaling import Scaling

_BLOCK_BYTES = 2**28  # of maps that one task makes of all neurons, before they are put on one scale


def over_neurons(cube: da.Array, valid: Bool, scaling: Scaling, weights: Float64) -> da.Array:
    """Weighted sums of the scaled neurons at every token, lazy.

    Parameters
    ----------
    cube, valid
        (prompt, token, layer, neuron), (prompt, token).
    weights
        (layer, neuron, component).

    Returns
    -------
    (prompt, token, component), NaN on padding.
    """
    if not weights.size:  # no component: Dask has no blocks of none
        return da.zeros((*valid.shape, weights.shape[2]), chunks=(*cube.chunks[:2], -1))  # type: ignore[no-any-return]
    parts = da.blockwise(  # type: ignore[no-untyped-call]
        one_blas_thread(_sums_over_neurons), "ptklf",
        cube, "ptlf",
        *_beside(cube, valid, scaling),
        da.from_array(weights, chunks=(*cube.chunks[2:], -1)), "lfk",  # type: ignore[no-untyped-call]
        adjust_chunks={"l": 1, "f": 1}, concatenate=True, dtype=np.float64, meta=np.empty((0,) * 5),
    )  # fmt: skip
    total: da.Array = parts.sum(axis=(3, 4))
    return total


def over_tokens_of_prompts(cube: da.Array, valid: Bool, scaling: Scaling, weights: da.Array) -> da.Array:
    """Weighted sums of the scaled neurons over the tokens of each prompt: (prompt, component, layer, neuron).

    Parameters
    ----------
    weights
        (prompt, token, component), 0 on padding.
    """
    n_maps = weights.shape[2] * cube.shape[2] * cube.shape[3]
    at_once = max(1, _BLOCK_BYTES // max(1, 8 * n_maps))
    if max(cube.chunks[0]) > at_once:
        cube = cube.rechunk({0: at_once})  # type: ignore[no-untyped-call]
    made: da.Array = da.blockwise(  # type: ignore[no-untyped-call]
        one_blas_thread(_sums_of_prompts), "pklf",
        cube, "ptlf",
        *_beside(cube, valid, scaling),
        weights.rechunk((cube.chunks[0], -1, -1)), "ptk",  # type: ignore[no-untyped-call]
        concatenate=True, dtype=np.float64, meta=np.empty((0,) * 4),
    )  # fmt: skip
    return made


def over_tokens_of_groups(
    cube: da.Array, valid: Bool, scaling: Scaling, weights: da.Array, group: npt.NDArray[np.int64]
) -> da.Array:
    """Return the same over the tokens of all prompts of each group: (group, component, layer, neuron).

    Parameters
    ----------
    group
        (prompt,), numbers from 0.
    """
    n_groups = int(group.max()) + 1
    parts = da.blockwise(  # type: ignore[no-untyped-call]
        one_blas_thread(_sums_of_groups), "pgklf",
        cube, "ptlf",
        *_beside(cube, valid, scaling),
        weights.rechunk((cube.chunks[0], -1, -1)), "ptk",  # type: ignore[no-untyped-call]
        da.from_array(group, chunks=(cube.chunks[0],)), "p",  # type: ignore[no-untyped-call]
        n_groups=n_groups, new_axes={"g": n_groups}, adjust_chunks={"p": 1},
        concatenate=True, dtype=np.float64, meta=np.empty((0,) * 5),
    )  # fmt: skip
    total: da.Array = parts.sum(axis=0, split_every=8)
    return total


def _beside(cube: da.Array, valid: Bool, scaling: Scaling) -> tuple[Any, ...]:
    """Cut what goes with a cube as the cube is cut: arguments of `blockwise`."""
    cut = da.from_array
    return (
        cut(valid, chunks=cube.chunks[:2]), "pt",  # type: ignore[no-untyped-call]
        cut(scaling.centre.reshape(cube.shape[2:]), chunks=cube.chunks[2:]), "lf",  # type: ignore[no-untyped-call]
        cut(scaling.factor.reshape(cube.shape[2:]), chunks=cube.chunks[2:]), "lf",  # type: ignore[no-untyped-call]
    )  # fmt: skip


def _sums_over_neurons(
    block: npt.NDArray[Any], valid: Bool, centre: Float64, factor: Float64, weights: Float64
) -> Float64:
    out = np.full((*valid.shape, weights.shape[2], 1, 1), np.nan)
    flat = weights.reshape(-1, weights.shape[2])
    for i, (prompt, mask) in enumerate(zip(block, valid, strict=True)):
        out[i, mask, :, 0, 0] = _scaled_rows(prompt, mask, centre, factor) @ flat
    return out


def _sums_of_prompts(
    block: npt.NDArray[Any], valid: Bool, centre: Float64, factor: Float64, weights: Float64
) -> Float64:
    out = np.empty((len(block), weights.shape[2], *centre.shape))
    for i, (prompt, mask) in enumerate(zip(block, valid, strict=True)):
        rows = _scaled_rows(prompt, mask, centre, factor)
        out[i] = (weights[i, mask].T @ rows).reshape(out.shape[1:])
    return out


def _sums_of_groups(
    block: npt.NDArray[Any],
    valid: Bool,
    centre: Float64,
    factor: Float64,
    weights: Float64,
    group: npt.NDArray[np.int64],
    *,
    n_groups: int,
) -> Float64:
    out = np.zeros((1, n_groups, weights.shape[2], *centre.shape))
    for i, (prompt, mask) in enumerate(zip(block, valid, strict=True)):
        rows = _scaled_rows(prompt, mask, centre, factor)
        out[0, group[i]] += (weights[i, mask].T @ rows).reshape(out.shape[2:])
    return out


def _scaled_rows(prompt: npt.NDArray[Any], valid: Bool, centre: Float64, factor: Float64) -> Float64:
    """Return the valid tokens of one prompt (token, layer, neuron), scaled: (token, layer * neuron)."""
    rows = prompt[valid].astype(np.float64)
    with np.errstate(invalid="ignore"):  # infinite times 0, of neurons that are set to 0
        rows -= centre
        rows *= factor
    rows[:, factor == 0] = 0.0
    return rows.reshape(len(rows), -1)
