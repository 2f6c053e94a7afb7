"""Reading and writing recordings and results as xarray Datasets."""

import itertools
import math
import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import dask.array as da
import numpy as np
import pandas as pd
import xarray as xr
import zarr

from . import blocks, schema
from .allocate import SiteSpec, allocate
from .catalog import CatalogLike, resolve
from .decoding import ShardedArray
from .errors import InputError, InputTypeError
from .location import Location, quiet_zarr
from .moments import valid_tokens
from .provenance import library_versions, now, unfinished_of
from .writer import RecordingWriter

Level = Literal["token", "prompt"]

_MERGED_BYTES = 2**25


def open(
    name_or_path: str | os.PathLike[str],
    *,
    site: str | None = None,
    level: Level | None = None,
    catalog: CatalogLike | None = None,
) -> xr.Dataset:
    """Open a recording or a result, lazily.

    Parameters
    ----------
    name_or_path
        A path, a URL, or a name of the catalog.
    site
        Which site of a recording; None for the only one.
    level
        ``"token"``: the cube, ``activation`` (prompt, token, layer, neuron). ``"prompt"``: the
        per-prompt moments ``count``, ``mean``, ``m2`` and ``mean_abs`` (prompt, layer, neuron). None:
        the cube where there is one.
    catalog
        The catalog in which a name is looked up, or several; by default ``catalog.yaml`` here.

    Returns
    -------
    Dataset
        Of a recording, the recorded prompts only, in shard-sized chunks, the labels as
        coordinates. Where prompts are still missing, attrs say how many are there (``unfinished``), and so
        do those of results computed from it. Of a result, what was saved; a DataTree comes back as a
        DataTree. Arrays of one dimension (labels, the numbers of layers and neurons, ``count``) are in
        memory, all others lazy.

    Warns
    -----
    UserWarning
        Not every prompt of the recording is recorded: it was interrupted, or is still being made.

    Raises
    ------
    InputError
        No prompt is recorded yet; the site or level is not there, or must be named; a result was
        not written to its end.
    MissingFileError, UnknownNameError
        The path or name leads nowhere.
    """
    ds = open_so_far(name_or_path, site=site, level=level, catalog=catalog)
    if ds.attrs.get("kind") == "recording" and "unfinished" in ds.attrs:
        goes_on = "inputs" in ds.attrs.get("provenance", {})
        remedy = "give the same command again to go on" if goes_on else "remove it and save it again"
        warnings.warn(f"only {ds.attrs['unfinished']} are recorded; {remedy}", stacklevel=2)
    return ds


def open_so_far(
    name_or_path: str | os.PathLike[str],
    *,
    site: str | None = None,
    level: Level | None = None,
    catalog: CatalogLike | None = None,
) -> xr.Dataset:
    """Open as `open` does, without a warning where prompts are still missing: for who knows, or says so."""
    if level not in (None, "token", "prompt"):
        raise InputError(f"level must be 'token', 'prompt' or None, got {level!r}")
    location = Location.of(resolve(name_or_path, catalog))
    group = location.group()
    if group.attrs.get("kind") != "recording":
        return _open_result(location, group, site, level)
    recorded, sites = recorded_in(group), sites_of(group)
    if not recorded.any() or not sites:
        raise InputError(f"{location.name} has no recorded prompts yet")
    site = _choose_site(location, sites, site)
    has_cube = f"{site}/activation" in group
    if level == "token" and not has_cube:
        raise InputError(
            f"{location.name} holds the moments of each prompt, not the cube; open it with level='prompt', "
            "or record it with keep='full' (--keep full)"
        )
    if level == "prompt" or not has_cube:
        ds = open_group(location, group, f"{site}/summary", _merged_chunks(group, f"{site}/summary/mean"))
        numbers = open_group(location, group, site, {}, drop=("activation",))
        ds = ds.assign_coords(numbers.variables)
    else:
        ds = open_group(location, group, site, _chunks(group, f"{site}/activation"))
        ds = ds.set_coords([v for v in ("hook_name",) if v in ds])
    ds = _join_labels(ds, location, group)
    name = location.name.removesuffix(".zip").removesuffix(".zarr")
    if recorded.all():
        _remember(ds, Opened(str(location), site, str(group.attrs.get("manifest_digest", ""))))
        return ds.assign_attrs(group.attrs.asdict(), site=site, name=name)
    ds = _keep_units(ds, recorded, _unit(group))
    unfinished = f"{ds.sizes['prompt']} of {len(recorded)} prompts of {name}"
    return ds.assign_attrs(group.attrs.asdict(), site=site, name=name, unfinished=unfinished)


@dataclass(frozen=True)
class Opened:
    """Where the numbers of a Dataset come from: the path, the site, and the digest of what was opened."""

    path: str
    site: str
    digest: str

    @property
    def location(self) -> Location:
        """The recording."""
        return Location.of(self.path)


_opened: dict[str, Opened] = {}  # by the name that Dask has for an array as it was opened
_MOST_OPENED = 10_000


def _remember(ds: xr.Dataset, source: Opened) -> None:
    """Note where the arrays of a Dataset come from; what is sliced or changed gets another name from Dask."""
    names = [str(v.data.name) for v in ds.variables.values() if v.chunks is not None]
    _opened.update(dict.fromkeys(names, source))
    for name in list(itertools.islice(_opened, max(0, len(_opened) - _MOST_OPENED))):
        del _opened[name]


def opened_from(*arrays: xr.DataArray) -> Opened | None:
    """Say where arrays come from whose numbers are still those that were opened; None if one's are not."""
    found = {None if a.chunks is None else _opened.get(str(a.data.name)) for a in arrays}
    return found.pop() if len(found) == 1 else None


def _open_result(location: Location, group: zarr.Group, site: str | None, level: Level | None) -> xr.Dataset:
    if "kind" not in group.attrs and location.name in schema.SITES:
        raise InputError(
            f"{location} is a site of a recording, not an entry of its own; open the recording with "
            f"site={location.name!r} (--site {location.name})"
        )
    if site is not None or level is not None:
        raise InputError(f"{location.name} is a result; only a recording has a site and a level")
    if "kind" in group.attrs and "manifest_digest" not in group.attrs:
        goes_on = "inputs" in group.attrs  # made unit by unit, by a call that can be made again
        remedy = "make the call that writes it again" if goes_on else "remove it and save it again"
        raise InputError(f"{location.name} was not written to its end; {remedy}")
    if group.attrs.get("tree"):
        from .trees import open_tree  # which opens groups as this module does

        return open_tree(location)  # type: ignore[return-value]  # what an analysis of weights asks for
    return open_group(location, group, None, {})


def sites_of(group: zarr.Group) -> list[str]:
    """Return the sites that a recording has."""
    return [site for site in schema.SITES if site in group]


def recorded_in(group: zarr.Group) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Say which prompts are complete: (prompt,); none while the recording is being created."""
    return np.asarray(array_of(group, "recorded")[:]) if "recorded" in group else np.zeros(0, dtype=bool)


def _unit(group: zarr.Group) -> int:
    return array_of(group, "recorded").chunks[0]


def array_of(group: zarr.Group, name: str) -> zarr.Array[Any]:
    """Return an array of a recording."""
    array = group[name] if name in group else None
    if not isinstance(array, zarr.Array):
        raise InputError(f"there is no array {name!r} in the recording")
    return array


def _choose_site(location: Location, sites: list[str], site: str | None) -> str:
    if site is None and len(sites) == 1:
        return sites[0]
    if site not in sites:
        problem = "has several sites" if site is None else f"has no site {site!r}"
        raise InputError(f"{location.name} {problem}; name one of {sites}")
    return site


def _chunks(group: zarr.Group, name: str) -> dict[str, int]:
    """Return shard-sized chunks: the grain in which the store can be read without waste."""
    array = array_of(group, name)
    dims = (str(d) for d in getattr(array.metadata, "dimension_names", None) or ())
    return dict(zip(dims, array.shards or array.chunks, strict=True))


def _merged_chunks(group: zarr.Group, name: str) -> dict[str, int]:
    """Return several stored chunks to a Dask chunk, up to some 32 MB: the moments are small."""
    array, merged = array_of(group, name), _chunks(group, name)
    for size, dim in zip(array.shape, list(merged), strict=True):
        fitting = _MERGED_BYTES // (math.prod(merged.values()) * array.dtype.itemsize)
        merged[dim] = min(size, merged[dim] * max(1, fitting))
    return merged


def open_group(
    location: Location,
    root: zarr.Group,
    group: str | None,
    chunks: Mapping[str, int],
    *,
    drop: tuple[str, ...] = (),
) -> xr.Dataset:
    """Open one group: arrays of one dimension in memory, the others in the given chunks of Dask."""
    consolidated = bool(root.metadata.consolidated_metadata)
    with quiet_zarr():
        ds = xr.open_dataset(
            location.zarr_store(read_only=True),  # type: ignore[arg-type]
            engine="zarr",
            group=group,
            chunks=None,
            cache=False,
            consolidated=consolidated,
            drop_variables=drop,
        )
    ds = ds.assign_coords({d: ds[d].astype(object) for d in ds.indexes if ds[d].dtype.kind == "T"})
    out = {}
    for name in [v for v in ds.variables if v not in ds.indexes]:
        array = ds[name].astype(object) if ds[name].dtype.kind == "T" else ds[name]  # not all tools know "T"
        if array.ndim > 1:
            path = f"{group}/{name}" if group else str(name)
            out[name] = _decoded_here(location, path, root, array).chunk(
                {d: n for d, n in chunks.items() if d in array.dims}
            )
        else:
            out[name] = array.load()
    return ds.assign(out)


def _decoded_here(location: Location, path: str, root: zarr.Group, array: xr.DataArray) -> xr.DataArray:
    """Let Dask take what was sharded by the recorder from `ShardedArray`; leave the rest to zarr."""
    stored = _reader(location, path, root)
    if not isinstance(stored, ShardedArray):
        return array
    data = da.from_array(stored, chunks=stored.shards, asarray=False, name=False)  # type: ignore[no-untyped-call]
    return array.copy(data=data)


def cube_of(location: Location, site: str) -> ShardedArray | zarr.Array[Any]:
    """Return the cube of a site, (prompt, token, layer, neuron), to read by slices."""
    return _reader(location, f"{site}/activation", location.group())


def _reader(location: Location, path: str, root: zarr.Group) -> ShardedArray | zarr.Array[Any]:
    stored = array_of(root, path)
    return ShardedArray(location, path, stored) if ShardedArray.is_readable(stored) else stored


def _join_labels(ds: xr.Dataset, location: Location, group: zarr.Group) -> xr.Dataset:
    """Add the root's columns; those along ``token`` only to the cube."""
    root = open_group(location, group, None, {"prompt": _unit(group)}).drop_vars("recorded")
    if "token" not in ds.dims:
        root = root.drop_vars([v for v in root if "token" in root[v].dims])
    labels = [v for v in root if v != "logprob"]
    return ds.merge(root.set_coords(labels), compat="override", join="override")


def _keep_units(ds: xr.Dataset, recorded: np.ndarray[Any, np.dtype[np.bool_]], unit: int) -> xr.Dataset:
    """Drop whole units, so that the chunks that stay are still whole shards."""
    starts = range(0, len(recorded), unit)
    kept = [ds.isel(prompt=slice(i, i + unit)) for i in starts if recorded[i]]
    return xr.concat(
        kept, dim="prompt", data_vars="minimal", coords="minimal", compat="override", join="override"
    )


def save(ds: xr.Dataset, path: str | os.PathLike[str], *, site: str = "mlp") -> str:
    """Write any Dataset of the schema as a recording, unit by unit.

    Parameters
    ----------
    ds
        ``activation`` (prompt, token, layer, neuron), in memory or lazy, with whatever labels
        there are along ``prompt`` and (prompt, token). Padding is NaN; without ``n_tokens``
        the tokens are counted from it. Variables that the schema does not know are labels where
        they lie along ``prompt``, and are left out where they do not.
    path
        Where; must not exist yet.
    site
        The place in the network that the activations come from.

    Returns
    -------
    The path, for `open`.

    Raises
    ------
    InputError
        A variable has wrong dimensions or a wrong type, a token that counts as valid was masked, or
        the path is taken.
    """
    if not isinstance(ds, xr.Dataset):
        raise InputTypeError(f"save takes a Dataset, got {type(ds).__name__}")
    if site not in schema.SITES:
        raise InputError(f"site must be one of {list(schema.SITES)}, got {site!r}")
    breaches = schema.breaches(ds)
    if breaches:
        raise InputError("the Dataset does not fit the schema: " + "; ".join(breaches))
    location = Location.of(path)
    layers, neurons = (_axis(ds, d) for d in ("layer", "neuron"))
    hooks = ds["hook_name"].to_numpy() if "hook_name" in ds else [""] * len(layers)
    spec = SiteSpec(layers, neurons, tuple(map(str, hooks)), ds["activation"].dtype.name)
    labels = _label_table(ds)
    tokens = tuple(v.name for v in schema.ROOT if v.dims == ("prompt", "token") and v.name in ds)
    allocate(
        location,
        labels=labels,
        n_tokens=ds.sizes["token"],
        sites={site: spec},
        token_variables=tokens,
        provenance=_saved_provenance(ds),
    )
    writer = RecordingWriter(location)
    for i, unit in enumerate(writer.units):
        part = ds.isel(prompt=unit)[["activation", *tokens]].compute()
        columns = {str(c): labels[c].to_numpy()[unit] for c in labels}
        columns |= {t: part[t].to_numpy() for t in tokens}
        columns["n_tokens"] = _count_tokens(part)
        writer.write_unit(i, columns, {site: part["activation"].to_numpy()}, threads=os.cpu_count() or 1)
    writer.finalise()
    return str(location)


def _saved_provenance(ds: xr.Dataset) -> dict[str, Any]:
    """Keep where the numbers come from, and say that they were saved again, maybe changed."""
    source: dict[str, Any] = dict(unfinished_of(ds.attrs))
    if "manifest_digest" in ds.attrs:
        source["derived_from"] = [ds.attrs["manifest_digest"]]
    return {**ds.attrs.get("provenance", {}), **source, "saved": now(), "environment": library_versions()}


def _count_tokens(part: xr.Dataset) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Count the real tokens: (prompt,). ``n_tokens`` is not asked, the token axis may have been cut."""
    activation = part["activation"].to_numpy()
    if "token_id" in part.variables:
        valid = part["token_id"].to_numpy() != -1
    else:
        valid = np.arange(activation.shape[1]) < valid_tokens(activation)[:, None]
    for prompt, mask in zip(activation, valid, strict=True):
        blocks.valid_rows(prompt, mask)
    return np.asarray(valid.sum(axis=1), dtype=np.int64)


def _axis(ds: xr.Dataset, dim: str) -> tuple[int, ...]:
    return tuple(int(i) for i in (ds[dim].to_numpy() if dim in ds.coords else range(ds.sizes[dim])))


def _label_table(ds: xr.Dataset) -> pd.DataFrame:
    """Columns along ``prompt``; the ids are numbers where there are none."""
    left_out = ("recorded", "count", "n_tokens")
    names = [v for v in ds.variables if ds[v].dims == ("prompt",) and v not in left_out]
    columns = {"prompt": np.arange(ds.sizes["prompt"])} | {str(v): ds[v].to_numpy() for v in names}
    for name, values in columns.items():
        if name == "prompt" or values.dtype.kind not in "iufb":
            columns[name] = values.astype(str).astype(object)
    return pd.DataFrame(columns)
