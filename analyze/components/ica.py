"""Group ICA: the functional networks of a model, and how surely each one is there.

Subject PCA, group PCA, ICA. The group's part is repeated over bootstrapped subjects and fresh starts;
estimates that come back form tight clusters, and the tightness is the stability of a component. A component
is called a network where it is more stable, and less Gaussian, than any that Gaussian scores give.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import dask.base
import numpy as np
import xarray as xr
from dask.delayed import delayed

from ...store.blocks import level_of, one_blas_thread, valid_tokens, with_tokens
from ...store.errors import InputError
from ...store.moments import Float64
from .group_pca import group_pca
from .null import null_of
from .order import MOST, check_order, order_of, random_signs
from .repeats import Estimate, Model, Spatial, Temporal, check_rank, clusters
from .result import component_attrs, components, stacked
from .scaling import Scaling, agreed, scaling
from .scores import refined, scores
from .solvers import Solver, check_solver
from .span import Plan, Span
from .stability import split_half
from .subjects import Subjects, draw_weights, subjects_of

_ALPHA = 0.05
_MARGIN = 64  # dimensions of the common basis beyond the components: what a bootstrap may put first


@dataclass(frozen=True)
class _Options:
    """How to decompose; as in `group_ica`."""

    n_components: int | float | str
    subject: str
    mode: str
    subject_components: int | None
    n_runs: int
    seed: int
    standardize: bool
    solver: Solver
    group: str
    null: int

    @property
    def most(self) -> int:
        """Components that there may be."""
        return MOST if isinstance(self.n_components, (float, str)) else int(self.n_components)

    @property
    def plan(self) -> Plan:
        """What PCA keeps."""
        k = 2 * self.most if self.subject_components is None else self.subject_components
        kept = max(2 * self.most, self.most + _MARGIN)
        return Plan(k, kept, whiten=self.group == "cca")


def group_ica(
    ds: xr.Dataset | Sequence[xr.Dataset],
    *,
    n_components: int | float | str,
    subject: str = "prompt",
    mode: Literal["spatial", "temporal"] = "spatial",
    subject_components: int | None = None,
    n_runs: int = 10,
    seed: int = 0,
    standardize: bool = True,
    solver: Solver = "quasi-newton",
    group: Literal["pca", "cca"] = "pca",
    window: int | None = None,
    null: int = 19,
) -> xr.Dataset:
    """Decompose recordings into networks of neurons that vary together over tokens.

    Computed here, on the active Dask scheduler: the cube is read twice (four times for temporal sources),
    in blocks, and never held whole; neither are the components of all subjects.

    Parameters
    ----------
    ds
        A recording at the level of tokens, or several with the same layers and neurons: data sets, or
        models of the same shape.
    n_components
        Components of the group; or a share of the variance, below 1, that they are to hold; or
        "parallel", as many as vary more than data with random signs.
    subject
        "prompt", "recording", or a label whose values make the subjects.
    mode
        "spatial": maps over neurons are the independent sources; "temporal": time courses over tokens
        are, and maps are how much of each every neuron has.
    subject_components
        Principal components kept of a subject, singular values included; by default twice
        `n_components`, never more than its tokens.
    n_runs
        Repeats: the first takes every subject once, the others bootstrap the subjects; each starts
        afresh.
    seed
        Draws the bootstraps, the starts, the halves and the null.
    standardize
        Give every neuron unit variance over tokens; otherwise neurons are only centred, and those
        of large variance (late layers, as a rule) lead the components.
    solver
        "quasi-newton": on rotations, in blocks; "fastica": scikit-learn's, logcosh; "picard" (needs
        python-picard). All seek the same, in float64.
    group
        "pca": what is large in the subjects together leads; "cca": what they have in common does, their
        components being given unit norm [3]_.
    window
        Layers decomposed together; None takes all of them at once.
    null
        Draws of Gaussian scores that are put through the procedure; 0 leaves the null out. 19 are
        enough for p = .05.

    Returns
    -------
    Dataset

    component_map : (component, layer, neuron), zero mean and unit variance over neurons, the longer
        tail positive, NaN for a neuron with any NaN and outside the component's window; most stable first
    stability : (component), in [0, 1]: mean |correlation| of the estimates in its cluster less that to
        the others (the index of ICASSO, an estimate's correlation with itself left out); NaN for one
        repeat
    explained_variance : (component), share of the variance over tokens and neurons that lies along the
        map; maps are not orthogonal, so shares may overlap
    cluster_size : (component), estimates in its cluster; `n_runs` when it came back every time
    split_half : (component), |correlation| of the maps that two halves of the subjects give for it; NaN
        for one repeat, and where a half has too few dimensions
    departure : (component), how far its source is from Gaussian, in units in which chance gives about 1
    p_value : (component), share of draws of the null whose largest stability, or largest departure if
        that is more often, is as large; corrected for the number of components
    is_network : (component), p_value of at most .05
    converged, n_iterations : (repeat), of the ICA of each repeat; with several windows (window, repeat)
    null_stability, null_departure : (draw), the largest of each draw; with several windows (window, draw)

    Without a null, or with one repeat, the variables that need it are left out. The coordinate
    ``window`` of a component is the first layer of its window. Prompts without tokens take no part.

    Notes
    -----
    Subjects are reduced once. Their components are kept as small matrices in the coordinates of one
    basis of ``max(2 K, K + 64)`` dimensions, so a bootstrap is an eigenproblem of that size. That is exact
    while all subjects' components together are no more; beyond, the directions in which the subjects
    together vary least are left out.

    The null keeps all inner products, and so all that PCA sees, and has Gaussian scores; over tokens, with
    the recording's spectrum within prompts and variance between them. It takes the first five repeats (more
    of less than ten components): of fewer, chance makes tighter clusters. Restarts alone are no null: on
    pure noise clusters come back at .6 to .7.

    Raises
    ------
    InputError
        An option that is not allowed, too few tokens or subjects for so many components, or
        recordings that do not match.
    MissingDependencyError
        The solver is not installed.

    References
    ----------
    .. [1] Calhoun et al. (2001), Human Brain Mapping 14:140-151.
    .. [2] Himberg, Hyvarinen & Esposito (2004), NeuroImage 22:1214-1222.
    .. [3] Varoquaux et al. (2010), NeuroImage 51:288-299.
    """
    recordings = [ds] if isinstance(ds, xr.Dataset) else list(ds)
    options = _Options(
        n_components, subject, mode, subject_components, n_runs, seed, standardize, solver, group, null
    )
    check_recordings(recordings)
    _check(options)
    recordings = [with_tokens(r) for r in recordings]
    subjects = subjects_of(recordings, subject)
    parts = [_decompose(own, subjects, options) for own in windows(recordings, window)]
    attrs = component_attrs(recordings, f"group ICA, {mode}, {_METHODS[solver]}, float64")
    return stacked(parts).assign_attrs(
        attrs,
        subject=subject,
        n_subjects=len(subjects),
        subject_components=options.plan.of_subject,
        mode=mode,
        n_runs=n_runs,
        seed=seed,
        standardize=standardize,
        solver=solver,
        group=group,
        window=window or 0,
        n_components=str(n_components),
        n_null=null,
    )


_METHODS = {"quasi-newton": "quasi-Newton tanh", "fastica": "FastICA logcosh", "picard": "Picard-O tanh"}


def check_recordings(recordings: Sequence[xr.Dataset]) -> None:
    """Refuse recordings that cannot be decomposed together."""
    if not recordings:
        raise InputError("group_ica needs at least one recording, got none")
    first = recordings[0]
    for ds in recordings:
        if level_of(ds) != "token":
            raise InputError(
                "group_ica needs the activations of tokens; open the recording with level='token', or "
                "record it with keep='full'"
            )
        if any(not np.array_equal(ds[d].to_numpy(), first[d].to_numpy()) for d in ("layer", "neuron")):
            raise InputError(
                "the recordings differ in their layers or neurons; group_ica compares like with like"
            )


def _check(options: _Options) -> None:
    check_order(options.n_components)
    for name, value, least in (
        ("n_runs", options.n_runs, 1),
        ("subject_components", options.subject_components, 1),
        ("null", options.null, 0),
    ):
        if value is not None and value < least:
            raise InputError(f"{name} must be at least {least}, got {value}")
    for name, chosen, allowed in (
        ("mode", options.mode, ("spatial", "temporal")),
        ("group", options.group, ("pca", "cca")),
    ):
        if chosen not in allowed:
            raise InputError(f"{name} must be {' or '.join(map(repr, allowed))}, got {chosen!r}")
    if options.mode == "temporal" and options.group == "cca":
        raise InputError("group='cca' is for mode='spatial'; temporal sources need the tokens as they are")
    check_solver(options.solver)


def windows(recordings: Sequence[xr.Dataset], window: int | None) -> list[list[xr.Dataset]]:
    """Cut recordings into windows of so many layers."""
    n = recordings[0].sizes["layer"]
    if window is None:
        return [list(recordings)]
    if not 1 <= window <= n:
        raise InputError(f"window must be between 1 and the {n} layers, got {window}")
    return [[ds.isel(layer=slice(a, a + window)) for ds in recordings] for a in range(0, n, window)]


def _decompose(recordings: list[xr.Dataset], subjects: Subjects, options: _Options) -> xr.Dataset:
    """Decompose one window of layers."""
    weights = draw_weights(len(subjects), options.n_runs, options.seed)
    scalings = agreed([scaling(ds, standardize=options.standardize) for ds in recordings])
    total = float(sum(s.squares.sum() for s in scalings))
    span = group_pca(recordings, scalings, subjects, weights, options.plan)
    flipped = partial(_flipped, recordings, scalings, subjects, options)
    order = options.n_components
    K = order_of(span, order, total, flipped) if isinstance(order, (float, str)) else int(order)
    model = _model(recordings, scalings, subjects, weights, span, options)
    check_rank(model, options.n_runs, K)
    runs = _estimates(model, options, K)
    centres, stability, size = clusters(runs[: options.n_runs], model.covariance, K)
    found = np.concatenate([e.coordinates for e in runs[: options.n_runs]])[centres]
    departure = np.concatenate([e.departure for e in runs[: options.n_runs]])[centres]
    along = found @ model.covariance  # each map's share of every dimension
    explained = model.basis.shape[1] * np.einsum("ij,jk,ik->i", along, span.moments[0], along) / total
    values = {
        "stability": stability,
        "explained_variance": explained,
        "cluster_size": size,
        "split_half": np.full(K, np.nan),
        "departure": departure,
    }
    if len(runs) > options.n_runs:
        first, second = (e.coordinates for e in runs[options.n_runs :])
        values["split_half"] = split_half(found, first, second, model.covariance)
    extra = {
        "converged": ("repeat", [e.converged for e in runs[: options.n_runs]]),
        "n_iterations": ("repeat", [e.n_iterations for e in runs[: options.n_runs]]),
    }
    if options.null and options.n_runs > 1:
        null = null_of(model, options.n_runs, K, options.null, options.solver, options.seed)
        values["p_value"] = null.p_value(stability, departure)
        values["is_network"] = values["p_value"] <= _ALPHA
        extra["null_stability"] = ("draw", null.stability)
        extra["null_departure"] = ("draw", null.departure)
    return components(recordings[0], found @ model.basis, scalings[0].usable, values, extra)


def _model(
    recordings: list[xr.Dataset],
    scalings: list[Scaling],
    subjects: Subjects,
    weights: Float64,
    span: Span,
    options: _Options,
) -> Model:
    """Put a basis, centred over the neurons in use, with what is decomposed in it."""
    usable = scalings[0].usable
    if options.mode == "spatial":
        return Spatial(_centred(span.basis, usable), span.moments[1:])
    basis = refined(recordings, scalings, span.basis)
    owner = [
        np.repeat(of, valid_tokens(ds).sum(axis=1)) for of, ds in zip(subjects.of, recordings, strict=True)
    ]
    scored = scores(recordings, scalings, basis)
    prompts = subjects_of(recordings, "prompt").of  # numbered by name, whatever their order
    prompt = [np.repeat(of, valid_tokens(ds).sum(axis=1)) for of, ds in zip(prompts, recordings, strict=True)]
    return Temporal(
        _centred(basis, usable), scored, weights[:, np.concatenate(owner)], np.concatenate(prompt)
    )


def _centred(basis: Float64, usable: Any) -> Float64:
    own = basis if usable.all() else basis[:, usable]
    return np.asarray(own - own.mean(axis=1, keepdims=True))


def _flipped(
    recordings: list[xr.Dataset],
    scalings: list[Scaling],
    subjects: Subjects,
    options: _Options,
    draw: int,
) -> Span:
    """Reduce data in which every value has a random sign."""
    once = np.ones((1, len(subjects)))
    signs = random_signs(recordings, options.seed, draw)
    return group_pca(recordings, scalings, subjects, once, options.plan, signs)


def _estimates(model: Model, options: _Options, K: int) -> list[Estimate]:
    """Decompose every repeat and, where there are several, the halves that have enough dimensions."""
    repeats = list(range(options.n_runs))
    halves = [options.n_runs, options.n_runs + 1]
    if options.n_runs > 1 and min(model.rank(h) for h in halves) >= K:
        repeats += halves
    seeds = np.random.default_rng([options.seed, 1]).integers(2**31, size=options.n_runs + 2).tolist()
    estimate = delayed(one_blas_thread(_estimate), pure=False)
    shared = delayed(model, pure=False, traverse=False)
    tasks = [estimate(shared, r, K, options.solver, seeds[r]) for r in repeats]
    return list(dask.base.compute(*tasks))  # type: ignore[no-untyped-call]


def _estimate(model: Model, repeat: int, n_components: int, solver: Solver, seed: int) -> Estimate:
    return model.estimate(repeat, n_components, solver, seed)
