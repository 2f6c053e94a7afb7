"""Results of analyses, written with their digests and what they were derived from."""

import os
from collections.abc import Iterable

import numpy as np
import xarray as xr

from .errors import InputError, InputTypeError
from .location import Location, quiet_zarr
from .manifest import write_manifest


def save_result(
    ds: xr.Dataset | xr.DataArray,
    name_or_path: str | os.PathLike[str],
    *,
    derived_from: str | Iterable[str] | None = None,
) -> str:
    """Write the result of an analysis, with the digests of its files; `open` reads it again.

    Parameters
    ----------
    ds
        A fit, contrasts, components, masks, effects or any other Dataset; a DataArray is saved
        under its name. It is computed here if it is lazy.
    name_or_path
        Where; must not exist yet.
    derived_from
        Name or digest of what it was computed from.

    Returns
    -------
    The path.

    Raises
    ------
    InputTypeError, InputError
        It is no Dataset and no DataArray; the path is taken.
    """
    if not isinstance(ds, (xr.Dataset, xr.DataArray)):
        raise InputTypeError(f"save_result takes a Dataset or a DataArray, got {type(ds).__name__}")
    location = Location.of(name_or_path)
    if location.exists():
        raise InputError(f"{location} holds a result already; choose another path or remove it")
    location.check_new()
    if isinstance(ds, xr.DataArray):
        attrs = ds.attrs
        ds = ds.rename(ds.name or "value").to_dataset().assign_attrs(attrs)
    sources = [derived_from] if isinstance(derived_from, str) else list(derived_from or [])
    out = ds.compute().drop_encoding()
    out.attrs.pop("manifest_digest", None)  # the source's, which `open` would take for this result's
    if out.attrs.get("kind") in (None, "recording"):
        out.attrs["kind"] = "result"
    if sources:
        out.attrs["derived_from"] = sources
    # text of a fixed width has no specification in Zarr v3
    text = {v: {"dtype": np.dtypes.StringDType()} for v in out.variables if out[v].dtype.kind in "OUT"}
    store = location.zarr_store(read_only=False)
    with quiet_zarr():
        out.to_zarr(store, mode="w-", zarr_format=3, consolidated=True, encoding=text)
    write_manifest(location)
    return str(location)
