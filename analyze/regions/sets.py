"""Sets of regions: joined, cut to one type of matrix, and compared with each other."""

from collections.abc import Sequence
from typing import Any

import dask
import dask.array as da
import numpy as np
import numpy.typing as npt
import xarray as xr
from dask.delayed import delayed

from ...store.blocks import tree_reduce
from ...store.errors import InputError
from ...store.provenance import source_attrs
from ...store.regions import MASK_DIMS, check_regions, labels_of, masks, region_names
from ...store.selection import joined_selection


def join_regions(*regions: xr.DataTree, names: Sequence[str] | None = None) -> xr.DataTree:
    """Put several sets of regions of one model into one, lazily.

    Parameters
    ----------
    regions
        From `region`; all with the same tensors.
    names
        New names, one a region; by default they keep theirs.

    Raises
    ------
    InputError, InputTypeError
        They have other tensors, or a name comes twice.
    """
    for one in regions:
        check_regions(one)
    if not regions:
        raise InputError("there are no regions to join")
    shapes = [{n: m.shape[1:] for n, m in masks(one)} for one in regions]
    if any(s != shapes[0] for s in shapes):
        raise InputError("the regions are of different weight tensors; select them from the same importance")
    root = xr.concat([_root(one) for one in regions], "region", combine_attrs="drop_conflicts")
    root = root.assign_attrs(kind="regions", **joined_selection(*(one.attrs for one in regions)).attrs)
    if names is not None:
        if len(names) != root.sizes["region"]:
            raise InputError(f"there are {root.sizes['region']} regions, and {len(names)} names")
        root = root.assign_coords(region=np.array(list(names), dtype=object))
    nodes = {"/": root}
    for name in shapes[0]:
        parts = [_lazy(one.children[name].dataset["mask"]) for one in regions]
        joined = {"mask": (MASK_DIMS, da.concatenate(parts, axis=0))}  # type: ignore[no-untyped-call]
        nodes[name] = xr.Dataset(joined, attrs=regions[0][name].attrs)
    return check_regions(xr.DataTree.from_dict(nodes))


def by_matrix(regions: xr.DataTree) -> xr.DataTree:
    """Cut every region into its parts of one type of matrix each: "q", "k", "v", "o", "gate", ...

    Returns
    -------
    DataTree of regions named ``<region>/<matrix>``, with ``matrix`` (region) beside the labels that they
    had; the mask of a part is false in the tensors of all other types.
    """
    check_regions(regions)
    types = {name: str(mask.attrs.get("matrix", "")) for name, mask in masks(regions)}
    kinds = list(dict.fromkeys(types.values()))
    root = _root(regions)
    parts = [root.assign_coords(matrix=("region", [kind] * root.sizes["region"])) for kind in kinds]
    names = [f"{n}/{kind}" for kind in kinds for n in region_names(regions)]
    joined = xr.concat(parts, "region", combine_attrs="drop_conflicts")
    joined = joined.assign_coords(region=np.array(names, dtype=object))
    nodes = {"/": joined.assign_attrs(regions.attrs)}
    for name, mask in masks(regions):
        data = _lazy(mask)
        none = da.zeros(data.shape, chunks=data.chunks, dtype=bool)
        parts_of = [data if kind == types[name] else none for kind in kinds]
        stacked = da.concatenate(parts_of, axis=0)  # type: ignore[no-untyped-call]
        nodes[name] = xr.Dataset({"mask": (MASK_DIMS, stacked)}, attrs=regions[name].attrs)
    return xr.DataTree.from_dict(nodes)


def region_overlap(regions: xr.DataTree) -> xr.Dataset:
    """How far regions share their parameters, and how far they would by chance.

    Parameters
    ----------
    regions
        From `region`, with several regions.

    Returns
    -------
    Dataset (region, region_other)

    jaccard : |A and B| / |A or B|; NaN where both are empty
    intersection : parameters in both
    expected : parameters in both if each lay anywhere within each tensor, on average
    size : (region), parameters in it

    Raises
    ------
    InputTypeError, InputError
        They are no regions.
    """
    check_regions(regions)
    both, sizes, n = _intersections(regions)
    own = sizes.sum(axis=0)
    intersection = both.sum(axis=0)
    union = own[:, None] + own - intersection
    jaccard = np.divide(intersection, union, out=np.full(union.shape, np.nan), where=union > 0)
    expected = (sizes[:, :, None] * (sizes / n[:, None])[:, None, :]).sum(axis=0)
    names = np.array(region_names(regions), dtype=object)
    dims = ("region", "region_other")
    return xr.Dataset(
        {
            "jaccard": (dims, jaccard),
            "intersection": (dims, intersection),
            "expected": (dims, expected),
            "size": ("region", own),
        },
        coords={
            "region": names,
            "region_other": names,
            "role": ("region", np.array(labels_of(regions, "role"), dtype=object)),
        },
        attrs={"kind": "region_overlap", **source_attrs(regions.dataset.attrs)},
    )


def _intersections(
    regions: xr.DataTree,
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """(tensor, region, region) shared; (tensor, region) sizes; (tensor,) parameters."""
    shared, sizes = [], []
    for _, mask in masks(regions):
        blocks = _lazy(mask).rechunk({0: -1}).to_delayed().ravel()
        shared.append(tree_reduce([delayed(_products)(b) for b in blocks], sum))
        sizes.append(int(mask.sizes["row"] * mask.sizes["column"]))
    both = np.stack(dask.base.compute(*shared))  # type: ignore[no-untyped-call]
    return both, np.asarray(np.diagonal(both, axis1=1, axis2=2)), np.array(sizes)


def _products(block: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    """Count what every two of the masks (region, row, column) share: (region, region)."""
    flat = block.reshape(len(block), -1).astype(np.float64)
    return np.rint(flat @ flat.T).astype(np.int64)


def _root(regions: xr.DataTree) -> xr.Dataset:
    return regions.to_dataset(inherit=False).load()


def _lazy(mask: xr.DataArray) -> Any:
    return mask.data if mask.chunks is not None else da.from_array(mask.to_numpy())  # type: ignore[no-untyped-call]
