"""Results of analyses, written with their digests and what they were derived from."""

import os
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import xarray as xr

from .errors import InputError, InputTypeError
from .location import Location, quiet_zarr
from .manifest import write_manifest
from .trees import write_tree


def save_result(
    ds: xr.Dataset | xr.DataArray | xr.DataTree,
    name_or_path: str | os.PathLike[str],
    *,
    derived_from: str | Iterable[str] | None = None,
) -> str:
    """Write the result of an analysis, with the digests of its files; `open` reads it again.

    Parameters
    ----------
    ds
        A fit, contrasts, components, masks, effects or any other Dataset; a DataArray is saved
        under its name. It is computed here if it is lazy. A DataTree, such as the importance of a model's
        weights or regions of them, is computed and written chunk by chunk.
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
        It is no Dataset, DataArray or DataTree; the path is taken.
    """
    if not isinstance(ds, (xr.Dataset, xr.DataArray, xr.DataTree)):
        raise InputTypeError(f"save_result takes a Dataset, DataArray or DataTree, got {type(ds).__name__}")
    location = Location.of(name_or_path)
    if location.exists():
        raise InputError(f"{location} holds a result already; choose another path or remove it")
    location.check_new()
    if isinstance(ds, xr.DataArray):
        ds = ds.rename(ds.name or "value").to_dataset().assign_attrs(ds.attrs)
    attrs = _attrs(ds.attrs, [derived_from] if isinstance(derived_from, str) else list(derived_from or []))
    if isinstance(ds, xr.DataTree):
        write_tree(ds, location, attrs)
    else:
        _write(ds.compute().drop_encoding().drop_attrs(deep=False).assign_attrs(attrs), location)
    write_manifest(location)
    return str(location)


def _attrs(attrs: Mapping[Any, Any], sources: list[str]) -> dict[str, Any]:
    """Return the attributes of the result: the source's own digest would be taken for this result's."""
    out = {k: v for k, v in attrs.items() if k != "manifest_digest"}
    if out.get("kind") in (None, "recording"):
        out["kind"] = "result"
    return out | ({"derived_from": sources} if sources else {})


def _write(ds: xr.Dataset, location: Location) -> None:
    # text of a fixed width has no specification in Zarr v3
    text = {v: {"dtype": np.dtypes.StringDType()} for v in ds.variables if ds[v].dtype.kind in "OUT"}
    store = location.zarr_store(read_only=False)
    with quiet_zarr():
        ds.to_zarr(store, mode="w-", zarr_format=3, consolidated=True, encoding=text)
