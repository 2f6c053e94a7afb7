"""Group ICA: the functional networks of a model, and how surely each one is there.

Subject PCA, group PCA, ICA. A subject is a prompt (or all prompts with one label value). Sources are
maps over neurons. The whole is repeated over bootstrapped subjects and fresh starts; estimates
that come back form tight clusters, and the tightness is the stability of a component.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import dask.base
import numpy as np
import numpy.typing as npt
import scipy.cluster.hierarchy
import scipy.spatial.distance
import xarray as xr
from dask.delayed import Delayed, delayed
from sklearn.decomposition import FastICA
from sklearn.exceptions import ConvergenceWarning

from .. import _version
from ..store.blocks import (
    activation_array,
    level_of,
    one_blas_thread,
    prompt_level,
    tree_reduce,
    valid_rows,
    valid_tokens,
)
from ..store.errors import InputError
from ..store.moments import Bool, Float64

Cube = npt.NDArray[np.floating[Any]]

_MAX_ITER = 1000
_TOLERANCE = 1e-4


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
class _Group:
    """Principal components of every repeat, (run, component, usable column), and what they were made of."""

    bases: Float64
    usable: Bool  # (column,)
    total: float
    n_subjects: int


def group_ica(
    ds: xr.Dataset | Sequence[xr.Dataset],
    *,
    n_components: int,
    subject: str = "prompt",
    subject_components: int | None = None,
    n_runs: int = 10,
    seed: int = 0,
    standardize: bool = True,
) -> xr.Dataset:
    """Decompose recordings into networks of neurons that vary together over tokens.

    Computed here, on the active Dask scheduler: the cube is read twice, in blocks, and never held
    whole.

    Parameters
    ----------
    ds
        A recording at the level of tokens, or several with the same layers and neurons.
    n_components
        Components of the group.
    subject
        "prompt", or a label whose values make the subjects.
    subject_components
        Principal components kept of a subject, singular values included; by default twice
        `n_components`, never more than its tokens.
    n_runs
        Repeats: the first takes every subject once, the others bootstrap the subjects; each starts
        afresh.
    seed
        Draws the bootstraps and the starts.
    standardize
        Give every neuron unit variance over tokens; otherwise neurons are only centred, and those
        of large variance (late layers, as a rule) lead the components.

    Returns
    -------
    Dataset

    component_map : (component, layer, neuron), zero mean and unit variance over neurons, the longer
        tail positive, NaN for a neuron with any NaN; most stable first
    stability : (component), in [0, 1]: mean |correlation| of the estimates in its cluster less that to
        the others (the index of ICASSO, an estimate's correlation with itself left out); NaN for one
        repeat
    explained_variance : (component), share of the variance over tokens and neurons that lies along the
        map; maps are not orthogonal, so shares may overlap
    cluster_size : (component), estimates in its cluster; `n_runs` when it came back every time
    converged : (repeat), whether the ICA of each repeat converged

    Prompts without tokens take no part.

    Raises
    ------
    InputError
        Too few tokens or subjects for so many components, or recordings that do not match.

    References
    ----------
    .. [1] Calhoun et al. (2001), Human Brain Mapping 14:140-151.
    .. [2] Himberg, Hyvarinen & Esposito (2004), NeuroImage 22:1214-1222.
    """
    recordings = [ds] if isinstance(ds, xr.Dataset) else list(ds)
    k = 2 * n_components if subject_components is None else subject_components
    _check(recordings, n_components, n_runs, k)
    recordings = [_with_tokens(r) for r in recordings]
    group = _group(recordings, subject, k, n_components, n_runs, seed, standardize)
    _check_rank(group.bases, n_components)
    starts = [_ica(basis, n_components, seed + i) for i, basis in enumerate(group.bases)]
    maps, stability, size = _icasso(np.concatenate([e for e, _ in starts]), n_components)
    full = np.full((n_components, group.usable.size), np.nan)
    full[:, group.usable] = maps
    first = recordings[0]
    shape = (n_components, first.sizes["layer"], first.sizes["neuron"])
    return xr.Dataset(
        {
            "component_map": (("component", "layer", "neuron"), full.reshape(shape)),
            "stability": ("component", stability),
            "explained_variance": ("component", _explained(group.bases[0], maps, group.total)),
            "cluster_size": ("component", size),
            "converged": ("repeat", [ok for _, ok in starts]),
        },
        coords={"component": np.arange(n_components), "layer": first["layer"], "neuron": first["neuron"]},
        attrs={
            "kind": "components",
            "method": "group ICA, spatial, FastICA logcosh float64",
            "subject": subject,
            "n_subjects": group.n_subjects,
            "subject_components": k,
            "n_runs": n_runs,
            "seed": seed,
            "standardize": standardize,
            "source": [r.attrs.get("manifest_digest", "") for r in recordings],
            "source_name": ", ".join(r.attrs.get("name", "") for r in recordings),
            "selected_on": [str(p) for r in recordings for p in r["prompt"].to_numpy()],
            "actome": _version.__version__,
        },
    ).drop_vars("hook_name", errors="ignore")


def _check(recordings: Sequence[xr.Dataset], n_components: int, n_runs: int, k: int) -> None:
    if not recordings:
        raise InputError("group_ica needs at least one recording, got none")
    for name, value in (("n_components", n_components), ("n_runs", n_runs), ("subject_components", k)):
        if value < 1:
            raise InputError(f"{name} must be at least 1, got {value}")
    first = recordings[0]
    for ds in recordings:
        if level_of(ds) != "token":
            raise InputError(
                "group_ica needs the activations of tokens; open the recording with level='token'"
            )
        if any(not np.array_equal(ds[d].to_numpy(), first[d].to_numpy()) for d in ("layer", "neuron")):
            raise InputError(
                "the recordings differ in their layers or neurons; group_ica compares like with like"
            )


def _with_tokens(ds: xr.Dataset) -> xr.Dataset:
    """Leave out prompts without tokens: they would count as subjects."""
    some = valid_tokens(ds).any(axis=1)
    return ds if some.all() else ds.isel(prompt=np.flatnonzero(some))


def _check_rank(bases: Float64, n_components: int) -> None:
    """Refuse if the group, or a bootstrap of it, has too few dimensions."""
    norm = np.linalg.norm(bases, axis=2)  # (run, component)
    rank = int((norm > 1e-8 * norm[:, :1]).sum(axis=1).min())
    if rank < n_components:
        raise InputError(
            f"the subjects, or a bootstrap of them, hold {rank} dimensions, "
            f"too few for {n_components} components; ask for fewer, or give more subjects or tokens"
        )


def _group(
    recordings: Sequence[xr.Dataset],
    subject: str,
    k: int,
    n_components: int,
    n_runs: int,
    seed: int,
    standardize: bool,
) -> _Group:
    """Reduce the subjects, then the group of every repeat, on the active Dask scheduler."""
    kept = max(2 * n_components, n_components + 10)  # so that merging loses nothing that matters
    scalings = [_scaling(r, standardize) for r in recordings]
    parts, n_members = _subject_parts(recordings, scalings, subject, k)
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
    return _Group(results[0][:, :, usable], usable, sum(s.total for s in results[1:]), n_subjects)


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


def _ica(basis: Float64, n_components: int, seed: int) -> tuple[Float64, bool]:
    """Independent maps of a group's leading components: (component, column), and convergence."""
    leading = basis[:n_components]
    # signs of principal components are arbitrary; fixed, equal data give equal starts
    peak = np.take_along_axis(leading, np.abs(leading).argmax(axis=1)[:, None], axis=1)
    ica = FastICA(n_components, whiten="unit-variance", max_iter=_MAX_ITER, tol=_TOLERANCE, random_state=seed)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        sources = ica.fit_transform((leading * np.sign(peak)).T).T
    failed = [w for w in caught if issubclass(w.category, ConvergenceWarning)]
    for w in caught:
        if w not in failed:
            warnings.warn_explicit(w.message, w.category, w.filename, w.lineno)
    return _normalise(sources), not failed


def _normalise(maps: Float64) -> Float64:
    """Zero mean, unit variance over neurons; the sign by skewness."""
    maps = maps - maps.mean(axis=1, keepdims=True)
    maps /= maps.std(axis=1, keepdims=True)
    skew = (maps**3).mean(axis=1, keepdims=True)
    return np.asarray(maps * np.where(skew < 0, -1.0, 1.0))


def _icasso(estimates: Float64, n_clusters: int) -> tuple[Float64, Float64, npt.NDArray[np.int64]]:
    """Cluster the estimates of all repeats: the central map, stability and size of each cluster."""
    similarity = np.clip(np.abs(estimates @ estimates.T) / estimates.shape[1], 0.0, 1.0)
    if len(estimates) == n_clusters:
        return estimates, np.full(n_clusters, np.nan), np.ones(n_clusters, dtype=np.int64)
    distance = scipy.spatial.distance.squareform(1.0 - similarity, checks=False)
    tree = scipy.cluster.hierarchy.linkage(distance, method="average")
    labels = scipy.cluster.hierarchy.cut_tree(tree, [n_clusters]).ravel()  # exactly so many, ties or not
    clusters = [np.flatnonzero(labels == c) for c in np.unique(labels)]
    # rounded, so that of two equally central estimates the one of all subjects wins, whatever the chunks
    centres = [c[np.argmax(similarity[np.ix_(c, c)].sum(axis=1).round(9))] for c in clusters]
    stability = np.array([_index(similarity, c) for c in clusters])
    order = np.argsort(-stability, kind="stable")
    size = np.array([len(c) for c in clusters])
    return estimates[np.array(centres)[order]], stability[order], size[order]


def _index(similarity: Float64, cluster: npt.NDArray[np.intp]) -> float:
    """Mean similarity inside a cluster less that to everything outside; 0 for a lone estimate."""
    if len(cluster) < 2:
        return 0.0
    inside = similarity[np.ix_(cluster, cluster)]
    outside = np.delete(similarity[cluster], cluster, axis=1)
    pairs = len(cluster) * (len(cluster) - 1)
    between = float(outside.mean()) if outside.size else 0.0
    return max(0.0, float(inside.sum() - np.trace(inside)) / pairs - between)


def _explained(basis: Float64, maps: Float64, total: float) -> Float64:
    """Share of the total sum of squares along each map, as if it were alone."""
    norms = np.linalg.norm(maps, axis=1)
    return np.asarray(np.square(basis @ (maps / norms[:, None]).T).sum(axis=0) / total)
