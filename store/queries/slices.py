"""One slice of many recordings: labels, layers and models across a whole catalog, nothing read yet."""

import os
import warnings
from collections.abc import Sequence

import numpy as np
import xarray as xr

from ..archive import Level
from ..archive import open as open_recording
from ..catalog import Catalog, open_catalog
from ..errors import InputError
from ..schema import text_array


def slice_catalog(
    catalog: Catalog | str | os.PathLike[str] = "catalog.yaml",
    *,
    condition: str | Sequence[str] | None = None,
    layer: int | Sequence[int] | None = None,
    model: str | None = None,
    site: str | None = None,
    level: Level | None = "prompt",
) -> xr.DataTree:
    """Open the same part of every recording that has it.

    Parameters
    ----------
    catalog
        A catalog, or its path. Which recordings are looked at is decided by what it says of them; search
        it first to narrow it further.
    condition
        Keep the prompts of these conditions.
    layer
        Keep these layers, by number; a recording without them is left out.
    model
        Take recordings of this model; ``*`` and ``?`` stand for any letters and any one.
    site
        Which site; needed where a recording has several.
    level
        As for `actome.open`: "prompt" for the moments, "token" for the cube; a recording without one is
        left out.

    Returns
    -------
    DataTree
        One child a recording, by name: the Dataset that `actome.open` gives, cut to the slice, lazy.

    Raises
    ------
    InputError
        No recording has any of it.

    Warns
    -----
    UserWarning
        Entries that fit are not built.
    """
    entries = catalog if isinstance(catalog, Catalog) else open_catalog(catalog)
    found = entries.search(kind="recording", model=model, site=site)
    missing = [name for name in found if not found.is_built(name)]
    if missing:
        warnings.warn(f"{len(missing)} recordings are not built and left out: {missing[:5]}", stacklevel=2)
    conditions = [condition] if isinstance(condition, str) else condition
    layers = [int(layer)] if isinstance(layer, (int, np.integer)) else layer
    parts = {}
    for name in found:
        if name not in missing:
            wanted = None if level == "token" else level  # one without the cube is left out, not refused
            ds = open_recording(name, site=site, catalog=entries, level=wanted)
            part = _cut(ds, conditions, layers) if level != "token" or "activation" in ds else None
            if part is not None:
                parts[name] = part
    if not parts:
        raise InputError(
            f"no recording of {entries} has condition {condition!r}, layer {layer!r}, model {model!r}, "
            f"site {site!r}; looked at {list(found)[:10]}"
        )
    return xr.DataTree.from_dict(parts)


def _cut(ds: xr.Dataset, conditions: Sequence[str] | None, layers: Sequence[int] | None) -> xr.Dataset | None:
    """Cut a recording to conditions and layers; None where nothing is left."""
    if conditions is not None:
        if "condition" not in ds.variables:
            return None
        ds = ds.isel(prompt=np.flatnonzero(np.isin(text_array(ds["condition"].to_numpy()), list(conditions))))
    if layers is not None:
        if not np.isin(layers, ds["layer"].to_numpy()).all():
            return None
        ds = ds.sel(layer=list(layers))
    return ds if ds.sizes["prompt"] else None
