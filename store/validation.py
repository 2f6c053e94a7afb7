"""Whether a recording departs from the schema, and where."""

import os
from collections.abc import Mapping
from dataclasses import replace

import zarr

from . import schema
from .archive import array_of, open_group, sites_of
from .location import Location


def validate(path: str | os.PathLike[str]) -> list[str]:
    """Return every breach of the schema in a recording; [] when it is sound.

    Parameters
    ----------
    path
        A recording; a result has no schema to break.

    Raises
    ------
    MissingFileError
        There is nothing at `path`.
    """
    location = replace(Location.of(path), is_guarded=False)  # whether files are gone, `verify` says
    group = location.group()
    if group.attrs.get("kind") != "recording":
        return []
    sites = sites_of(group)
    parts: dict[str, tuple[schema.Variable, ...]] = {"": schema.ROOT}
    for site in sites:
        summary_only = group[site].attrs.get("keep") == "summary"
        parts[f"{site}/"] = tuple(v for v in schema.SITE if v.name != "activation" or not summary_only)
        if f"{site}/summary" in group:
            parts[f"{site}/summary/"] = schema.SUMMARY
    breaches = [] if sites else [f"there is no site; one of {list(schema.SITES)} is needed"]
    breaches += _size_breaches(group, parts)
    if not breaches:
        for where, variables in parts.items():
            breaches += schema.breaches_of(
                open_group(location, group, where.rstrip("/"), {}), variables, where
            )
    return breaches


def _size_breaches(group: zarr.Group, parts: Mapping[str, tuple[schema.Variable, ...]]) -> list[str]:
    """Dimensions without a name, or of another length than in the array before."""
    sizes: dict[str, tuple[int, str]] = {}
    lines = []
    for where, variables in parts.items():
        for path in (f"{where}{v.name}" for v in variables if f"{where}{v.name}" in group):
            array = array_of(group, path)
            dims = getattr(array.metadata, "dimension_names", None)
            if dims is None:
                lines.append(f"{path} has no dimension names")
            for dim, size in zip(dims or (), array.shape, strict=False):
                scope = where.partition("/")[0] if dim in ("layer", "neuron") else ""
                known, first = sizes.setdefault(f"{scope}/{dim}", (size, path))
                if size != known:
                    lines.append(f"{path} has {size} along {dim!r}, {first} has {known}")
    return lines
