"""Group PCA out of core: each subject's tokens to a few components, merged a few at a time to the group's."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import dask.base
import numpy as np
import numpy.typing as npt
import xarray as xr
from dask.delayed import Delayed, delayed

from ...store.blocks import (
    activation_array,
    one_blas_thread,
    prompt_level,
    tree_reduce,
    valid_rows,
    valid_tokens,
)
from ...store.errors import InputError
from ...store.moments import Bool, Float64

Cube = npt.NDArray[np.floating[Any]]


@dataclass(frozen=True)
class _Scaling:
    """What is subtracted from each neuron, and what it is divided by: (layer * neuron,).

    `usable` is False for neurons with a NaN; `total` is the sum of squares of all that is left.
    """

    mean: Float64
    scale: Float64
    usable: Bool
    total: float


@dataclass(frozen=True)
class Group:
    """Principal components of every repeat, (run, component, usable column), and what they were made of."""

    bases: Float64
    usable: Bool  # (column,)
    total: float
    n_subjects: int


def group_pca(
    recordings: Sequence[xr.Dataset],
    subject: str,
    subject_components: int,
    n_components: int,
    n_runs: int,
    seed: int,
    standardize: bool,
) -> Group:
    """Reduce the subjects, then the group of every repeat, on the active Dask scheduler.

    Parameters
    ----------
    recordings
        Recordings at the level of tokens, with the same layers and neurons.
    subject, subject_components, n_components, n_runs, seed, standardize
        As for `group_ica`.

    Raises
    ------
    InputError
        `subject` is no label, or there are fewer than two subjects.
    """
    kept = max(2 * n_components, n_components + 10)  # so that merging loses nothing that matters
    scalings = [_scaling(r, standardize) for r in recordings]
    parts, n_members = _subject_parts(recordings, scalings, subject, subject_components)
    n_subjects = sum(n_members)
    if n_subjects < 2:
        raise InputError(f"group ICA needs at least two subjects, got {n_subjects}; choose another `subject`")
    weights = _bootstrap_weights(n_subjects, n_runs, seed)
    bounds = np.cumsum([0, *n_members])
    reduce_part = delayed(one_blas_thread(_group_part), pure=False)
    groups = [
        reduce_part(part, weights[:, a:b], kept)
        for part, a, b in zip(parts, bounds[:-1], bounds[1:], strict=True)
    ]
    merged = tree_reduce(groups, _merge_groups)
    results: Any = dask.base.compute(merged, *scalings)  # type: ignore[no-untyped-call]
    usable = np.logical_and.reduce([s.usable for s in results[1:]])
    return Group(results[0][:, :, usable], usable, sum(s.total for s in results[1:]), n_subjects)


def _subject_parts(
    recordings: Sequence[xr.Dataset], scalings: Sequence[Delayed], subject: str, k: int
) -> tuple[list[Delayed], list[int]]:
    """Return lists of subjects' principal components, each (k, column), and how many are in each list."""
    parts: list[Delayed] = []
    sizes: list[int] = []
    for ds, scaling in zip(recordings, scalings, strict=True):
        if subject == "prompt":
            for block, n in _blocks(ds):
                parts.append(delayed(one_blas_thread(_prompt_components), pure=False)(block, scaling, k))
                sizes.append(n)
            continue
        if subject not in ds.coords or ds[subject].dims != ("prompt",):
            raise InputError(f"subject must be 'prompt' or a label of the prompts, got {subject!r}")
        for value in np.unique(ds[subject].to_numpy()):
            own = ds.isel(prompt=np.flatnonzero(ds[subject].to_numpy() == value))
            components = [
                delayed(one_blas_thread(_pooled_components), pure=False)(block, scaling, k)
                for block, _ in _blocks(own)
            ]
            parts.append(tree_reduce(components, _Truncate(k)) if len(components) > 1 else components[0])
            sizes.append(1)
    return parts, sizes


@dataclass(frozen=True)
class _Truncate:
    """Merge lists of one subject's components into a list of one, cut to `k`."""

    k: int

    def __call__(self, lists: list[list[Float64]]) -> list[Float64]:
        return [principal(np.concatenate([c for part in lists for c in part]), self.k)]


def _blocks(ds: xr.Dataset) -> list[tuple[Delayed, int]]:
    """One delayed (activation, valid) a chunk of prompts, whole otherwise, with its prompts' number."""
    cube = activation_array(ds).rechunk({2: -1, 3: -1})  # type: ignore[no-untyped-call]
    valid = valid_tokens(ds)
    pair = delayed(_pair, pure=False)
    bounds = np.cumsum([0, *cube.chunks[0]])
    blocks = cube.to_delayed().ravel()
    return [
        (pair(block, valid[a:b]), int(b - a))
        for block, a, b in zip(blocks, bounds[:-1], bounds[1:], strict=True)
    ]


def _pair(activation: Cube, valid: Bool) -> tuple[Cube, Bool]:
    return activation, valid


def _scaling(ds: xr.Dataset, standardize: bool) -> Delayed:
    """Mean and standard deviation of each neuron over all tokens, in one pass."""
    moments = prompt_level(ds)
    n = moments["count"].to_numpy().astype(np.float64)
    weight = xr.DataArray(n, dims="prompt")
    mean = (moments["mean"] * weight).sum("prompt", skipna=False) / n.sum()
    squares = moments["m2"] + weight * (moments["mean"] - mean) ** 2
    out: Delayed = delayed(_make_scaling, pure=False)(
        mean.data, squares.sum("prompt", skipna=False).data, n.sum(), standardize
    )
    return out


def _make_scaling(mean: Float64, squares: Float64, n_tokens: float, standardize: bool) -> _Scaling:
    mean, sd = mean.ravel(), np.sqrt(squares / n_tokens).ravel()
    usable = np.isfinite(mean) & np.isfinite(sd)
    varies = usable & (sd > 1e-12 * np.abs(mean))  # less is rounding
    scale = np.where(varies, sd if standardize else 1.0, np.inf)  # what never varies becomes 0
    total = n_tokens * float(np.square(sd[varies] / scale[varies]).sum())
    return _Scaling(np.where(usable, mean, 0.0), scale, usable, total)


def _token_rows(activation: Cube, valid: Bool, scaling: _Scaling) -> Float64:
    """Keep the valid tokens of one prompt, scaled: (token, layer * neuron)."""
    rows = valid_rows(activation, valid).astype(np.float64)
    rows = (rows.reshape(len(rows), -1) - scaling.mean) / scaling.scale
    rows[:, ~scaling.usable] = 0.0
    return rows


def _prompt_components(block: tuple[Cube, Bool], scaling: _Scaling, k: int) -> list[Float64]:
    """Principal components of each prompt of a block."""
    rows = (_token_rows(a, v, scaling) for a, v in zip(*block, strict=True))
    return [principal(r, k) for r in rows]


def _pooled_components(block: tuple[Cube, Bool], scaling: _Scaling, k: int) -> list[Float64]:
    """Principal components of all the prompts of a block together."""
    return [principal(np.concatenate([_token_rows(a, v, scaling) for a, v in zip(*block, strict=True)]), k)]


def principal(rows: Float64, k: int) -> Float64:
    """Cut rows to their `k` leading principal components, singular values included: (k, column).

    The rows are not centred: the neurons are, over all tokens, and what a prompt does to the mean of a
    neuron is signal. Through the Gram matrix, since rows are fewer than columns.
    """
    k = max(0, min(k, len(rows)))
    _, vectors = np.linalg.eigh(rows @ rows.T)
    return np.asarray(vectors[:, ::-1][:, :k].T @ rows)


def _bootstrap_weights(n_subjects: int, n_runs: int, seed: int) -> npt.NDArray[np.int64]:
    """How often each subject enters each repeat: (run, subject); the first takes each once."""
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(n_subjects, np.full(n_subjects, 1 / n_subjects), size=n_runs)
    drawn[0] = 1
    return drawn


def _group_part(subjects: list[Float64], weights: npt.NDArray[np.int64], kept: int) -> Float64:
    """Group components of some subjects in every repeat: (run, kept, column), zero rows where fewer."""
    n_columns = subjects[0].shape[1]
    out = np.zeros((len(weights), kept, n_columns))
    for r, weight in enumerate(weights):
        rows = [np.sqrt(w) * s for w, s in zip(weight, subjects, strict=True) if w]
        if rows:
            components = principal(np.concatenate(rows), kept)
            out[r, : len(components)] = components
    return out


def _merge_groups(parts: list[Float64]) -> Float64:
    kept = parts[0].shape[1]
    return np.stack([principal(np.concatenate(rows), kept) for rows in zip(*parts, strict=True)])
