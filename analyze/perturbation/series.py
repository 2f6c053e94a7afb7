"""Series of nested networks, from few neurons to many: the points of a preservation curve."""

from collections.abc import Sequence

import numpy as np
import xarray as xr

from ... import _version
from ...store.arguments import real_number, whole_number
from ...store.errors import InputError, InputTypeError
from ...store.provenance import ORIGIN
from ...store.selection import SELECTION
from ..threshold import top_fraction

_KEPT = (*ORIGIN, *SELECTION, "measure", "control")


def unions(networks: xr.DataArray, counts: Sequence[int]) -> xr.DataArray:
    """Join the first networks of a set, more and more of them.

    Parameters
    ----------
    networks
        bool (network, layer, neuron), in the order in which they are to be joined, such as that of the
        components.
    counts
        How many to join at each point, rising.

    Returns
    -------
    DataArray bool (network, layer, neuron)
        The coordinate ``network`` says "first 10 networks", attrs ``n_networks`` how many at each point.

    Raises
    ------
    InputError, InputTypeError
        There are no such networks, or the counts do not rise.

    Examples
    --------
    >>> masks = xr.DataArray(np.eye(3, dtype=bool)[:, None], dims=("network", "layer", "neuron"))
    >>> unions(masks, [1, 3]).sum(("layer", "neuron")).values.tolist()
    [1, 3]
    """
    if not isinstance(networks, xr.DataArray) or networks.dtype != bool:
        raise InputTypeError("unions takes networks: a bool DataArray (network, layer, neuron)")
    if set(networks.dims) != {"network", "layer", "neuron"}:
        raise InputError(f"networks must have dims (network, layer, neuron), got {networks.dims}")
    given = [whole_number(n, "counts", least=0) for n in counts]
    total = networks.sizes["network"]
    if not given or given != sorted(set(given)) or not 1 <= given[0] <= given[-1] <= total:
        raise InputError(f"counts must rise, from 1 to the {total} networks at most, got {given}")
    joined = [networks.isel(network=slice(n)).any("network") for n in given]
    names = [f"first {n} network{'' if n == 1 else 's'}" for n in given]
    return _series(joined, names, networks, n_networks=given)


def top_fractions(values: xr.DataArray, fractions: Sequence[float]) -> xr.DataArray:
    """Take the neurons with the largest values, more and more of them.

    Parameters
    ----------
    values
        (layer, neuron): a map, such as ``abs(contrast["z_score"])``, or the largest of the components'
        maps; NaN is never taken.
    fractions
        Of the neurons with a value, rising, above 0 and below 1.

    Returns
    -------
    DataArray bool (network, layer, neuron)
        The coordinate ``network`` says "top 5 %", attrs ``fraction`` the fractions.

    Raises
    ------
    InputError, InputTypeError
        The map has other dims, or the fractions do not rise.
    """
    if not isinstance(values, xr.DataArray) or set(values.dims) != {"layer", "neuron"}:
        got = values.dims if isinstance(values, xr.DataArray) else type(values).__name__
        raise InputTypeError(f"top_fractions takes a map: a DataArray (layer, neuron), got {got}")
    given = [real_number(f, "fractions") for f in fractions]
    if not given or given != sorted(set(given)) or not 0 < given[0] <= given[-1] < 1:
        raise InputError(f"fractions must rise, above 0 and below 1, got {given}")
    values = values.transpose("layer", "neuron")
    array = values.to_numpy().astype(np.float64)
    kept = [values.copy(data=top_fraction(array, f)) for f in given]
    return _series(kept, [f"top {100 * f:g} %" for f in given], values, fraction=given)


def _series(
    masks: list[xr.DataArray], names: list[str], source: xr.DataArray, **settings: object
) -> xr.DataArray:
    joined = xr.concat(masks, xr.Variable("network", np.array(names, dtype=object)))
    keep = {k: v for k, v in source.attrs.items() if k in _KEPT}
    out: xr.DataArray = joined.transpose("network", "layer", "neuron").rename("mask")
    out.attrs = {**keep, "kind": "mask", **settings, "actome": _version.__version__}
    return out
