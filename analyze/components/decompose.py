"""Other decompositions behind the result type of group ICA, so that a user can compare."""

from collections.abc import Sequence
from typing import Any, Literal

import dask.base
import numpy as np
import scipy.optimize
import xarray as xr

from ...store.arguments import check_seed, real_number, whole_number
from ...store.blocks import with_tokens
from ...store.errors import InputError
from ...store.moments import Float64
from .group_pca import group_pca, units
from .ica import group_ica
from .options import check_recordings
from .repeats import Estimate, clusters
from .result import component_attrs, components
from .scaling import Scaling, agreed, scaling
from .span import Plan, Span
from .subject_pca import leading
from .subjects import draw_weights, subjects_of

Method = Literal["ica", "pca", "dictionary", "nmf"]


def decompose(
    ds: xr.Dataset | Sequence[xr.Dataset],
    *,
    method: Method,
    n_components: int,
    subject: str = "prompt",
    n_runs: int = 10,
    seed: int = 0,
    standardize: bool = True,
    sparsity: float = 1.0,
    n_epochs: int = 20,
    **options: Any,
) -> xr.Dataset:
    """Decompose recordings into maps over neurons by one of several methods.

    Computed here, on the active Dask scheduler; the cube is never held whole.

    Parameters
    ----------
    ds
        A recording at the level of tokens, or several with the same layers and neurons.
    method
        "ica": `group_ica`, which takes `options` too. "pca": the group's principal components, the largest
        first: directions of most variance, each orthogonal to the others, which networks need not be.
        "dictionary": maps with few neurons, by scikit-learn's MiniBatchDictionaryLearning of the group's
        components over neurons. "nmf": parts that only add up, by scikit-learn's MiniBatchNMF of
        magnitudes, since activations have signs and a negative one is no less of it; what all neurons always
        have takes a component. A prompt is a batch, so the order of prompts matters.
    n_components
        Components.
    subject, n_runs
        As in `group_ica`; of no use to "nmf", and for "dictionary" n_runs is not either.
    seed
        Draws the bootstraps and the starts.
    standardize
        Give every neuron unit variance over tokens ("nmf": without centring it).
    sparsity
        Penalty of "dictionary" on the size of a map's values, neurons having unit variance along each
        of the group's components.
    n_epochs
        How often "nmf" goes through the recording.
    options
        Others of `group_ica`.

    Returns
    -------
    Dataset
        ``component_map``, ``stability`` and ``explained_variance`` as in `group_ica`, but that the variance
        is that along maps as the method gives them, before they get zero mean over neurons; stability is
        that of bootstraps over subjects for "pca", and NaN for "dictionary" and "nmf". For "nmf" the
        variance is the sum of squares of the magnitudes. None of them is compared with chance.

    Raises
    ------
    InputError
        An unknown method, options that it does not take, or as in `group_ica`.

    References
    ----------
    .. [1] Mensch, Mairal, Thirion & Varoquaux (2018), IEEE Transactions on Signal Processing 66:113-128.
    .. [2] Lee & Seung (1999), Nature 401:788-791.
    """
    if method not in ("ica", "pca", "dictionary", "nmf"):
        raise InputError(f"method must be 'ica', 'pca', 'dictionary' or 'nmf', got {method!r}")
    shared = {"subject": subject, "n_runs": n_runs, "seed": seed, "standardize": standardize}
    if method == "ica":
        return group_ica(ds, n_components=n_components, **shared, **options)  # type: ignore[arg-type]
    if options:
        raise InputError(f"method {method!r} takes no {', '.join(sorted(options))}; those are for 'ica'")
    recordings = [ds] if isinstance(ds, xr.Dataset) else list(ds)
    check_recordings(recordings)
    for name, value in (("n_components", n_components), ("n_runs", n_runs), ("n_epochs", n_epochs)):
        whole_number(value, f"{name} of method {method!r}", least=1)
    check_seed(seed)
    if not real_number(sparsity, "sparsity") > 0:
        raise InputError(f"sparsity must be positive, got {sparsity}")
    recordings = [with_tokens(r) for r in recordings]
    centre = method != "nmf"
    scalings = agreed([scaling(r, standardize=standardize, centre=centre) for r in recordings])
    total = float(sum(s.squares.sum() for s in scalings))
    if method == "nmf":
        found = _nmf(recordings, scalings, n_components, seed, n_epochs, total)
    else:
        subjects = subjects_of(recordings, subject)
        weights = draw_weights(len(subjects), n_runs, seed)
        span = group_pca(recordings, scalings, subjects, weights, Plan.for_components(n_components))
        if len(leading(span.moments[1])[0]) < n_components:
            raise InputError(
                f"the subjects hold fewer than {n_components} dimensions; ask for fewer components"
            )
        usable = scalings[0].usable
        basis = span.basis[:, usable]
        if method == "pca":
            found = _pca(span, basis, n_components, n_runs, total)
        else:
            found = _dictionary(span, basis, n_components, seed, sparsity, total)
    maps, values = found
    result = components(recordings[0], maps, scalings[0].usable, values, {}).drop_vars("window")
    attrs = component_attrs(recordings, _NAMES[method])
    attrs["measure"] = "magnitude" if method == "nmf" else "signed"
    return result.assign_attrs(attrs, n_components=str(n_components), assumption=_ASSUMPTION, **shared)


_NAMES = {"pca": "group PCA", "dictionary": "dictionary learning", "nmf": "NMF of magnitudes"}
_ASSUMPTION = "every component is more than chance: none was compared with it"
_Found = tuple[Float64, dict[str, Any]]


def _pca(span: Span, basis: Float64, K: int, n_runs: int, total: float) -> _Found:
    """Leading components of all subjects, each with the cluster of the repeats' that it is most alike."""
    same = np.eye(len(basis))
    runs = [Estimate(leading(span.moments[1 + r], K)[1].T, np.zeros(K), True, 0) for r in range(n_runs)]
    centres, stability, size = clusters(runs, same, K)
    maps = runs[0].coordinates
    alike = np.abs(maps @ np.concatenate([e.coordinates for e in runs])[centres].T)
    own = scipy.optimize.linear_sum_assignment(alike, maximize=True)[1]
    values = {
        "stability": stability[own],
        "explained_variance": _along(span, maps) / total,
        "cluster_size": size[own],
    }
    return maps @ basis, values


def _along(span: Span, directions: Float64) -> Float64:
    """Sum of squares of the tokens along directions (component, dimension), as if each were alone."""
    return np.asarray(np.einsum("ij,jk,ik->i", directions, span.moments[0], directions))


def _dictionary(span: Span, basis: Float64, K: int, seed: int, sparsity: float, total: float) -> _Found:
    """Sparse maps whose combinations give the group's components."""
    from sklearn.decomposition import MiniBatchDictionaryLearning

    values, E = leading(span.moments[1], K)
    scaled = (E * np.sqrt(values / values[0])).T @ basis  # (group component, neuron)
    X = (scaled / scaled.std(axis=1).max()).T
    learner = MiniBatchDictionaryLearning(
        K, alpha=sparsity, batch_size=256, random_state=seed, fit_algorithm="cd",
        transform_algorithm="lasso_cd", transform_alpha=sparsity,
    )  # fmt: skip
    maps = learner.fit_transform(X).T
    flat = maps.std(axis=1) == 0
    if flat.any():
        raise InputError(f"{flat.sum()} of {K} maps are empty at sparsity {sparsity}; lower it")
    directions = maps / np.linalg.norm(maps, axis=1, keepdims=True)
    share = _along(span, directions @ basis.T) / total
    order = np.argsort(-share, kind="stable")
    return maps[order], {"stability": np.full(K, np.nan), "explained_variance": share[order]}


def _nmf(
    recordings: list[xr.Dataset], scalings: list[Scaling], K: int, seed: int, n_epochs: int, total: float
) -> _Found:
    """Parts of magnitudes, a prompt at a time."""
    from sklearn.decomposition import MiniBatchNMF

    learner = MiniBatchNMF(K, init="random", random_state=seed)
    usable = scalings[0].usable
    for _ in range(n_epochs):
        for rows in _prompts(recordings, scalings):
            learner.partial_fit(np.abs(rows[:, usable]))
    norm = np.linalg.norm(learner.components_, axis=1)
    if not norm.all():
        raise InputError(f"{(norm == 0).sum()} of {K} parts are empty; ask for fewer components")
    directions = (learner.components_ / norm[:, None]).T
    along = sum(
        np.square(np.abs(rows[:, usable]) @ directions).sum(axis=0) for rows in _prompts(recordings, scalings)
    )
    share = np.asarray(along / total)
    order = np.argsort(-share, kind="stable")
    values: dict[str, Any] = {"stability": np.full(K, np.nan), "explained_variance": share[order]}
    return learner.components_[order].astype(np.float64), values


def _prompts(recordings: list[xr.Dataset], scalings: list[Scaling]) -> Any:
    """Yield the tokens of each prompt: (token, column); one unit is in memory at a time."""
    for ds, own in zip(recordings, scalings, strict=True):
        for task in units(ds, own):
            (unit,) = dask.base.compute(task)  # type: ignore[no-untyped-call]
            for prompt in range(len(unit.valid)):
                yield np.concatenate([X for _, X in unit.blocks(np.array([prompt]))()], axis=1)
