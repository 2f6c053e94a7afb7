"""Results that hold one group a weight tensor: trees, written chunk by chunk and opened lazily."""

from typing import Any

import numpy as np
import xarray as xr
import zarr

from .archive import open_group
from .bits import pack_bits, unpack_bits
from .errors import InputError
from .location import Location, quiet_zarr

TREE = "tree"  # attribute of the root: the result is a DataTree


def write_tree(tree: xr.DataTree, location: Location, attrs: dict[str, Any]) -> None:
    """Write a tree; lazy arrays are computed chunk by chunk, bool arrays are kept as bits."""
    nodes = {node.path: _storable(node.to_dataset(inherit=False)) for node in tree.subtree}
    nodes["/"] = nodes["/"].assign_attrs({**attrs, TREE: True})
    encoding = {path: _text_encoding(ds) for path, ds in nodes.items()}
    with quiet_zarr():
        xr.DataTree.from_dict(nodes).to_zarr(
            location.zarr_store(read_only=False),
            mode="w-",
            zarr_format=3,
            consolidated=True,
            encoding=encoding,
        )


def open_tree(location: Location) -> xr.DataTree:
    """Open a tree that is written to its end, in the chunks in which it is stored.

    Raises
    ------
    InputError
        It is none, or not written to its end.
    """
    root = location.group()
    if not root.attrs.get(TREE) or "manifest_digest" not in root.attrs:
        raise InputError(f"{location} holds no tree of results, or one that was not written to its end")
    with quiet_zarr():
        groups = {path: g for path, g in root.members(max_depth=None) if isinstance(g, zarr.Group)}
    nodes = {"/": unpack_bits(open_group(location, root, None, _chunks(root)))}
    for path, group in groups.items():
        nodes[f"/{path}"] = unpack_bits(open_group(location, root, path, _chunks(group)))
    return xr.DataTree.from_dict(nodes)


def _storable(ds: xr.Dataset) -> xr.Dataset:
    return pack_bits(ds).drop_encoding()


def _text_encoding(ds: xr.Dataset) -> dict[Any, Any]:
    """Text of a fixed width has no specification in Zarr v3."""
    return {v: {"dtype": np.dtypes.StringDType()} for v in ds.variables if ds[v].dtype.kind in "OUT"}


def _chunks(group: zarr.Group) -> dict[str, int]:
    """Return the stored chunks of a group's arrays by dimension."""
    out: dict[str, int] = {}
    for _, array in group.arrays():
        if array.ndim > 1:
            dims = getattr(array.metadata, "dimension_names", None) or ()
            out |= dict(zip(map(str, dims), array.shards or array.chunks, strict=False))
    return out
