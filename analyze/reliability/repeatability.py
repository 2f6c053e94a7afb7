"""Repeatability: whether a condition's map comes back in other runs, and more than that of another does."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy.sparse
import xarray as xr

from ...store.errors import InputError, InputTypeError
from ...store.moments import Float64, Measure
from ...store.provenance import source_attrs
from ...store.selection import Selection
from ..condition_maps import (
    FoldSums,
    Labels,
    Network,
    PromptMeans,
    Rule,
    StreamedNetworks,
    against_the_others,
    draws_at_once,
    read_labels,
)
from ..expressions import parse_contrast
from ..threshold import Top
from .intraclass import Intraclass

Int = npt.NDArray[np.int64]

_DEFAULT = Top(0.01)
_ROUNDING = 1e-9  # differences of similarities this close are equal: a labelling may come back


def repeatability(
    ds: xr.Dataset,
    *,
    contrasts: Sequence[str] | Mapping[str, str] | None = None,
    by: str = "run",
    measure: Measure = "magnitude",
    network: Network = _DEFAULT,
    alpha: float = 0.05,
    n_permutations: int = 200,
    seed: int = 0,
) -> xr.Dataset:
    """Compare the maps of every condition between runs, each map from one run alone.

    A map is the t of a contrast over the prompts of one run (prompts' means, pooled variance).

    Parameters
    ----------
    ds
        A recording at either level, with ``condition`` and `by`.
    contrasts
        Expressions over the conditions, as `compute_contrast` takes them, or name -> expression; by
        default every condition against the mean of the others.
    by
        The label whose values are the repeats.
    measure
        "magnitude" or "signed".
    network
        How a map is thresholded, one-sided, as by `threshold`: ``Top(...)``, ``P(...)``, ``Z(...)``,
        "fdr", "by" or "bonferroni".
    alpha
        The error rate of a named control.
    n_permutations
        Times the whole procedure is repeated with conditions permuted among the prompts of each run.
    seed
        Draws the permutations.

    Returns
    -------
    Dataset; the coordinates ``map_contrast`` and `by` tell the maps apart

    dice : (map, map_other), of the thresholded maps; NaN where both are empty
    correlation : (map, map_other), Pearson's over the neurons that vary in both, of the maps themselves
    size : (map), neurons kept
    within, between : (metric), mean similarity of maps of different runs, of the same contrast and of
        different ones (NaN for a single contrast); maps that cannot be compared count as 0
    difference : (metric), within - between
    null : (metric, permutation), differences under permuted labels
    p_value : (metric), (1 + permutations with a difference at least as large) / (1 + permutations)
    icc2, icc3 : (contrast), intraclass correlations ICC(2,1), agreement, and ICC(3,1), consistency [1]_,
        of the contrast's effect (model units): neurons are the targets, runs the raters

    The p is exact where conditions are exchangeable between prompts of one run, that is, if no condition
    differs from another. No interval is given: conditions and runs are few, and pairs of maps share
    their maps, so that neither can soundly be resampled.

    Computed here, in one pass for every few hundred permutations, or a few dozen where a control keeps
    many neurons; the prompts' means are kept in memory up to 512 MB, else read in blocks of neurons.

    Raises
    ------
    InputError, InputTypeError
        A label is missing, there is one run only, a run lacks a condition of a contrast or is too small,
        or a contrast cannot be read or does not sum to zero.

    References
    ----------
    .. [1] Shrout & Fleiss (1979), Psychological Bulletin 86:420-428.
    """
    rule = Rule(network, alpha)
    means, labels = read_labels(ds, by, measure, n_permutations, seed, "repeatability")
    named = _weights(contrasts, labels.conditions)
    weights = np.array(list(named.values()))  # (contrast, condition)
    _check(labels, weights, by)
    names, n_folds = np.array(list(named), dtype=object), len(labels.folds)
    per_draw = n_folds * len(names) * rule.bytes_per_map(means.n_neurons)
    batches = draws_at_once(labels, means, per_draw)
    parts = [_compare(means, labels.batch(draws), weights, rule) for draws in batches]
    contrast, fold = np.tile(np.arange(len(names)), n_folds), np.repeat(np.arange(n_folds), len(names))
    similar = np.concatenate([part.similarity for part in parts], axis=1)
    within, between = _averages(similar, contrast, fold)  # (metric, draw)
    difference = within - between
    null = difference[:, 1:]
    p_value = (1 + (null >= difference[:, :1] - _ROUNDING).sum(axis=1)) / (1 + n_permutations)
    runs = np.array(labels.folds)[fold]
    matrix = ("map", "map_other")
    return xr.Dataset(
        {
            "dice": (matrix, similar[0, 0]),
            "correlation": (matrix, similar[1, 0]),
            "size": ("map", parts[0].size),
            "within": ("metric", within[:, 0]),
            "between": ("metric", between[:, 0]),
            "difference": ("metric", difference[:, 0]),
            "null": (("metric", "permutation"), null),
            "p_value": ("metric", np.where(np.isnan(difference[:, 0]), np.nan, p_value)),
            "icc2": ("contrast", parts[0].icc[0]),
            "icc3": ("contrast", parts[0].icc[1]),
        },
        coords={
            "contrast": names,
            "metric": ["dice", "correlation"],
            "map_contrast": ("map", names[contrast]),
            "map_contrast_other": ("map_other", names[contrast]),
            by: ("map", runs),
            f"{by}_other": ("map_other", runs),
        },
        attrs={
            "kind": "repeatability",
            "conditions": labels.conditions,
            "weights": weights.tolist(),
            "by": by,
            "measure": measure,
            "network": network if isinstance(network, str) else repr(network),
            "alpha": alpha,
            "n_permutations": n_permutations,
            "seed": seed,
            "exchangeability": f"conditions are exchangeable between prompts of one {by}",
            **Selection.of(means.moments).attrs,
            **source_attrs(ds.attrs),
        },
    )


def _weights(
    contrasts: Sequence[str] | Mapping[str, str] | None, conditions: list[str]
) -> dict[str, Float64]:
    """Return what is contrasted: name -> weights (condition,)."""
    if contrasts is None:
        rows = against_the_others(np.ones(len(conditions), dtype=np.int64))
        return dict(zip(conditions, rows, strict=True))
    if isinstance(contrasts, str) or not isinstance(contrasts, Sequence | Mapping) or not contrasts:
        raise InputTypeError(
            f"contrasts must be a sequence of expressions, or a mapping name -> expression, got {contrasts!r}"
        )
    named = contrasts if isinstance(contrasts, Mapping) else {c: c for c in contrasts}
    out = {}
    for name, expression in named.items():
        if not isinstance(expression, str):
            raise InputTypeError(f"a contrast must be an expression, such as 'fr - en', got {expression!r}")
        weights = parse_contrast(expression, conditions)
        if not weights.any() or abs(weights.sum()) > 1e-9 * np.abs(weights).max():
            raise InputError(
                f"the weights of contrast {expression!r} must sum to zero, and not all be zero; "
                f"got {dict(zip(conditions, weights.tolist(), strict=True))}"
            )
        out[str(name)] = weights
    return out


def _check(labels: Labels, weights: Float64, by: str) -> None:
    if len(labels.conditions) < 2:
        raise InputError(f"repeatability needs at least two conditions, got {labels.conditions}")
    if len(labels.folds) < 2:
        raise InputError(f"repeatability needs at least two values of {by!r}, got {labels.folds}")
    for fold, count in zip(labels.folds, labels.count, strict=True):
        lacking = np.flatnonzero(weights.any(axis=0) & (count == 0))
        if lacking.size:
            raise InputError(
                f"{by} {fold!r} has no prompts of {[labels.conditions[c] for c in lacking]}; leave these "
                f"conditions out of the contrasts, or the {by} out of the recording"
            )
        if count.sum() <= np.count_nonzero(count):
            raise InputError(
                f"{by} {fold!r} has {count.sum()} prompts of {np.count_nonzero(count)} conditions; "
                "a map of t needs more prompts than conditions"
            )


@dataclass(frozen=True)
class _Compared:
    """What one pass gives.

    Attributes
    ----------
    similarity
        (metric, draw, map, map_other); maps are ordered by fold, then contrast.
    size
        (map,), neurons kept under the first labelling.
    icc
        (2, contrast), under the first labelling.
    """

    similarity: Float64
    size: Int
    icc: Float64


def _compare(means: PromptMeans, labels: Labels, weights: Float64, rule: Rule) -> _Compared:
    """Go through the neurons once, under all these labellings."""
    n_draws, n_folds = len(labels.code), len(labels.folds)
    n_maps = n_folds * len(weights)
    dof = labels.count.sum(axis=1) - np.count_nonzero(labels.count, axis=1)
    dof = np.tile(np.repeat(dof.astype(np.float64), len(weights)), n_draws)
    networks = StreamedNetworks(rule, dof, means.n_neurons)
    products = np.zeros((4, n_draws, n_maps, n_maps))
    icc = Intraclass(n_folds, len(weights))
    for places, values in means.blocks():
        sums = FoldSums(values, labels)
        folds = [sums.within(f).maps(weights) for f in range(n_folds)]
        t = np.stack([t for _, t in folds], axis=1)  # (draw, fold, contrast, neuron)
        icc.add(np.stack([effect[0] for effect, _ in folds]), ~np.isnan(t[0]).any(axis=0))
        t = t.reshape(n_draws, n_maps, -1)
        networks.add(0, t.reshape(-1, len(places)), places)
        products += _products(t)
    masks = networks.masks()
    both = np.stack([_shared(masks[i * n_maps : (i + 1) * n_maps]) for i in range(n_draws)])
    size = np.diagonal(both, axis1=1, axis2=2)
    total = size[:, :, None] + size[:, None, :]
    dice = np.divide(2 * both, total, out=np.full(both.shape, np.nan), where=total > 0)
    return _Compared(np.stack([dice, _pearson(products)]), size[0].astype(np.int64), icc.result())


def _shared(masks: "scipy.sparse.csr_array") -> Float64:
    return np.asarray((masks @ masks.T).toarray())


def _products(maps: Float64) -> Float64:
    """Sum 1, x, x^2 and x y over the neurons of two maps (draw, map, neuron): (4, draw, map, map)."""
    x, have = np.nan_to_num(maps), (~np.isnan(maps)).astype(np.float64)
    turned = have.swapaxes(1, 2)
    return np.stack([have @ turned, x @ turned, x**2 @ turned, x @ x.swapaxes(1, 2)])


def _pearson(products: Float64) -> Float64:
    n, x, xx, xy = products
    spread = n * xx - x**2
    spread = spread * spread.swapaxes(1, 2)
    scale = np.sqrt(np.where(spread > 0, spread, np.nan))
    return np.asarray(np.clip((n * xy - x * x.swapaxes(1, 2)) / scale, -1.0, 1.0))


def _averages(similar: Float64, contrast: Int, fold: Int) -> tuple[Float64, Float64]:
    """Mean similarity within and between contrasts, of maps of different folds: (metric, draw).

    Two maps that cannot be compared, as two empty networks, have nothing in common: 0.
    """
    apart = np.triu(fold[:, None] != fold[None, :])
    same = contrast[:, None] == contrast[None, :]
    out = []
    for pairs in (apart & same, apart & ~same):
        values = np.nan_to_num(similar[:, :, pairs])
        out.append(values.mean(axis=2) if pairs.any() else np.full(values.shape[:2], np.nan))
    return out[0], out[1]
