"""What a recording or a result says of itself, as a catalog keeps it."""

import os
from typing import Any, TypeGuard

import numpy as np
import zarr

from ..errors import MissingFileError
from ..location import Location, quiet_zarr
from ..schema import SITES

_MOST_CONDITIONS = 64  # with more, a label names the prompt, not a condition to search for
_MOST_BYTES = 2**26  # of labels: four millions of them; a store may declare more than any memory holds


def stored_metadata(path: str) -> dict[str, Any]:
    """Read the fields of `Metadata` that the store at a path or URL knows; {} where there is none.

    Raises
    ------
    InputError, MissingDependencyError, StorageError
        It cannot be read.
    """
    try:
        location = Location.of(path)
    except MissingFileError:  # a ZIP file is looked into at once
        return {}
    if not location.exists():
        return {}
    group = location.group()
    attrs = group.attrs.asdict()
    provenance = _mapping(attrs.get("provenance"))
    inputs = _mapping(provenance.get("inputs"))
    known = {
        "kind": _text(attrs.get("kind")),
        "model": _model(inputs.get("model") or attrs.get("model")),
        "sites": [site for site in SITES if site in group],
        "conditions": _conditions(group),
        "shape": _shape(group),
        "licence": _text(provenance.get("licence") or attrs.get("licence")),
        "digest": _text(attrs.get("manifest_digest")),
        "created": _text(provenance.get("created") or provenance.get("saved") or attrs.get("created")),
        "derived_from": _texts(provenance.get("derived_from") or attrs.get("derived_from")),
    }
    return {field: value for field, value in known.items() if value}


def _shape(group: zarr.Group) -> dict[str, int]:
    """Return the length of each dimension that has one length throughout."""
    lengths: dict[str, set[int]] = {}
    with quiet_zarr():
        members = [member for _, member in group.members(max_depth=None)]
    for array in (m for m in members if isinstance(m, zarr.Array)):
        names = getattr(array.metadata, "dimension_names", None) or ()
        for dim, n in zip(names, array.shape, strict=False):
            if isinstance(dim, str):
                lengths.setdefault(dim, set()).add(n)
    order = {dim: i for i, dim in enumerate(("prompt", "token", "layer", "neuron"))}
    dims = sorted((d for d, ns in lengths.items() if len(ns) == 1), key=lambda d: (order.get(d, 4), d))
    return {dim: min(lengths[dim]) for dim in dims}


def _conditions(group: zarr.Group) -> list[str]:
    """Return the labels of the recorded prompts, in the order in which they come."""
    array, recorded = group.get("condition"), group.get("recorded")
    if not _is_column(array, "TOU"):
        return []
    labels = np.asarray(array[:]).astype(object)
    if recorded is not None:
        if not _is_column(recorded, "b") or recorded.shape != array.shape:
            return []
        labels = labels[np.asarray(recorded[:])]
    found = [label for label in dict.fromkeys(map(str, labels)) if label]
    return found if len(found) <= _MOST_CONDITIONS else []


def _is_column(array: Any, kinds: str) -> TypeGuard[zarr.Array[Any]]:
    """Say whether this is an array along ``prompt`` that can be read whole, whatever a store declares."""
    if not isinstance(array, zarr.Array) or array.ndim != 1 or array.dtype.kind not in kinds:
        return False
    return max(*array.shape, *array.chunks, *(array.shards or ())) * array.dtype.itemsize <= _MOST_BYTES


def _model(value: Any) -> str | None:
    """Return the id of a model; of one in a folder of some machine, the folder's name."""
    text = _text(value)
    return os.path.basename(text.rstrip("/")) if text and os.path.isabs(text) else text


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _texts(value: Any) -> list[str]:
    values = value if isinstance(value, (list, tuple)) else [value]
    return [v for v in values if _text(v)]
