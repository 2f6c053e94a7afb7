"""How far networks share their neurons, and how far they would by chance."""

from typing import Literal

import numpy as np
import numpy.typing as npt
import scipy.sparse
import xarray as xr

from ... import _version
from ...store.errors import InputError, InputTypeError
from ...store.moments import Float64
from ...store.provenance import ORIGIN
from ...store.selection import SELECTION
from .intersections import by_chance

Int = npt.NDArray[np.int64]
Bool = npt.NDArray[np.bool_]
Metric = Literal["dice", "jaccard", "coefficient"]

_METRICS = ("dice", "jaccard", "coefficient")
_NULLS = ("hypergeometric", "layers")
_ORIGIN = (*ORIGIN, "measure", *SELECTION)


def overlap(
    a: xr.DataArray,
    b: xr.DataArray | None = None,
    *,
    metric: Metric = "dice",
    null: Literal["hypergeometric", "layers"] | None = None,
    among: xr.DataArray | None = None,
) -> xr.Dataset:
    """Overlap of every network of one set with every network of another.

    Parameters
    ----------
    a, b
        bool (network, layer, neuron); without `b`, the networks of `a` among themselves.
    metric
        "dice": 2 |A and B| / (|A| + |B|). "jaccard": |A and B| / |A or B|. "coefficient":
        |A and B| / min(|A|, |B|).
    null
        What the intersection is compared with. "hypergeometric": two networks of these sizes with
        their neurons anywhere. "layers": networks that have as many neurons in each layer as these
        have, anywhere within the layer; networks that favour the same layers overlap by that alone.
    among
        bool (layer, neuron): the neurons that could be in a network at all, all by default. Where many
        never vary, give ``stat.notnull()``: chance overlap is larger among fewer neurons.

    Returns
    -------
    Dataset

    <metric> : (network, network_other), in [0, 1]; NaN where the denominator is empty
    intersection : (network, network_other), neurons in both
    size, size_other : neurons in each

    and with a `null`, (network, network_other), NaN where a network is empty:

    expected : neurons in both by chance, on average
    excess : (intersection - expected) / standard deviation by chance; NaN where that is zero
    p_value : probability by chance of an intersection at least as large
    p_value_less : of one at most as large

    The probabilities are exact: by chance the intersection is hypergeometric, or a sum of independent
    hypergeometric numbers, one a layer, whose distributions are convolved. Permuting the neurons within
    layers draws from the same distribution, at more cost and no finer than one over the draws. What is
    less probable than 1e-140 is given as that. The probabilities hold for networks that were selected on
    different data: noise common to both makes networks of one recording overlap too.

    Raises
    ------
    InputError, InputTypeError
        The masks are not bool, cover different neurons, or reach beyond `among`; an unknown option.
    """
    if metric not in _METRICS:
        raise InputError(f"metric must be one of {list(_METRICS)}, got {metric!r}")
    if null is not None and null not in _NULLS:
        raise InputError(f"null must be None or one of {list(_NULLS)}, got {null!r}")
    if among is not None and null is None:
        raise InputError("among says what chance may choose from; give a null too, or leave it out")
    other = a if b is None else b
    A, B = _rows(a), _rows(other)
    check_same_neurons(a, other)
    both = (A @ B.T).toarray()
    size, size_other = (np.asarray(m.sum(axis=1)) for m in (A, B))
    dims = ("network", "network_other")
    out = xr.Dataset(
        {
            metric: (dims, _similarity(both, size, size_other, metric)),
            "intersection": (dims, both),
            "size": ("network", size),
            "size_other": ("network_other", size_other),
        },
        coords={"network": _names(a), "network_other": _names(other)},
        attrs={"kind": "overlap", "metric": metric, "actome": _version.__version__}
        | _origin(a)
        | ({} if b is None else _origin(b, "_other")),
    )
    if null is None:
        return out
    chance = _beside_chance(A, B, both, _choice(a, among), null)
    return out.assign({name: (dims, values) for name, values in chance.items()}).assign_attrs(null=null)


def network_counts(masks: xr.DataArray) -> xr.Dataset:
    """Count how many networks share each neuron, and how many neurons each network has in each layer.

    Parameters
    ----------
    masks
        bool (network, layer, neuron).

    Returns
    -------
    Dataset

    count : (layer, neuron), networks that the neuron belongs to
    histogram : (n_networks), neurons that belong to so many networks, from 0 to all
    size : (network, layer), neurons of the network in the layer
    share : (network, layer), of the layer's neurons

    An empty network has sizes of zero; without any network, every count is zero.

    Raises
    ------
    InputTypeError
        The masks are not bool (network, layer, neuron).

    Examples
    --------
    >>> masks = np.array([[[True, True, False]], [[True, False, False]]])
    >>> network_counts(xr.DataArray(masks, dims=("network", "layer", "neuron")))["histogram"].values.tolist()
    [1, 1, 1]
    """
    rows = _rows(masks)
    n_layers, n_neurons = masks.sizes["layer"], masks.sizes["neuron"]
    count = np.asarray(rows.sum(axis=0))
    size = (rows @ _membership(n_layers, n_neurons)).toarray()
    return xr.Dataset(
        {
            "count": (("layer", "neuron"), count.reshape(n_layers, n_neurons)),
            "histogram": ("n_networks", np.bincount(count, minlength=rows.shape[0] + 1)),
            "size": (("network", "layer"), size),
            "share": (("network", "layer"), size / max(n_neurons, 1)),
        },
        coords={
            "network": _names(masks),
            "n_networks": np.arange(rows.shape[0] + 1),
            "layer": masks["layer"].to_numpy(),
            "neuron": masks["neuron"].to_numpy(),
        },
        attrs={"kind": "network_counts", "actome": _version.__version__} | _origin(masks),
    )


def check_same_neurons(a: xr.DataArray, b: xr.DataArray) -> None:
    """Refuse two sets of masks or maps that cover different layers or neurons."""
    for dim in ("layer", "neuron"):
        if not np.array_equal(a[dim].to_numpy(), b[dim].to_numpy()):
            raise InputError(
                f"the masks differ in {dim}: {_span(a, dim)} and {_span(b, dim)}; "
                "overlap needs the same neurons of the same model and site"
            )


def _similarity(both: Int, size: Int, size_other: Int, metric: Metric) -> Float64:
    total = size[:, None] + size_other[None, :]
    top, bottom = {
        "dice": (2 * both, total),
        "jaccard": (both, total - both),
        "coefficient": (both, np.minimum(size[:, None], size_other[None, :])),
    }[metric]
    return np.asarray(np.divide(top, bottom, out=np.full(both.shape, np.nan), where=bottom > 0))


def _beside_chance(
    A: "scipy.sparse.csr_array", B: "scipy.sparse.csr_array", both: Int, choice: Bool, null: str
) -> dict[str, Float64]:
    """Compare intersections with those of networks drawn from `choice` (layer, neuron)."""
    if any(m[:, ~choice.ravel()].nnz for m in (A, B)):
        raise InputError(
            "a network has neurons that `among` leaves out; give the neurons it was selected from"
        )
    strata = _membership(*(choice.shape if null == "layers" else (1, choice.size)))
    return by_chance((A @ strata).toarray(), (B @ strata).toarray(), choice.ravel() @ strata, both)


def _choice(a: xr.DataArray, among: xr.DataArray | None) -> Bool:
    """Which neurons chance may choose: (layer, neuron)."""
    if among is None:
        return np.ones((a.sizes["layer"], a.sizes["neuron"]), dtype=bool)
    if not isinstance(among, xr.DataArray) or among.dtype != bool or set(among.dims) != {"layer", "neuron"}:
        got = (among.dtype, among.dims) if isinstance(among, xr.DataArray) else type(among).__name__
        raise InputTypeError(f"among must be bool (layer, neuron), got {got}")
    check_same_neurons(a, among)
    return np.asarray(among.transpose("layer", "neuron").to_numpy())


def _membership(n_strata: int, n_neurons: int) -> "scipy.sparse.csr_array":
    """One where a neuron is in a stratum, which are of equal size: (stratum * neuron, stratum)."""
    numbers = np.arange(n_strata * n_neurons)
    ones = np.ones(len(numbers), dtype=np.int64)
    stratum = np.repeat(np.arange(n_strata), n_neurons)
    return scipy.sparse.csr_array((ones, (numbers, stratum)), shape=(len(numbers), n_strata))


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
    flat = values.reshape(len(values), mask.sizes["layer"] * mask.sizes["neuron"])
    return scipy.sparse.csr_array(flat).astype(np.int64)


def _origin(mask: xr.DataArray, suffix: str = "") -> dict[str, object]:
    return {f"{k}{suffix}": mask.attrs[k] for k in _ORIGIN if k in mask.attrs}


def _span(mask: xr.DataArray, dim: str) -> str:
    numbers = mask[dim].to_numpy()
    return f"{len(numbers)} of them" + (f" ({numbers[0]} to {numbers[-1]})" if len(numbers) else "")


def _names(mask: xr.DataArray) -> list[str]:
    return [str(n) for n in mask["network"].to_numpy()]
