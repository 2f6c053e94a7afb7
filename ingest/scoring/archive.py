"""Scores in the archive: arrays allocated whole, filled unit by unit, sound whatever happens.

A unit is some lesions by some prompts, one chunk of every array. Its chunks are written first, then one
small file with their digests: where that is, the unit is complete. Units share no chunk, so several
processes may write different ones. When all are there the archive is finalised, and only then opened.
"""

import json
import time
import warnings
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr
import zarr

from ...store.allocate import discard
from ...store.encoding import COMPRESSORS, encode_chunk, encode_text, pad
from ...store.errors import InputError, short
from ...store.location import Location, quiet_zarr
from ...store.manifest import unit_file, unit_files, write_manifest
from ...store.provenance import digest_bytes, digest_json

_POLL_SECONDS = 0.5
_PATIENCE_SECONDS = 900.0  # for the process that begins: it may have to load a large model


@dataclass(frozen=True)
class Field:
    """An array that is filled unit by unit; its first dimensions are ``lesion`` and ``prompt``."""

    name: str
    dims: tuple[str, ...]
    shape: tuple[int, ...]
    dtype: str
    missing: Any
    attrs: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Grid:
    """How lesions by prompts are cut into units; the lesions of the same prompts follow one another.

    Attributes
    ----------
    n_lesions, n_prompts
        In all.
    lesions, prompts
        In a unit.
    """

    n_lesions: int
    n_prompts: int
    lesions: int
    prompts: int

    def __len__(self) -> int:
        """Count the units."""
        return self._rows * -(-self.n_prompts // self.prompts)

    @property
    def _rows(self) -> int:
        return -(-self.n_lesions // self.lesions)

    def place(self, unit: int) -> tuple[int, int]:
        """Return the place of a unit among the blocks of lesions and of prompts."""
        j, i = divmod(unit, self._rows)
        return i, j

    def slices(self, unit: int) -> tuple[slice, slice]:
        """Return the lesions and the prompts of a unit."""
        i, j = self.place(unit)
        return (
            slice(i * self.lesions, min((i + 1) * self.lesions, self.n_lesions)),
            slice(j * self.prompts, min((j + 1) * self.prompts, self.n_prompts)),
        )


def allocate_scores(
    location: Location, known: xr.Dataset, fields: list[Field], grid: Grid, inputs: Mapping[str, Any]
) -> None:
    """Write all that is known before a model runs, and allocate the rest.

    Parameters
    ----------
    location
        A place that holds nothing, or what an interrupted allocation left.
    known
        The lesions, the labels of the prompts, and the attributes.
    fields
        What the units will fill.
    grid
        The units.
    inputs
        Everything that decides the numbers.
    """
    if location.exists():
        discard(location)
    attrs = {**known.attrs, "unit": [grid.lesions, grid.prompts], "inputs": dict(inputs)}
    store = location.zarr_store(read_only=False)
    root = zarr.create_group(store, zarr_format=3, attributes=attrs)
    text = {v: {"dtype": np.dtypes.StringDType()} for v in known.variables if known[v].dtype.kind in "OUT"}
    with quiet_zarr(), warnings.catch_warnings():
        # folders of an allocation that was interrupted are empty, and still there
        warnings.filterwarnings("ignore", message="Object at .* is not recognized")
        known.assign_attrs(attrs).to_zarr(store, mode="a", zarr_format=3, consolidated=False, encoding=text)
    for item in fields:
        root.create_array(
            item.name,
            shape=item.shape,
            dtype=str if item.dtype == "str" else item.dtype,
            chunks=(grid.lesions, grid.prompts, *item.shape[2:]),
            compressors=COMPRESSORS,
            fill_value=item.missing,
            dimension_names=item.dims,
            attributes=dict(item.attrs),
        )
    root = zarr.open_group(store, mode="r+", zarr_format=3)
    root.attrs["inputs_digest"] = digest_json(dict(inputs))  # last: its presence says that all is allocated


def check_place(location: Location) -> None:
    """Refuse a place that holds something else than scores, before any work."""
    if not location.exists():
        location.check_new()
    elif location.group().attrs.get("kind") != "scores":
        raise InputError(f"{location} holds something else than scores; choose another path or remove it")


class ScoreArchive:
    """Scores that have begun.

    Attributes
    ----------
    location
        Where they are.
    attrs
        Of the root.
    grid
        The units.
    """

    def __init__(self, location: Location) -> None:
        self.location = location
        group = location.group()
        self.attrs: dict[str, Any] = dict(group.attrs)
        self._arrays = _fields_of(group)
        shape = self._arrays["logprob"].shape
        self.grid = Grid(shape[0], shape[1], *self.attrs.get("unit", shape[:2]))

    @classmethod
    def find(cls, location: Location, inputs: Mapping[str, Any]) -> "ScoreArchive | None":
        """Open what was begun from the same inputs; None where nothing was, or its allocation was cut off.

        Raises
        ------
        InputError
            It was made from others; the message names what differs.
        """
        if not location.exists():
            return None
        attrs = location.group().attrs.asdict()
        if "inputs_digest" not in attrs:
            return None
        if attrs["inputs_digest"] != digest_json(dict(inputs)):
            before: Any = attrs.get("inputs", {})
            names = sorted({*inputs, *before})
            changed = [
                f"{name}: {short(before.get(name))} there, {short(inputs.get(name))} now"
                for name in names
                if before.get(name) != inputs.get(name)
            ]
            raise InputError(
                f"{location} holds other scores ({'; '.join(changed)}); choose another path or remove it"
            )
        return cls(location)

    @classmethod
    def wait_for(cls, location: Location, inputs: Mapping[str, Any]) -> "ScoreArchive":
        """Wait until another process has begun."""
        begun = time.monotonic()
        while (archive := cls.find(location, inputs)) is None:
            if time.monotonic() - begun > _PATIENCE_SECONDS:
                raise InputError(
                    f"the part 0 of {location} has not begun in {_PATIENCE_SECONDS / 60:.0f} minutes"
                )
            time.sleep(_POLL_SECONDS)
        return archive

    @property
    def is_final(self) -> bool:
        """Whether the manifest is written and every unit is complete."""
        return bool(self.attrs.get("manifest_digest"))

    def pending(self) -> list[int]:
        """Return the units that are not complete."""
        if self.is_final:
            return []
        there = set(unit_files(self.location))
        return [unit for unit in range(len(self.grid)) if unit_file(unit) not in there]

    def write(self, unit: int, values: Mapping[str, npt.NDArray[Any]]) -> None:
        """Commit one unit: its chunks, then their digests."""
        files = {}
        with ThreadPoolExecutor(1, "encode") as pool:  # a worker thread: see `encode_chunk`
            for name, value in values.items():
                array = self._arrays[name]
                key = "/".join(map(str, (name, "c", *self.grid.place(unit), *[0] * (array.ndim - 2))))
                content = pool.submit(_encoded, value, array).result()
                self.location.write(key, content)
                files[key] = digest_bytes(content)
        self.location.write(unit_file(unit), json.dumps({"files": files, "counts": {}}, indent=1).encode())

    def finalise(self) -> None:
        """Consolidate the metadata and write the manifest, where every unit is complete and none has yet."""
        self.attrs = dict(self.location.group().attrs)  # the parts may end at the same time
        if self.is_final or self.pending():
            return
        for key in self.location.keys():
            if key.endswith(".partial"):  # a write to the local disk that was cut off
                self.location.remove(key)
        with quiet_zarr():
            zarr.consolidate_metadata(self.location.zarr_store(read_only=False), zarr_format=3)
        self.attrs["manifest_digest"] = write_manifest(self.location)


def _fields_of(group: zarr.Group) -> dict[str, zarr.Array[Any]]:
    with quiet_zarr():
        return {name: array for name, array in group.arrays() if _dims(array)[:2] == ("lesion", "prompt")}


def _dims(array: zarr.Array[Any]) -> tuple[Any, ...]:
    return tuple(getattr(array.metadata, "dimension_names", None) or ())


def _encoded(values: npt.NDArray[Any], array: zarr.Array[Any]) -> bytes:
    if array.dtype.kind == "T":
        return encode_text(pad(np.asarray(values, dtype=object), array.chunks, ""))
    stored = np.asarray(values, dtype=np.dtype(array.dtype).newbyteorder("<"))
    return encode_chunk(pad(stored, array.chunks, array.fill_value))
