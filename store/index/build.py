"""Building the index of a recording: one pass through each layer, one shard in memory at a time."""

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

from ..archive import cube_of, open, sites_of
from ..blocks import valid_tokens
from ..encoding import COMPRESSORS
from ..errors import InputError
from ..location import Location
from ..moments import Bool
from ..provenance import digest_bytes
from ..schema import INDEX
from .extremes import Extremes
from .parquet import write_tables
from .quantiles import LEVELS, quantiles, sampled_rows

FOLDER: Final = "actome/index"
MANIFEST: Final = "manifest.json"
K: Final = 32  # tokens kept at either end

BYTES_PER_NEURON: Final = 2 * K * 12 + 8 * len(LEVELS)  # before compression

_CHUNK_NEURONS = 256


def index_of(location: Location) -> Location:
    """Return the folder of the index of a recording."""
    return replace(location, root="/".join(filter(None, [location.root, FOLDER])))


def is_current(location: Location) -> bool:
    """Whether the index is there, whole, and made from the recording as it is."""
    folder = index_of(location)
    if not folder.exists(MANIFEST):
        return False
    source: str = json.loads(folder.read(MANIFEST))["source"]
    return source == location.group().attrs.get("manifest_digest")


def build_index(path: str | os.PathLike[str] | Location, *, progress: bool = False) -> str:
    """Find every neuron's extremes and quantiles, and write the labels as Parquet tables.

    The cube is read once, by the active Dask scheduler, one task a layer; an index that is there is
    replaced. A recording without a cube gets the tables alone.

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
        It is no recording, it is not finished, or it cannot be written.
    MissingFileError
        There is nothing at `path`.
    """
    location = path if isinstance(path, Location) else Location.of(path)
    group = location.group()
    digest = group.attrs.get("manifest_digest")
    if group.attrs.get("kind") != "recording" or not digest:
        raise InputError(f"{location} is not a finished recording; only one can be indexed")
    folder = index_of(location)
    for key in sorted(folder.keys(), key=lambda key: key != MANIFEST):  # first what says that it is whole
        folder.remove(key)
    sites = sites_of(group)
    labels = open(str(location), site=sites[0])
    unit = labels.chunksizes["prompt"][0] if labels.chunksizes else labels.sizes["prompt"]
    write_tables(folder, labels, unit)
    with_cube = [site for site in sites if f"{site}/activation" in group]
    if with_cube:
        valid = valid_tokens(open(str(location), site=with_cube[0]))
        root = zarr.create_group(folder.zarr_store(read_only=False), zarr_format=3)
        for site in with_cube:
            with TqdmCallback(desc=f"index {site}", disable=not progress):
                values = _index_site(location, site, valid)
            _write_site(root.create_group(site), values)
    files = {f"{FOLDER}/{key}": digest_bytes(folder.read(key)) for key in folder.keys()}
    manifest = {"source": digest, "files": dict(sorted(files.items()))}
    folder.write(MANIFEST, json.dumps(manifest, indent=1).encode())
    return str(location)


def _index_site(location: Location, site: str, valid: Bool) -> dict[str, npt.NDArray[Any]]:
    """Index one site: the variables of the schema, by name."""
    cube = cube_of(location, site)
    unit, _, _, width = cube.shards or cube.chunks
    n_prompts, n_tokens, n_layers, n_neurons = cube.shape
    n_before = np.concatenate([[0], np.cumsum(valid.sum(axis=1))])  # valid tokens before each prompt
    sample = sampled_rows(int(n_before[-1]))

    def index_part(layer: int, neurons: slice) -> dict[str, npt.NDArray[Any]]:
        ends = [Extremes(K, neurons.stop - neurons.start, cube.dtype) for _ in ("high", "low")]
        kept = []
        for start in range(0, n_prompts, unit):
            prompts = slice(start, min(start + unit, n_prompts))
            rows = np.asarray(cube[prompts, :, layer, neurons])[valid[prompts]]  # (row, neuron)
            numbers = np.flatnonzero(valid[prompts]) + start * n_tokens
            for end, signed in zip(ends, (rows, -rows), strict=True):
                end.add(signed, numbers)
            first, last = n_before[start], n_before[prompts.stop]
            kept.append(rows[sample[(sample >= first) & (sample < last)] - first])
        (high, high_row), (low, low_row) = (end.result() for end in ends)
        return {
            "value": np.stack([high, -low]),
            "row": np.stack([high_row, low_row]),
            "quantile": quantiles(np.concatenate(kept)),
        }

    parts = [
        [
            delayed(index_part, pure=False)(layer, slice(a, min(a + width, n_neurons)))
            for a in range(0, n_neurons, width)
        ]
        for layer in range(n_layers)
    ]
    (done,) = compute(parts)  # type: ignore[no-untyped-call]
    return _joined(done, n_tokens)


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
