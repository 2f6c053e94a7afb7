"""Passes over a cube: each chunk is read by one task, and what the tasks find is merged in a tree."""

from collections.abc import Callable
from functools import partial
from typing import Any

import dask.array as da
import numpy as np
import numpy.typing as npt
from dask.array.core import slices_from_chunks
from dask.base import optimize
from dask.delayed import Delayed, delayed
from dask.local import get_sync
from dask.optimization import cull

from ...store.blocks import one_blas_thread, tree_reduce
from ...store.moments import Float64
from .products import Sums, score_chunk, sum_chunk
from .token_rows import Rows

Place = tuple[int, ...]  # of a chunk along layer and neuron


def _prompts(cube: da.Array) -> list[slice]:
    """Return the prompts of each chunk."""
    return [prompts for (prompts,) in slices_from_chunks(cube.chunks[:1])]  # type: ignore[no-untyped-call]


def summed(cube: da.Array, rows: Rows, *, lags: bool) -> dict[Place, Delayed]:
    """Sum over the whole cube, once, for each chunk along layer and neuron: `Sums`, delayed."""
    centred = delayed(Sums.centred, pure=False)
    tasks = [_task(partial(sum_chunk, rows=rows.of(p), lags=lags)) for p in _prompts(cube)]
    out = {}
    chunks = cube.to_delayed()[:, 0]  # type: ignore[no-untyped-call]
    for place in np.ndindex(*cube.numblocks[2:]):
        parts = [task(chunk) for task, chunk in zip(tasks, chunks[:, *place], strict=True)]
        out[place] = centred(tree_reduce(parts, _added))
    return out


def scored(
    cube: da.Array,
    rows: Rows,
    sums: dict[Place, Delayed],
    leverage: Float64,
    inflate: Float64,
) -> dict[Place, Delayed]:
    """Go through the cube a second time, for the sum of squares of the prompts' scores, delayed."""
    (cube,) = optimize(cube)  # type: ignore[no-untyped-call]
    tasks = [
        _task(partial(score_chunk, rows=rows.of(p), leverage=leverage[p], inflate=inflate[p]))
        for p in _prompts(cube)
    ]
    out = {}
    for place, total in sums.items():
        parts = [task(_read_again(cube, i, place), sums=total) for i, task in enumerate(tasks)]
        out[place] = tree_reduce(parts, _total)
    return out


def _read_again(cube: da.Array, prompts: int, place: Place) -> Callable[[], npt.NDArray[Any]]:
    """Return what reads a chunk inside the task that needs it.

    As a task of its own it would be shared with the first pass, and kept until the second.
    """
    key = (cube.name, prompts, 0, *place)
    needed, _ = cull(cube.__dask_graph__(), [key])  # type: ignore[no-untyped-call]
    return partial(get_sync, needed, key)


def _task(function: Callable[..., Any]) -> Callable[..., Delayed]:
    task: Callable[..., Delayed] = delayed(one_blas_thread(function), pure=False, traverse=False)
    return task


def _total(parts: list[Float64]) -> Float64:
    return np.asarray(np.sum(parts, axis=0))


def assembled(finished: dict[Place, Delayed], cube: da.Array, n_rows: int) -> da.Array:
    """Put delayed arrays (row, layer * neuron) of the chunks together: (row, layer, neuron), lazy."""
    shaped = delayed(_shaped, pure=False)
    grid = []
    for i, n_layers in enumerate(cube.chunks[2]):
        line = []
        for j, n_neurons in enumerate(cube.chunks[3]):
            shape = (n_rows, n_layers, n_neurons)
            line.append(da.from_delayed(shaped(finished[i, j], shape), shape, dtype=np.float64))  # type: ignore[no-untyped-call]
        grid.append(line)
    out: da.Array = da.block([grid])  # type: ignore[no-untyped-call]
    return out


def _shaped(values: Float64, shape: tuple[int, ...]) -> Float64:
    return values.reshape(shape)


def _added(parts: list[Sums | None]) -> Sums | None:
    some = [part for part in parts if part is not None]
    return Sums.added(some) if some else None
