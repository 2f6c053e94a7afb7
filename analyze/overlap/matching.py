"""Which network of one set is which of another."""

import numpy as np
import scipy.optimize
import xarray as xr

from ... import _version
from ...store.errors import InputError, InputTypeError
from ...store.moments import Float64
from ...store.provenance import unfinished_of
from .measures import Metric, check_same_neurons, overlap


def match_networks(a: xr.DataArray, b: xr.DataArray, *, metric: Metric = "dice") -> xr.Dataset:
    """Pair the networks of two sets so that the similarities of the pairs add up to the most.

    Parameters
    ----------
    a, b
        Masks, bool (network, layer, neuron), or maps, floating point, with ``component`` or any other
        name for ``network``. Neurons that are NaN in any map are left out.
    metric
        How masks are compared, see `overlap`. Maps are compared by the magnitude of their Pearson
        correlation over neurons, as the sign of a component is arbitrary.

    Returns
    -------
    Dataset

    similarity : (network, network_other), NaN for an empty mask or a map that is the same everywhere
    partner : (network), the matched network of `b`, "" where none is left with anything in common
    partner_similarity : (network), NaN without a partner
    partner_sign : (network), for maps: -1 where the partner has the opposite sign, 0 without a partner
    partner_other : (network_other), the matched network of `a`, "" without

    Each network has one partner at most; where the sets differ in number, some are left over, as are
    empty masks and flat maps.

    Raises
    ------
    InputError, InputTypeError
        One holds masks and the other maps, or they cover different neurons.

    References
    ----------
    .. [1] Kuhn (1955), Naval Research Logistics Quarterly 2:83-97.

    Examples
    --------
    >>> maps = xr.DataArray(np.eye(3)[:, None], dims=("component", "layer", "neuron"))
    >>> match_networks(maps, -maps[::-1])["partner"].values.tolist()
    ['2', '1', '0']
    """
    a, b = _as_networks(a), _as_networks(b)
    if a.dtype == bool and b.dtype == bool:
        compared = overlap(a, b, metric=metric)
        signed = compared[metric].to_numpy()
        shown: str = metric
    elif a.dtype.kind == b.dtype.kind == "f":
        signed = correlate_maps(a, b)
        shown = "correlation"
    else:
        raise InputTypeError(
            "match_networks takes two sets of masks (bool) or two of maps (float), "
            f"got {a.dtype} and {b.dtype}"
        )
    similarity = np.abs(signed)
    names, others = (np.array([str(n) for n in x["network"].to_numpy()], dtype=object) for x in (a, b))
    partner, partner_other = np.full(len(names), "", dtype=object), np.full(len(others), "", dtype=object)
    of_partner, sign = np.full(len(names), np.nan), np.zeros(len(names), dtype=np.int64)
    for i, j in _assignment(similarity):
        partner[i], partner_other[j] = others[j], names[i]
        of_partner[i], sign[i] = similarity[i, j], int(np.sign(signed[i, j]))
    out = xr.Dataset(
        {
            "similarity": (("network", "network_other"), similarity),
            "partner": ("network", partner),
            "partner_similarity": ("network", of_partner),
            "partner_other": ("network_other", partner_other),
        },
        coords={"network": names, "network_other": others},
        attrs={
            "kind": "matching",
            "metric": shown,
            "source": [x.attrs.get("source", "") for x in (a, b)],
            "source_name": [x.attrs.get("source_name", "") for x in (a, b)],
            "site": [x.attrs.get("site", "") for x in (a, b)],
            **unfinished_of(a.attrs, b.attrs),
            "actome": _version.__version__,
        },
    )
    return out.assign(partner_sign=("network", sign)) if shown == "correlation" else out


def correlate_maps(a: xr.DataArray, b: xr.DataArray) -> Float64:
    """Pearson's correlation over neurons of every map of one set with every map of another.

    Parameters
    ----------
    a, b
        (network, layer, neuron), or any other name for ``network``. Neurons that are NaN in any map are
        left out.

    Returns
    -------
    (network, network_other); NaN for a map that is the same everywhere.
    """
    a, b = _as_networks(a), _as_networks(b)
    check_same_neurons(a, b)
    return _correlation(_flat(a), _flat(b))


def _as_networks(array: object) -> xr.DataArray:
    """Return masks or maps as (network, layer, neuron), whatever their first dimension is called."""
    if not isinstance(array, xr.DataArray):
        raise InputTypeError(f"match_networks takes DataArrays, got {type(array).__name__}")
    names = [d for d in array.dims if d not in ("layer", "neuron")]
    if array.ndim != 3 or len(names) != 1:
        raise InputError(f"match_networks needs the dims (network, layer, neuron), got {array.dims}")
    if names[0] != "network":
        array = array.drop_vars("network", errors="ignore").rename({names[0]: "network"})
    return array.transpose("network", "layer", "neuron")


def _flat(maps: xr.DataArray) -> Float64:
    return np.asarray(maps.to_numpy(), dtype=np.float64).reshape(maps.sizes["network"], -1)


def _correlation(A: Float64, B: Float64) -> Float64:
    """Pearson's correlation of maps (network, neuron) over the neurons that no map lacks."""
    everywhere = np.isfinite(A).all(axis=0) & np.isfinite(B).all(axis=0)
    units = []
    for X in (A[:, everywhere], B[:, everywhere]):
        away = X - X.mean(axis=1, keepdims=True) if everywhere.any() else X
        norm = np.linalg.norm(away, axis=1, keepdims=True)
        rounding = 1e-12 * np.linalg.norm(X, axis=1, keepdims=True)
        units.append(np.divide(away, norm, out=np.full(X.shape, np.nan), where=norm > rounding))
    if not everywhere.any():
        return np.full((len(A), len(B)), np.nan)
    return np.asarray(np.clip(units[0] @ units[1].T, -1.0, 1.0))


def _assignment(similarity: Float64) -> list[tuple[int, int]]:
    """Pairs of the largest sum, without those that have nothing in common."""
    gain = np.nan_to_num(similarity)
    rows, columns = scipy.optimize.linear_sum_assignment(gain, maximize=True)
    return [(i, j) for i, j in zip(rows.tolist(), columns.tolist(), strict=True) if gain[i, j] > 0]
