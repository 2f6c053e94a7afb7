"""One window of layers, from tokens to components: PCA, the repeats of ICA, their clusters, the null."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import dask.base
import numpy as np
import xarray as xr
from dask.delayed import delayed

from ...store.arguments import whole_number
from ...store.blocks import one_blas_thread, valid_tokens
from ...store.errors import InputError
from ...store.moments import Bool, Float64
from .group_pca import group_pca
from .null import null_of
from .options import Options
from .order import order_of, random_signs
from .repeats import Estimate, Model, Spatial, Temporal, check_rank, clusters, sum_of_squares
from .result import components
from .scaling import Scaling, agreed, scaling
from .scores import refined, scores
from .solvers import Solver
from .span import Span
from .stability import Int, split_half, split_half_dice
from .subjects import Subjects, draw_weights, subjects_of


def windows(recordings: Sequence[xr.Dataset], window: int | None) -> list[list[xr.Dataset]]:
    """Cut recordings into windows of so many layers."""
    n = recordings[0].sizes["layer"]
    if window is None:
        return [list(recordings)]
    window = whole_number(window, "window", least=1)
    if window > n:
        raise InputError(f"window must be between 1 and the {n} layers, got {window}")
    return [[ds.isel(layer=slice(a, a + window)) for ds in recordings] for a in range(0, n, window)]


def decompose_window(
    recordings: list[xr.Dataset], subjects: Subjects, options: Options, number: int = 0
) -> xr.Dataset:
    """Decompose all the layers of some recordings, the window of that number; see `group_ica`."""
    weights = draw_weights(len(subjects), options.n_runs, options.seed)
    scalings = agreed([scaling(ds, standardize=options.standardize) for ds in recordings])
    total = _total(scalings, recordings[0])
    span = group_pca(recordings, scalings, subjects, weights, options.plan)
    flipped = partial(_flipped, recordings, scalings, subjects, options)
    order = options.n_components
    K = order_of(span, order, total, flipped) if isinstance(order, (float, str)) else int(order)
    model = _model(recordings, scalings, subjects, weights, span, options)
    check_rank(model, options.n_runs, K)
    estimates = _estimates(model, options, K)
    runs, halves = estimates[: options.n_runs], estimates[options.n_runs :]
    centres, stability, size = clusters(runs, model.covariance, K)
    found = np.concatenate([e.coordinates for e in runs])[centres]
    departure = np.concatenate([e.departure for e in runs])[centres]
    values = {
        "stability": stability,
        "explained_variance": sum_of_squares(model, found) / total,
        "cluster_size": size,
        **_of_halves(found, halves, model.basis),
        "departure": departure,
    }
    extra: dict[str, Any] = {
        "converged": ("repeat", [e.converged for e in runs]),
        "n_iterations": ("repeat", [e.n_iterations for e in runs]),
    }
    if options.has_null:
        null = null_of(model, options.n_runs, K, options.null, options.solver, options.seed, number)
        extra["null_stability"], extra["null_departure"] = (("draw", most) for most in null.T)
    return components(recordings[0], found @ model.basis, scalings[0].usable, values, extra)


def _total(scalings: list[Scaling], ds: xr.Dataset) -> float:
    """Sum the squares of all that is decomposed."""
    total = float(sum(s.squares.sum() for s in scalings))
    if not total:
        layers = ds["layer"].to_numpy()
        raise InputError(
            f"there is nothing to decompose: in layers {layers[0]} to {layers[-1]} no neuron that has values "
            "everywhere varies over the tokens; look for masked or constant activations"
        )
    return total


def _model(
    recordings: list[xr.Dataset],
    scalings: list[Scaling],
    subjects: Subjects,
    weights: Float64,
    span: Span,
    options: Options,
) -> Model:
    """Put a basis, centred over the neurons in use, with what is decomposed in it."""
    usable = scalings[0].usable
    if options.mode == "spatial":
        return Spatial(_centred(span.basis, usable), span.moments)
    basis = refined(recordings, scalings, span.basis)
    scored = scores(recordings, scalings, basis)
    prompts = subjects_of(recordings, "prompt")  # numbered by name, whatever their order
    return Temporal(
        _centred(basis, usable),
        scored,
        weights[:, _of_tokens(recordings, subjects)],
        _of_tokens(recordings, prompts),
    )


def _of_tokens(recordings: list[xr.Dataset], subjects: Subjects) -> Int:
    """Give the subject of every token."""
    each = zip(subjects.of, recordings, strict=True)
    return np.concatenate([np.repeat(of, valid_tokens(ds).sum(axis=1)) for of, ds in each])


def _centred(basis: Float64, usable: Bool) -> Float64:
    own = basis if usable.all() else basis[:, usable]
    return np.asarray(own - own.mean(axis=1, keepdims=True))


def _flipped(
    recordings: list[xr.Dataset],
    scalings: list[Scaling],
    subjects: Subjects,
    options: Options,
    draw: int,
) -> Span:
    """Reduce data in which every neuron has a random sign in every prompt."""
    once = np.ones((1, len(subjects)))
    signs = random_signs(recordings, options.seed, draw)
    return group_pca(recordings, scalings, subjects, once, options.plan, signs)


def _estimates(model: Model, options: Options, K: int) -> list[Estimate]:
    """Decompose every repeat and, where there are several, the halves that have enough dimensions."""
    repeats = list(range(options.n_runs))
    halves = [options.n_runs, options.n_runs + 1]
    if options.n_runs > 1 and min(model.rank(h, K) for h in halves) >= K:
        repeats += halves
    seeds = np.random.default_rng([options.seed, 1]).integers(2**31, size=options.n_runs + 2).tolist()
    estimate = delayed(one_blas_thread(_estimate), pure=False)
    shared = delayed(model, pure=False, traverse=False)
    tasks = [estimate(shared, r, K, options.solver, seeds[r]) for r in repeats]
    return list(dask.base.compute(*tasks))  # type: ignore[no-untyped-call]


def _estimate(model: Model, repeat: int, n_components: int, solver: Solver, seed: int) -> Estimate:
    return model.estimate(repeat, n_components, solver, seed)


def _of_halves(found: Float64, halves: list[Estimate], basis: Float64) -> dict[str, Float64]:
    if not halves:
        return {name: np.full(len(found), np.nan) for name in ("split_half", "split_half_dice")}
    first, second = (e.coordinates for e in halves)
    return {
        "split_half": split_half(found, first, second, basis),
        "split_half_dice": split_half_dice(found, first, second, basis),
    }
