"""Building the index of a recording: one pass through the cube, a shard at a time in each task."""

import itertools
import json
import os
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import zarr
from dask.base import compute
from dask.delayed import delayed
from tqdm.dask import TqdmCallback

from ..archive import array_of, cube_of, open, sites_of
from ..encoding import COMPRESSORS
from ..errors import InputError
from ..location import Location
from ..manifest import INDEX as _FOLDER
from ..manifest import INDEX_MANIFEST
from ..moments import Bool
from ..provenance import digest_pieces
from ..schema import INDEX
from .extremes import BothEnds
from .parquet import write_tables
from .quantiles import LEVELS, quantiles, sampled_rows

FOLDER: Final = _FOLDER.rstrip("/")
MANIFEST: Final = INDEX_MANIFEST.removeprefix(_FOLDER)
K: Final = 32  # tokens kept at either end

BYTES_PER_NEURON: Final = 2 * K * 12 + 8 * len(LEVELS)  # before compression

_CHUNK_NEURONS = 256


def index_of(location: Location) -> Location:
    """Return the folder of the index of a recording."""
    return replace(location, root="/".join(filter(None, [location.root, FOLDER])))


def index_source(location: Location) -> str | None:
    """Return the digest of the recording that the index was made from; None where there is no whole index."""
    folder = index_of(location)
    if not folder.exists(MANIFEST):
        return None
    try:
        source: str = json.loads(folder.read(MANIFEST))["source"]
    except (ValueError, KeyError, TypeError):
        return None  # damaged, as `verify` says: it is of no recording
    return source


def is_current(location: Location) -> bool:
    """Whether there is an index, made from the recording as it is."""
    return index_source(location) == location.group().attrs.get("manifest_digest", "")


def build_index(path: str | os.PathLike[str], *, progress: bool = False) -> str:
    """Find every neuron's extremes and quantiles, and write the labels as Parquet tables.

    The cube is read once, by the active Dask scheduler, a shard at a time in each of its tasks; an
    index that is there is replaced. A recording without a cube gets the tables alone.

    Parameters
    ----------
    path
        A finished recording, in a place that can be written.
    progress
        Show a progress bar.

    Returns
    -------
    The path of the recording.

    Raises
    ------
    InputError
        It is no recording, it is not finished, it cannot be written, or another process writes it.
    MissingFileError
        There is nothing at `path`.
    """
    location = Location.of(path)
    location.group()  # says that there is nothing; a claim would make the folder
    with location.claimed():
        write_index(location, progress=progress)
    return str(location)


def write_index(location: Location, *, progress: bool = False) -> None:
    """Do what `build_index` does, for a process that has the recording to itself."""
    group = location.group()
    digest = group.attrs.get("manifest_digest")
    if group.attrs.get("kind") != "recording" or not digest:
        raise InputError(f"{location} is not a finished recording; only one can be indexed")
    folder = index_of(location)
    store = folder.zarr_store(read_only=False)  # refuses what cannot be written
    for key in sorted(folder.keys(), key=lambda key: key != MANIFEST):  # first what says that it is whole
        folder.remove(key)
    sites = sites_of(group)
    write_tables(folder, open(str(location), site=sites[0]), array_of(group, "recorded").chunks[0])
    with_cube = [site for site in sites if f"{site}/activation" in group]
    if with_cube:
        root = zarr.create_group(store, zarr_format=3)
        for site in with_cube:
            with TqdmCallback(desc=f"index {site}", disable=not progress):
                values = _index_site(_Cube(location, site))
            _write_site(root.create_group(site), values)
    files = {f"{FOLDER}/{key}": digest_pieces(folder.pieces(key)) for key in folder.keys()}
    manifest = {"source": digest, "files": dict(sorted(files.items()))}
    folder.write(MANIFEST, json.dumps(manifest, indent=1).encode())


class _Cube:
    """The activations of a site, read a unit of one layer and some neurons at a time.

    Attributes
    ----------
    shape
        (prompt, token, layer, neuron).
    width
        Neurons of a shard.
    units
        The prompts of each unit.
    n_before
        Valid tokens before each unit, and in all: (unit + 1,).
    """

    def __init__(self, location: Location, site: str) -> None:
        group = location.group()
        self._array = cube_of(location, site)
        self._token_id = array_of(group, "token_id") if "token_id" in group else None
        self.dtype, self.shape = np.dtype(self._array.dtype), self._array.shape
        unit, _, _, self.width = self._array.shards or self._array.chunks
        n_prompts = self.shape[0]
        self.units = [slice(i, min(i + unit, n_prompts)) for i in range(0, n_prompts, unit)]
        self.n_before = np.cumsum([0, *(int(self._valid(prompts).sum()) for prompts in self.units)])

    def _valid(self, prompts: slice) -> Bool:
        """Which tokens are real, by the same rule as an analysis has: (prompt, token)."""
        if self._token_id is not None:
            return np.asarray(np.asarray(self._token_id[prompts]) != -1)
        return np.asarray(~np.isnan(np.asarray(self._array[prompts, :, 0, :])).all(axis=-1))

    def rows(self, unit: int, layer: int, neurons: slice) -> tuple[npt.NDArray[Any], npt.NDArray[np.int64]]:
        """Return the valid tokens of a unit: (row, neuron), and where each lies in (prompt, token), flat."""
        prompts = self.units[unit]
        valid = self._valid(prompts)
        values = np.asarray(self._array[prompts, :, layer, neurons])[valid]
        return values, np.flatnonzero(valid) + prompts.start * self.shape[1]


def _index_site(cube: _Cube) -> dict[str, npt.NDArray[Any]]:
    """Index one site: the variables of the schema, by name."""
    n_layers, n_neurons = cube.shape[2:]
    starts = range(0, n_neurons, cube.width)
    parts = [
        [
            delayed(_index_part, pure=False)(cube, layer, slice(a, min(a + cube.width, n_neurons)))
            for a in starts
        ]
        for layer in range(n_layers)
    ]
    (done,) = compute(parts)  # type: ignore[no-untyped-call]
    return _joined(done, cube.shape[1])


def _index_part(cube: _Cube, layer: int, neurons: slice) -> dict[str, npt.NDArray[Any]]:
    """Index some neurons of a layer: value and row (end, rank, neuron), quantile (level, neuron)."""
    ends = BothEnds(K, neurons.stop - neurons.start, cube.dtype)
    sample = sampled_rows(int(cube.n_before[-1]))
    kept = []
    for unit, (first, last) in enumerate(itertools.pairwise(cube.n_before)):
        rows, numbers = cube.rows(unit, layer, neurons)
        ends.add(rows, numbers)
        kept.append(rows[sample[(sample >= first) & (sample < last)] - first])
    value, row = ends.result()
    return {"value": value, "row": row, "quantile": quantiles(np.concatenate(kept))}


def _joined(parts: list[list[dict[str, npt.NDArray[Any]]]], n_tokens: int) -> dict[str, npt.NDArray[Any]]:
    """Put layers and parts of layers together; turn the numbers of rows into prompts and tokens."""
    whole = {
        name: np.stack([np.concatenate([p[name] for p in layer], axis=-1) for layer in parts], axis=-2)
        for name in ("value", "row", "quantile")
    }
    row = whole["row"]  # (end, rank, layer, neuron)
    prompt, token = (np.where(row >= 0, x, -1).astype(np.int32) for x in divmod(row, n_tokens))
    value = whole["value"]
    return {
        "extreme_value": value if value.dtype == np.float64 else value.astype(np.float32),
        "extreme_prompt": prompt,
        "extreme_token": token,
        "quantile_value": whole["quantile"],
        "quantile": np.array(LEVELS),
    }


def _write_site(group: zarr.Group, values: Mapping[str, npt.NDArray[Any]]) -> None:
    for variable in INDEX:
        value = values[variable.name]
        array = group.create_array(
            variable.name,
            shape=value.shape,
            dtype=value.dtype,
            chunks=(*value.shape[:-2], 1, min(_CHUNK_NEURONS, value.shape[-1]))
            if value.ndim > 1
            else value.shape,
            compressors=COMPRESSORS,
            fill_value=variable.missing,
            dimension_names=variable.dims,
            attributes={"long_name": variable.meaning},
        )
        array[:] = value
