"""Which neurons tell one condition from the others, and which behave like a given one."""

from typing import Any

import dask.array as da
import numpy as np
import numpy.typing as npt
import pandas as pd
import xarray as xr
from scipy.stats import rankdata

from ..store.blocks import neuron_blocks, one_blas_thread, prompt_level, with_tokens
from ..store.errors import InputError
from ..store.moments import Float64, Measure, check_measure
from ..store.queries.neurons import check_k, numbers, place_of
from ..store.schema import text_array

_BLOCK_BYTES = 2**26  # all prompts of some neurons, held by one task


def selective_neurons(
    ds: xr.Dataset, *, by: str = "condition", measure: Measure = "magnitude", k: int = 20
) -> pd.DataFrame:
    """Return, for each condition, the neurons that tell its prompts best from all others.

    This describes the prompts at hand: the k best of many neurons look better than they are. For
    inference use `fit_glm` and `threshold`, or look at the same neurons in another run.

    Parameters
    ----------
    ds
        A recording at either level, with the label `by`. The prompts' means are compared.
    by
        A label of the prompts.
    measure
        "magnitude" or "signed".
    k
        How many neurons a condition.

    Returns
    -------
    DataFrame
        Sorted by condition, then by ``d_prime`` from the largest: the label, ``layer``, ``neuron``,
        ``d_prime`` (difference of the means over the root mean of the two variances), ``auc``
        (probability that a prompt of the condition lies above another, ties halved), ``mean`` and
        ``mean_other`` (model units).

    Raises
    ------
    InputError
        The label is missing, has one value only, or a value with fewer than two prompts.

    References
    ----------
    .. [1] Green and Swets (1966), Signal Detection Theory and Psychophysics.
    """
    values, labels = _profiles(ds, measure, by, k)
    names, code, counts = np.unique(labels, return_inverse=True, return_counts=True)
    if len(names) < 2 or (counts < 2).any() or (counts > len(code) - 2).any():
        raise InputError(
            f"{by!r} must have two values or more, and two prompts each, in prompts with tokens; "
            f"got {dict(zip(names.tolist(), counts.tolist(), strict=True))}"
        )
    statistics = da.map_blocks(  # type: ignore[no-untyped-call]
        one_blas_thread(_compare), values, code, len(names),
        chunks=((4,), (len(names),), *values.chunks[1:]), drop_axis=0, new_axis=(0, 1), dtype=np.float64,
    ).compute()  # fmt: skip
    tables = []
    for name, (d_prime, auc, mean, other) in zip(names, np.moveaxis(statistics, 1, 0), strict=True):
        i, j = _largest(d_prime, k)
        columns = {"d_prime": d_prime, "auc": auc, "mean": mean, "mean_other": other}
        table = pd.DataFrame({by: name, "layer": numbers(ds, "layer")[i], "neuron": numbers(ds, "neuron")[j]})
        tables.append(table.assign(**{c: x[i, j] for c, x in columns.items()}))
    return pd.concat(tables, ignore_index=True)


def similar_neurons(
    ds: xr.Dataset, *, layer: int, neuron: int, measure: Measure = "magnitude", k: int = 20
) -> pd.DataFrame:
    """Return the neurons that behave like a given one: the correlation of their means over prompts.

    Parameters
    ----------
    ds
        A recording at either level.
    layer, neuron
        Numbers of the neuron to compare with.
    measure
        "magnitude" or "signed".
    k
        How many neurons.

    Returns
    -------
    DataFrame
        The most similar first, without the neuron itself: ``layer``, ``neuron``, ``correlation``
        (Pearson, over prompts). Neurons that never change are left out.

    Raises
    ------
    InputError
        There is no such neuron, it never changes, or there are fewer than three prompts with tokens.
    """
    values, _ = _profiles(ds, measure, None, k)
    i, j = place_of(ds, "layer", layer), place_of(ds, "neuron", neuron)
    if len(values) < 3:
        raise InputError(f"a correlation over prompts needs three with tokens, got {len(values)}")
    profile = values[:, i, j].compute()
    if np.ptp(profile) == 0 or not np.isfinite(profile).all():
        raise InputError(f"neuron {neuron} of layer {layer} is the same in all prompts, or not finite")
    r = da.map_blocks(  # type: ignore[no-untyped-call]
        one_blas_thread(_correlate), values, profile, drop_axis=0, dtype=np.float64
    ).compute()
    r[i, j] = np.nan  # itself
    layers, neurons = _largest(r, k)
    table = pd.DataFrame({"layer": numbers(ds, "layer")[layers], "neuron": numbers(ds, "neuron")[neurons]})
    return table.assign(correlation=r[layers, neurons])


def _profiles(
    ds: xr.Dataset, measure: Measure, by: str | None, k: int
) -> tuple[da.Array, npt.NDArray[np.str_]]:
    """Means of the prompts with tokens, (prompt, layer, neuron), whole along ``prompt``; their labels."""
    check_measure(measure)
    check_k(k)
    moments = prompt_level(ds)
    if by is not None and (by not in moments.variables or moments[by].dims != ("prompt",)):
        labels = [str(c) for c in moments.coords if moments[c].dims == ("prompt",)]
        raise InputError(f"the recording has no label {by!r}; it has {labels}")
    moments = with_tokens(moments)
    values = neuron_blocks(moments["mean_abs" if measure == "magnitude" else "mean"], _BLOCK_BYTES)
    return values, text_array(moments[by].to_numpy() if by is not None else [])


def _compare(values: Float64, code: npt.NDArray[np.int64], n_conditions: int) -> Float64:
    """d', AUC, mean, mean of the others: (4, condition, layer, neuron)."""
    out = np.empty((4, n_conditions, *values.shape[1:]))
    ranks = rankdata(values, axis=0)  # NaN where any value of the neuron is
    for c in range(n_conditions):
        inside = code == c
        a, b = values[inside], values[~inside]
        difference = a.mean(axis=0) - b.mean(axis=0)
        spread = np.sqrt((a.var(axis=0, ddof=1) + b.var(axis=0, ddof=1)) / 2)
        with np.errstate(divide="ignore", invalid="ignore"):
            out[0, c] = np.where(difference == 0, 0.0, difference / spread)
        above = ranks[inside].sum(axis=0) - len(a) * (len(a) + 1) / 2
        out[1, c] = above / (len(a) * len(b))
        out[2, c], out[3, c] = a.mean(axis=0), b.mean(axis=0)
    return out


def _correlate(values: Float64, profile: Float64) -> Float64:
    """Pearson's correlation of every neuron with a profile over prompts: (layer, neuron)."""
    x = values - values.mean(axis=0)
    y = profile - profile.mean()
    with np.errstate(divide="ignore", invalid="ignore"):
        r = np.tensordot(y, x, axes=1) / np.sqrt(np.square(x).sum(axis=0) * np.square(y).sum())
    return np.asarray(np.where(np.ptp(values, axis=0) == 0, np.nan, r))


def _largest(statistic: Float64, k: int) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Layer and neuron of the k largest, NaN left out; the first of equal ones first."""
    order = np.argsort(-statistic, axis=None, kind="stable")[:k]
    order = order[~np.isnan(statistic.ravel()[order])]
    i, j = np.unravel_index(order, statistic.shape)
    return i, j
