"""Regions of a model's parameters, as a tree: which values of each weight tensor belong to each region.

The root has the coordinates ``region`` (its names) and ``role``; one group a weight tensor, named as
the model names it, has ``mask`` (region, row, column), bool, and what is known of the tensor as
attributes: ``matrix`` (its type: "q", "down", ...) and ``layer``. A tensor that no region touches
may be left out.
"""

from collections.abc import Iterator
from typing import Any

import xarray as xr

from .errors import InputError, InputTypeError
from .schema import text_array

MASK_DIMS = ("region", "row", "column")


def check_regions(regions: Any) -> xr.DataTree:
    """Refuse what is no tree of regions.

    Raises
    ------
    InputTypeError, InputError
        It is no DataTree, has no regions, or a mask that is not bool (region, row, column).
    """
    if not isinstance(regions, xr.DataTree) or "region" not in regions.coords:
        raise InputTypeError(
            f"regions must be a DataTree from actome.region, got {type(regions).__name__}"
            + (" without regions" if isinstance(regions, xr.DataTree) else "")
        )
    names = region_names(regions)
    if not names or len(set(names)) < len(names):
        raise InputError(f"regions must have names that differ, got {names}")
    if not regions.children:
        raise InputError("the regions name no weight tensor")
    for name, node in regions.children.items():
        mask = node.get("mask")
        if mask is None or mask.dims != MASK_DIMS or mask.dtype != bool:
            got = "none" if mask is None else f"{mask.dtype} {mask.dims}"
            raise InputError(f"the mask of {name} must be bool {MASK_DIMS}, got {got}")
    return regions


def region_names(regions: xr.DataTree) -> list[str]:
    """Return the names of the regions, in order."""
    return [str(n) for n in regions["region"].to_numpy()]


def masks(regions: xr.DataTree) -> Iterator[tuple[str, xr.DataArray]]:
    """Go through the tensors: name and ``mask`` (region, row, column), with the tensor's attributes."""
    for name, node in regions.children.items():
        yield str(name), node["mask"].assign_attrs(node.attrs)


def labels_of(regions: xr.DataTree, name: str) -> list[str]:
    """Return one of the labels of the regions, such as ``role``; "" for each where there is none."""
    if name not in regions.coords:
        return [""] * len(region_names(regions))
    return [str(v) for v in text_array(regions[name].to_numpy())]
