"""Group ICA: the functional networks of a model, and how surely each one is there.

Subject PCA, group PCA, ICA. A subject is a prompt (or all prompts with one label value). Sources are
maps over neurons. The whole is repeated over bootstrapped subjects and fresh starts; estimates
that come back form tight clusters, and the tightness is the stability of a component.
"""

import warnings
from collections.abc import Sequence

import numpy as np
import xarray as xr
from sklearn.decomposition import FastICA
from sklearn.exceptions import ConvergenceWarning

from ... import _version
from ...store.blocks import level_of, valid_tokens
from ...store.errors import InputError
from ...store.moments import Float64
from .group_pca import group_pca
from .stability import icasso

_MAX_ITER = 1000
_TOLERANCE = 1e-4


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
    group = group_pca(recordings, subject, k, n_components, n_runs, seed, standardize)
    _check_rank(group.bases, n_components)
    starts = [_ica(basis, n_components, seed + i) for i, basis in enumerate(group.bases)]
    maps, stability, size = icasso(np.concatenate([e for e, _ in starts]), n_components)
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
            "site": ", ".join(sorted({r.attrs.get("site", "") for r in recordings})),
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
                "group_ica needs the activations of tokens; open the recording with level='token', or "
                "record it with keep='full'"
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


def _explained(basis: Float64, maps: Float64, total: float) -> Float64:
    """Share of the total sum of squares along each map, as if it were alone."""
    norms = np.linalg.norm(maps, axis=1)
    return np.asarray(np.square(basis @ (maps / norms[:, None]).T).sum(axis=0) / total)
