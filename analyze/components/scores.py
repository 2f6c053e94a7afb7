"""Tokens in the coordinates of a common basis, for sources over time."""

from collections.abc import Callable, Sequence
from typing import Any

import dask.base
import numpy as np
import xarray as xr
from dask.delayed import delayed

from ...store.blocks import one_blas_thread, tree_reduce
from ...store.moments import Float64
from .group_pca import Unit, units
from .scaling import Scaling
from .subject_pca import leading

_TOGETHER = 4  # sums merged in one step


def refined(recordings: Sequence[xr.Dataset], scalings: Sequence[Scaling], basis: Float64) -> Float64:
    """Turn a basis towards the leading components of all tokens, in one pass: (dimension, column).

    A step of subspace iteration: what merging left out of the basis comes back.
    """
    tasks = _each(_applied, recordings, scalings, basis)
    (total,) = dask.base.compute(tree_reduce(tasks, _sum, arity=_TOGETHER))  # type: ignore[no-untyped-call]
    values, E = leading(total @ total.T)
    return np.asarray((E / np.sqrt(values)).T @ total)


def scores(recordings: Sequence[xr.Dataset], scalings: Sequence[Scaling], basis: Float64) -> Float64:
    """Project every valid token on a basis, in one pass: (token, dimension), the prompts in order."""
    found: Any = dask.base.compute(*_each(_scores, recordings, scalings, basis))  # type: ignore[no-untyped-call]
    return np.concatenate(found)


def _each(
    function: Callable[[Unit, Float64], Float64],
    recordings: Sequence[xr.Dataset],
    scalings: Sequence[Scaling],
    basis: Float64,
) -> list[Any]:
    task = delayed(one_blas_thread(function), pure=False)
    shared = delayed(basis, pure=False, traverse=False)
    return [task(unit, shared) for ds, s in zip(recordings, scalings, strict=True) for unit in units(ds, s)]


def _scores(unit: Unit, basis: Float64) -> Float64:
    prompts = np.arange(len(unit.valid))
    out = np.zeros((unit.n_rows(prompts), len(basis)))
    for columns, X in unit.blocks(prompts)():
        out += X @ basis[:, columns].T
    return out


def _applied(unit: Unit, basis: Float64) -> Float64:
    """Return basis X^T X for the tokens X of a unit."""
    own = _scores(unit, basis)
    out = np.empty_like(basis)
    for columns, X in unit.blocks(np.arange(len(unit.valid)))():
        np.matmul(own.T, X, out=out[:, columns])
    return out


def _sum(parts: list[Float64]) -> Float64:
    return np.asarray(sum(parts))
