"""Recurrence: how often a template comes back among the components of single subjects, beside chance."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt
import scipy.sparse
import xarray as xr
from dask.base import compute
from dask.delayed import delayed

from ... import _version
from ...store.arguments import check_seed, whole_number
from ...store.errors import InputError, InputTypeError
from ...store.moments import Float64
from ...store.provenance import ORIGIN
from ...store.selection import SELECTION
from ..overlap.measures import check_same_neurons
from ..threshold import check_fraction

Int = npt.NDArray[np.int64]
Bool = npt.NDArray[np.bool_]
Rows = scipy.sparse.csr_array

_SWEEP = tuple(i / 20 for i in range(1, 11))
_NULLS = ("layers", "neurons")
_MASKS = ("network", "layer", "neuron")


def recurrence(
    templates: xr.DataArray,
    individuals: xr.DataArray,
    *,
    jaccard: float = 0.2,
    sweep: Sequence[float] = _SWEEP,
    null: Literal["layers", "neurons"] | None = "layers",
    n_draws: int = 999,
    seed: int = 0,
) -> xr.Dataset:
    """Count the components of single subjects that share enough neurons with each template.

    Parameters
    ----------
    templates
        bool (network, layer, neuron), from the `networks` of a group.
    individuals
        bool (subject, network, layer, neuron), from the `networks` of `individual_components`: of other
        prompts of the same data, of other data, or of another model of the same shape. Prompts that the
        templates were made from recur too easily.
    jaccard
        A component matches where its Jaccard index with the template is above this.
    sweep
        Further thresholds to count at.
    null
        Templates drawn at random with as many neurons in each layer ("layers") or altogether ("neurons"),
        counted in the same way against the same individuals. None: no null.
    n_draws
        How many are drawn for each template.
    seed
        Draws them.

    Returns
    -------
    Dataset, computed here

    components : (network), matching components; may exceed the number of subjects, as each has several
    samples : (network), subjects with a matching component
    best : (network, subject), the largest Jaccard index in each subject
    sweep_components, sweep_samples : (network, threshold), the same at every threshold

    and with a `null`

    expected_components, expected_samples : (network), mean over the draws; at every threshold
        ``sweep_expected_components``, ``sweep_expected_samples`` (network, threshold)
    p_components, p_samples : (network), (1 + draws with at least as many) / (1 + draws), of each template
        alone; NaN for an empty template
    null_components, null_samples : (network, draw)

    An empty mask matches nothing. Without templates, or without components of the subjects, nothing is
    counted: the result has none, or counts of 0.

    Raises
    ------
    InputError, InputTypeError
        The masks are not bool, of other dimensions, or of different neurons; an unknown option.

    References
    ----------
    .. [1] arXiv:2502.20408 (2025), the counts of matching components.

    Examples
    --------
    >>> templates = xr.DataArray(np.eye(2, 4, dtype=bool)[:, None], dims=("network", "layer", "neuron"))
    >>> both = xr.concat([templates, templates[[0, 0]]], "subject")
    >>> counts = recurrence(templates, both, null=None)
    >>> counts["components"].values.tolist(), counts["samples"].values.tolist()
    ([3, 1], [2, 1])
    """
    thresholds = _check(templates, individuals, jaccard, sweep, null)
    n_draws, seed = whole_number(n_draws, "n_draws", least=1), check_seed(seed)
    A = _sparse(templates.transpose(*_MASKS).to_numpy())
    B, subject, n_subjects = _of_subjects(individuals)
    count = _Count(B, subject, n_subjects, thresholds)
    found, best = count(A), count.best(A)
    at = thresholds.index(float(jaccard))
    shown = [i for i, t in enumerate(thresholds) if t in tuple(sweep)]
    dims = ("network", "threshold")
    names = np.array([str(n) for n in templates["network"].to_numpy()], dtype=object)
    out = xr.Dataset(
        {
            "components": ("network", found[0, :, at]),
            "samples": ("network", found[1, :, at]),
            "best": (("network", "subject"), best),
            "sweep_components": (dims, found[0][:, shown]),
            "sweep_samples": (dims, found[1][:, shown]),
        },
        coords={
            "network": names,
            "subject": individuals["subject"].to_numpy(),
            "threshold": np.array(thresholds)[shown],
        },
        attrs={
            "kind": "recurrence",
            "jaccard": jaccard,
            "individual_components": individuals.sizes["network"],
            **_origin(templates, ""),
            **_origin(individuals, "_individuals"),
            "actome": _version.__version__,
        },
    )
    if null is None:
        return out
    drawn = np.zeros((len(names), 2, n_draws, len(thresholds)), dtype=np.int64)
    for i, own in enumerate(drawn):
        own[:] = _null(A, i, templates.sizes["layer"], null, n_draws, seed, count)
    return out.assign(_beside_chance(found, drawn, at, shown, np.diff(A.indptr) == 0)).assign_attrs(
        null=null,
        n_draws=n_draws,
        seed=seed,
        assumption="where it does not recur, a template's neurons lie anywhere"
        + (" in their layers" if null == "layers" else ""),
    )


class _Count:
    """Counts the matches of masks among those of the subjects.

    Parameters
    ----------
    B, subject
        One sparse row a component of a subject, (component of all subjects, neuron); and its subject.
    """

    def __init__(self, B: Rows, subject: Int, n_subjects: int, thresholds: list[float]) -> None:
        self._turned = B.T.tocsr()
        self._size = np.diff(B.indptr)
        self._subject, self._n_subjects, self._thresholds = subject, n_subjects, thresholds

    def _jaccard(self, A: Rows) -> tuple[Int, Int, Float64]:
        """Row, component and Jaccard index of every pair that shares a neuron."""
        both = (A @ self._turned).tocoo()
        i, j = (np.asarray(c, dtype=np.int64) for c in both.coords)
        return i, j, both.data / (np.diff(A.indptr)[i] + self._size[j] - both.data)

    def __call__(self, A: Rows) -> Int:
        """Count matching components, and subjects with one: (2, row, threshold)."""
        n = A.shape[0]
        i, j, similarity = self._jaccard(A)
        pair = i * self._n_subjects + self._subject[j]
        out = np.zeros((2, n, len(self._thresholds)), dtype=np.int64)
        for k, threshold in enumerate(self._thresholds):
            above = similarity > threshold
            out[0, :, k] = np.bincount(i[above], minlength=n)
            out[1, :, k] = np.bincount(np.unique(pair[above]) // self._n_subjects, minlength=n)
        return out

    def best(self, A: Rows) -> Float64:
        """Return the largest index in each subject: (row, subject)."""
        out = np.zeros((A.shape[0], self._n_subjects))
        i, j, similarity = self._jaccard(A)
        np.maximum.at(out, (i, self._subject[j]), similarity)
        return out


def _null(A: Rows, i: int, n_layers: int, null: str, n_draws: int, seed: int, count: _Count) -> Int:
    """Count the matches of random masks as large as template `i`: (2, draw, threshold)."""
    strata = n_layers if null == "layers" else 1
    width = A.shape[1] // strata
    sizes = np.bincount(A.indices[A.indptr[i] : A.indptr[i + 1]] // width, minlength=strata)
    rng = np.random.default_rng([seed, i])
    places = [
        stratum * width + rng.choice(width, int(size), replace=False)
        for _ in range(n_draws)
        for stratum, size in enumerate(sizes)
        if size
    ]
    columns = np.concatenate([np.empty(0, dtype=np.int64), *places])
    ends = int(sizes.sum()) * np.arange(n_draws + 1)
    drawn = scipy.sparse.csr_array(
        (np.ones(len(columns), dtype=np.int64), columns, ends), (n_draws, A.shape[1])
    )
    return count(drawn)


def _beside_chance(
    found: Int, drawn: Int, at: int, shown: list[int], empty: Bool
) -> dict[str, tuple[tuple[str, ...], npt.NDArray[np.generic]]]:
    """Compare counts (2, network, threshold) with those of draws (network, 2, draw, threshold)."""
    out: dict[str, tuple[tuple[str, ...], npt.NDArray[np.generic]]] = {}
    for k, name in enumerate(("components", "samples")):
        own = drawn[:, k]  # (network, draw, threshold)
        reached = (own[..., at] >= found[k, :, at, None]).sum(axis=1)
        expected = own.mean(axis=1)
        out[f"expected_{name}"] = (("network",), expected[:, at])
        out[f"sweep_expected_{name}"] = (("network", "threshold"), expected[:, shown])
        out[f"p_{name}"] = (("network",), np.where(empty, np.nan, (1 + reached) / (1 + own.shape[1])))
        out[f"null_{name}"] = (("network", "draw"), own[..., at])
    return out


def _of_subjects(individuals: xr.DataArray) -> tuple[Rows, Int, int]:
    """One sparse row a component, and its subject; lazy masks are made a chunk of subjects at a time."""
    masks = individuals.transpose("subject", *_MASKS)
    n_subjects, n_networks = masks.shape[:2]
    if masks.chunks is None:
        rows = _sparse(masks.to_numpy())
    else:
        blocks = masks.chunk({d: -1 for d in _MASKS}).data.to_delayed().ravel()
        (parts,) = compute([delayed(_sparse, pure=False)(block) for block in blocks])  # type: ignore[no-untyped-call]
        rows = scipy.sparse.vstack(parts).tocsr()
    return rows, np.repeat(np.arange(n_subjects), n_networks), n_subjects


def _sparse(masks: Bool) -> Rows:
    """One sparse row a mask (..., layer, neuron)."""
    return scipy.sparse.csr_array(masks.reshape(-1, masks.shape[-2] * masks.shape[-1])).astype(np.int64)


def _origin(masks: xr.DataArray, suffix: str) -> dict[str, object]:
    names = (*ORIGIN, *SELECTION, "control")
    return {f"{k}{suffix}": masks.attrs[k] for k in names if k in masks.attrs}


def _check(
    templates: xr.DataArray,
    individuals: xr.DataArray,
    jaccard: float,
    sweep: Sequence[float],
    null: str | None,
) -> list[float]:
    """Refuse what cannot be counted; return all thresholds in order."""
    for name, masks, dims in (
        ("templates", templates, _MASKS),
        ("individuals", individuals, ("subject", *_MASKS)),
    ):
        if not isinstance(masks, xr.DataArray) or masks.dtype != bool or set(masks.dims) != set(dims):
            got = (masks.dtype, masks.dims) if isinstance(masks, xr.DataArray) else type(masks).__name__
            raise InputTypeError(f"{name} must be bool masks ({', '.join(dims)}), from networks; got {got}")
    check_same_neurons(templates, individuals)
    for value in (jaccard, *sweep):
        check_fraction("a Jaccard threshold", value)
    if null is not None and null not in _NULLS:
        raise InputError(f"null must be None or one of {list(_NULLS)}, got {null!r}")
    return sorted({float(t) for t in (jaccard, *sweep)})
