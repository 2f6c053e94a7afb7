"""Several contrasts of the same neurons, as functions take that put contrasts together."""

from collections.abc import Iterable, Mapping

import numpy as np
import xarray as xr

from ... import _version
from ...store.errors import InputError, InputTypeError
from ...store.provenance import ORIGIN, unfinished_of
from ...store.selection import joined_selection


def aligned(
    who: str,
    contrasts: Mapping[str, xr.Dataset] | Iterable[xr.Dataset],
    needed: Iterable[str],
    alike: Iterable[str],
) -> dict[str, xr.Dataset]:
    """Return t contrasts of the same neurons by name, numbered where they have none.

    Parameters
    ----------
    who
        The function that was called.
    contrasts
        What it was given.
    needed
        Variables or coordinates of each.
    alike
        attrs that must be the same in all.

    Raises
    ------
    InputError, InputTypeError
        They are fewer than two, or not of one kind.
    """
    if isinstance(contrasts, (xr.Dataset, xr.DataArray, str)) or not isinstance(contrasts, Iterable):
        raise InputTypeError(
            f"{who} takes several contrasts, as a list or by name, got {type(contrasts).__name__}"
        )
    pairs = contrasts.items() if isinstance(contrasts, Mapping) else enumerate(contrasts)
    inputs = {str(name): ds for name, ds in pairs}
    if len(inputs) < 2:
        raise InputError(f"{who} needs at least two contrasts, got {len(inputs)}")
    for name, ds in inputs.items():
        if isinstance(ds, xr.Dataset) and "dof_numerator" in ds.coords:
            raise InputError(f"input {name!r} of {who} is an F contrast, which has no sign; take t contrasts")
        if not isinstance(ds, xr.Dataset) or not set(needed) <= set(ds.variables):
            raise InputTypeError(f"input {name!r} of {who} must be a contrast from actome.compute_contrast")
    (first_name, first), *others = inputs.items()
    for name, ds in others:
        for key in alike:
            if first.attrs.get(key) != ds.attrs.get(key):
                raise InputError(
                    f"the inputs of {who} differ in {key}: {first_name!r} has {first.attrs.get(key)!r}, "
                    f"{name!r} has {ds.attrs.get(key)!r}"
                )
        _check_axes(who, first_name, first["stat"], name, ds["stat"])
    return inputs


def _check_axes(who: str, name: str, stat: xr.DataArray, other_name: str, other: xr.DataArray) -> None:
    if set(stat.dims) != set(other.dims):
        raise InputError(
            f"the inputs of {who} differ in dims: {name!r} {stat.dims}, {other_name!r} {other.dims}"
        )
    for dim in stat.dims:
        if not np.array_equal(stat[dim].to_numpy(), other[dim].to_numpy()):
            raise InputError(
                f"the inputs of {who} differ in {dim}: {name!r} has {stat.sizes[dim]} of them, "
                f"{other_name!r} {other.sizes[dim]}, or they are numbered otherwise; take the same neurons"
            )


def common_attrs(inputs: Mapping[str, xr.Dataset]) -> dict[str, object]:
    """Return the attrs of a result from several contrasts: those that all share, and what they stem from."""
    first, *others = [ds.attrs for ds in inputs.values()]
    about = ("contrast", "weights", "regressors", "formula", "measure", "noise", "unit")
    names = (*about, *ORIGIN)
    shared = {k: first[k] for k in names if k in first and all(o.get(k) == first[k] for o in others)}
    return {
        **shared,
        **unfinished_of(*(ds.attrs for ds in inputs.values())),
        "kind": "contrast",
        "inputs": list(inputs),
        "sources": [str(attrs.get("source", "")) for attrs in (first, *others)],
        **joined_selection(first, *others).attrs,
        "actome": _version.__version__,
    }
