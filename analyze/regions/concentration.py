"""Whether a region gathers in few rows and columns of its matrices, beside chance."""

from typing import Any

import dask
import numpy as np
import numpy.typing as npt
import xarray as xr

from ...store.arguments import real_number, whole_number
from ...store.errors import InputError
from ...store.provenance import source_attrs
from ...store.regions import check_regions, labels_of, masks, region_names
from .counts import random_counts

Int = npt.NDArray[np.int64]
Float64 = npt.NDArray[np.float64]
_LINES = ("row", "column")


def concentration(
    regions: xr.DataTree, *, lines: float = 0.05, n_draws: int = 99, seed: int = 0
) -> xr.Dataset:
    """Concentration of regions in rows and in columns, with the null of random regions of equal size.

    Parameters
    ----------
    regions
        From `region`.
    lines
        Share of a matrix's rows, or columns, that are looked at: those with most of the region.
    n_draws
        Random regions of the same size. The number of their parameters in each row has the multivariate
        hypergeometric distribution, from which it is drawn.
    seed
        Draws them.

    Returns
    -------
    Dataset (tensor, region)

    row_share, column_share : share of the region in the `lines` fullest rows, columns
    row_gini, column_gini : inequality of the counts over rows, columns, from 0 (even) to nearly 1
    row_share_null, ... : (draw, tensor, region), the same of random regions
    row_share_p, ... : (1 + random regions at least as concentrated) / (1 + random regions)
    size : parameters of the region in the tensor

    NaN where a region is empty in a tensor. ``matrix`` and ``layer`` lie along ``tensor``.

    Raises
    ------
    InputError, InputTypeError
        They are no regions; `lines` is not in (0, 1]; `n_draws` is negative.
    """
    check_regions(regions)
    if not 0 < real_number(lines, "lines") <= 1:
        raise InputError(f"lines must be above 0 and at most 1, got {lines}")
    for name, value in (("n_draws", n_draws), ("seed", seed)):
        whole_number(value, name, least=0)
    names, counts = _counts(regions)
    dims = ("tensor", "region")
    out: dict[str, Any] = {}
    for i, line in enumerate(_LINES):
        own = [c[i] for c in counts]  # (region, line) of each tensor
        lengths = [c[1 - i].shape[1] for c in counts]  # of a line
        observed = np.stack([_measures(c, lines) for c in own], axis=1)  # (measure, tensor, region)
        null = np.stack(
            [
                _null(c.sum(axis=1), c.shape[1], n, lines, n_draws, [seed, i, t])
                for t, (c, n) in enumerate(zip(own, lengths, strict=True))
            ],
            axis=2,
        )  # (measure, draw, tensor, region)
        for k, measure in enumerate(("share", "gini")):
            out[f"{line}_{measure}"] = (dims, observed[k])
            out[f"{line}_{measure}_null"] = (("draw", *dims), null[k])
            out[f"{line}_{measure}_p"] = (dims, _p_value(observed[k], null[k]))
    out["size"] = (dims, np.stack([c[0].sum(axis=1) for c in counts]))
    return xr.Dataset(
        out,
        coords={
            "tensor": np.array(names, dtype=object),
            "region": np.array(region_names(regions), dtype=object),
            "role": ("region", np.array(labels_of(regions, "role"), dtype=object)),
            "matrix": ("tensor", _attrs(regions, "matrix", "")),
            "layer": ("tensor", _attrs(regions, "layer", -1).astype(int)),
        },
        attrs={
            "kind": "concentration", "lines": lines, "n_draws": n_draws, "seed": seed,
            **source_attrs(regions.dataset.attrs),
        },
    )  # fmt: skip


def _attrs(regions: xr.DataTree, name: str, missing: Any) -> npt.NDArray[Any]:
    return np.array([mask.attrs.get(name, missing) for _, mask in masks(regions)], dtype=object)


def _counts(regions: xr.DataTree) -> tuple[list[str], list[tuple[Int, Int]]]:
    """Parameters of each region in each row, and in each column, of each tensor: (region, line)."""
    lazy = [(m.sum("column").data, m.sum("row").data) for _, m in masks(regions)]
    found: Any = dask.base.compute(*lazy)  # type: ignore[no-untyped-call]
    counts = [(np.asarray(r), np.asarray(c)) for r, c in found]
    return [name for name, _ in masks(regions)], counts


def _measures(counts: Int, lines: float) -> Float64:
    """Share in the fullest lines, and Gini index [1]_, over the last axis: (2, ...).

    References
    ----------
    .. [1] Gini (1912), Variabilità e mutabilità.
    """
    ordered = np.sort(counts, axis=-1).astype(np.float64)
    n, total = counts.shape[-1], ordered.sum(axis=-1)
    fullest = max(1, round(lines * n))
    with np.errstate(invalid="ignore"):
        share = ordered[..., n - fullest :].sum(axis=-1) / total
        weighted = (ordered * (2 * np.arange(1, n + 1) - n - 1)).sum(axis=-1)
        return np.stack([share, weighted / (n * total)])


def _null(sizes: Int, n_lines: int, length: int, lines: float, n_draws: int, seed: list[int]) -> Float64:
    """Measure random regions of these sizes: (measure, draw, region)."""
    out = np.full((2, n_draws, len(sizes)), np.nan)
    rng = np.random.default_rng(seed)
    full = np.full(n_lines, length)
    for r, size in enumerate(sizes):
        if n_draws:
            out[:, :, r] = _measures(random_counts(full, int(size), rng, n_draws), lines)
    return out


def _p_value(observed: Float64, null: Float64) -> Float64:
    if not len(null):
        return np.full(observed.shape, np.nan)
    strong = (null >= observed).sum(axis=0)
    return np.where(np.isnan(observed), np.nan, (1 + strong) / (1 + len(null)))
