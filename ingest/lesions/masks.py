"""Masks: which neurons of a site are meant, in whichever form a user has them."""

import os
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd
import xarray as xr

from ...store.archive import open as open_result
from ...store.errors import InputError, InputTypeError

Bool = npt.NDArray[np.bool_]
Rule = Callable[[npt.NDArray[np.int64], npt.NDArray[np.int64]], Any]
Mask: TypeAlias = xr.DataArray | npt.NDArray[np.bool_] | pd.DataFrame | str | os.PathLike[str] | Rule


def full_mask(mask: Mask, n_layers: int, width: int, site: str) -> Bool:
    """Spread a mask over all layers and neurons of a site: (layer, neuron) bool.

    Parameters
    ----------
    mask
        A DataArray (layer, neuron), by its numbers; an array of the whole site; a table with the columns
        ``layer`` and ``neuron``, as the queries give it; the path of a saved mask; or a rule: a function
        of the numbers of the layers (layer, 1) and of the neurons (1, neuron) that says which are meant.
    n_layers, width
        Of the site.
    site
        A mask that says of which site it is must be of this one.

    Raises
    ------
    InputError, InputTypeError
        It is none of these, or does not fit the site.
    """
    if isinstance(mask, (str, os.PathLike)):
        mask = read_mask(mask)
    if isinstance(mask, pd.DataFrame):
        return _of_table(mask, n_layers, width)
    if callable(mask):
        return _of_rule(mask, n_layers, width)
    if not isinstance(mask, (xr.DataArray, np.ndarray)):
        raise InputTypeError(
            "mask must be a DataArray or an array, a table, a path or a rule, got " + type(mask).__name__
        )
    if mask.dtype != bool:
        raise InputTypeError(f"mask must be bool, got {mask.dtype}; use actome.threshold or actome.networks")
    if isinstance(mask, np.ndarray):
        if mask.shape != (n_layers, width):
            raise InputError(f"mask must have shape {(n_layers, width)}, got {mask.shape}")
        return mask
    if mask.attrs.get("site", "") not in ("", site):
        raise InputError(f"the mask is of the site {mask.attrs['site']!r}, the lesion of {site!r}")
    if set(mask.dims) != {"layer", "neuron"}:
        raise InputError(f"mask must have dims (layer, neuron), got {mask.dims}; select one network")
    mask = mask.transpose("layer", "neuron")
    layers, neurons = (mask[d].to_numpy() for d in ("layer", "neuron"))
    _check_numbers(layers, neurons, n_layers, width)
    out = np.zeros((n_layers, width), dtype=bool)
    out[np.ix_(layers, neurons)] = mask.to_numpy()
    return out


def read_mask(path: str | os.PathLike[str]) -> xr.DataArray:
    """Open the one mask of a saved result: (layer, neuron) or (network, layer, neuron) bool.

    Raises
    ------
    InputError
        It holds none, or several.
    """
    ds = open_result(path)
    found = [
        str(name)
        for name, array in ds.data_vars.items()
        if array.dtype == bool and {"layer", "neuron"} <= set(array.dims)
    ]
    if len(found) != 1:
        raise InputError(
            f"{os.fspath(path)} holds {len(found)} masks (layer, neuron), expected one; save the result of "
            "actome.threshold or actome.networks"
        )
    return ds[found[0]].load().assign_attrs(ds.attrs)


def _of_table(table: pd.DataFrame, n_layers: int, width: int) -> Bool:
    missing = {"layer", "neuron"} - set(table.columns)
    if missing:
        raise InputError(f"a table of neurons needs the columns layer and neuron, got {list(table.columns)}")
    layers, neurons = (table[c].to_numpy() for c in ("layer", "neuron"))
    if any(n.dtype.kind not in "iu" for n in (layers, neurons)):
        raise InputTypeError("the layers and neurons of a table must be whole numbers")
    _check_numbers(layers, neurons, n_layers, width)
    out = np.zeros((n_layers, width), dtype=bool)
    out[layers, neurons] = True
    return out


def _of_rule(rule: Rule, n_layers: int, width: int) -> Bool:
    chosen = np.asarray(rule(np.arange(n_layers)[:, None], np.arange(width)[None]))
    if chosen.dtype != bool:
        raise InputTypeError(f"the rule of a mask must give bool, got {chosen.dtype}")
    try:
        return np.broadcast_to(chosen, (n_layers, width)).copy()
    except ValueError as error:
        raise InputError(
            f"the rule of a mask gave shape {chosen.shape}, expected {(n_layers, width)}; it is asked once, "
            "for all layers (layer, 1) and neurons (1, neuron)"
        ) from error


def _check_numbers(layers: npt.NDArray[Any], neurons: npt.NDArray[Any], n_layers: int, width: int) -> None:
    if any(n.min(initial=0) < 0 for n in (layers, neurons)):
        raise InputError("mask has layers or neurons with a negative number; they count from 0")
    if layers.max(initial=0) >= n_layers or neurons.max(initial=0) >= width:
        raise InputError(
            f"mask has layers up to {layers.max()} and neurons up to {neurons.max()}; "
            f"the site has {n_layers} layers of {width} neurons"
        )
