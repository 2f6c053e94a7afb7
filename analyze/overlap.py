"""How far networks share their neurons."""

from typing import Literal

import numpy as np
import scipy.sparse
import xarray as xr

from ..store.errors import InputError, InputTypeError

_METRICS = ("dice", "jaccard", "coefficient")


def overlap(
    a: xr.DataArray,
    b: xr.DataArray | None = None,
    *,
    metric: Literal["dice", "jaccard", "coefficient"] = "dice",
) -> xr.Dataset:
    """Overlap of every network of one set with every network of another.

    Parameters
    ----------
    a, b
        bool (network, layer, neuron); without `b`, the networks of `a` among themselves.
    metric
        "dice": 2 |A and B| / (|A| + |B|). "jaccard": |A and B| / |A or B|. "coefficient":
        |A and B| / min(|A|, |B|).

    Returns
    -------
    Dataset

    <metric> : (network, network_other), in [0, 1]; NaN where the denominator is empty
    intersection : (network, network_other), neurons in both
    size, size_other : neurons in each

    Raises
    ------
    InputError, InputTypeError
        The masks are not bool, or cover different neurons.
    """
    if metric not in _METRICS:
        raise InputError(f"metric must be one of {list(_METRICS)}, got {metric!r}")
    b = a if b is None else b
    A, B = _rows(a), _rows(b)
    for dim in ("layer", "neuron"):
        if not np.array_equal(a[dim].to_numpy(), b[dim].to_numpy()):
            raise InputError(
                f"the masks differ in {dim}: {_span(a, dim)} and {_span(b, dim)}; "
                "overlap needs the same neurons of the same model and site"
            )
    both = np.asarray((A @ B.T).todense(), dtype=np.int64)
    size, size_other = (np.asarray(m.sum(axis=1)).ravel().astype(np.int64) for m in (A, B))
    total = size[:, None] + size_other[None, :]
    top, bottom = {
        "dice": (2 * both, total),
        "jaccard": (both, total - both),
        "coefficient": (both, np.minimum(size[:, None], size_other[None, :])),
    }[metric]
    value = np.divide(top, bottom, out=np.full(both.shape, np.nan), where=bottom > 0)
    dims = ("network", "network_other")
    return xr.Dataset(
        {
            metric: (dims, value),
            "intersection": (dims, both),
            "size": ("network", size),
            "size_other": ("network_other", size_other),
        },
        coords={"network": _names(a), "network_other": _names(b)},
        attrs={"kind": "overlap", "metric": metric},
    )


def _rows(mask: xr.DataArray) -> "scipy.sparse.csr_array":
    """One sparse row a network: (network, layer * neuron)."""
    if (
        not isinstance(mask, xr.DataArray)
        or mask.dtype != bool
        or set(mask.dims) != {"network", "layer", "neuron"}
    ):
        got = (mask.dtype, mask.dims) if isinstance(mask, xr.DataArray) else type(mask).__name__
        raise InputTypeError(f"overlap takes bool masks (network, layer, neuron), got {got}")
    values = mask.transpose("network", "layer", "neuron").to_numpy()
    return scipy.sparse.csr_array(
        values.reshape(len(values), mask.sizes["layer"] * mask.sizes["neuron"]).astype(np.int32)
    )


def _span(mask: xr.DataArray, dim: str) -> str:
    numbers = mask[dim].to_numpy()
    return f"{len(numbers)} of them" + (f" ({numbers[0]} to {numbers[-1]})" if len(numbers) else "")


def _names(mask: xr.DataArray) -> list[str]:
    return [str(n) for n in mask["network"].to_numpy()]
