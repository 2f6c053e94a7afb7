"""Results that are made unit by unit: arrays allocated whole, filled one after the other, always sound.

A unit is a block along some dimensions (some lesions by some prompts, one arm of a training): one chunk
of every array that has these. Its chunks are written first, then one small file with their digests:
where that is, the unit is complete. Units share no chunk, so several processes may write different ones.
When all are there the archive is finalised, and only then opened.
"""

import json
import math
import time
import warnings
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr
import zarr

from .allocate import discard
from .archive import open as open_result
from .archive import open_group
from .encoding import COMPRESSORS, encode_chunk, encode_text, pad
from .errors import InputError, differences
from .location import Location, quiet_zarr
from .manifest import unit_file, unit_files
from .provenance import digest_bytes, digest_json
from .sealing import seal

_POLL_SECONDS = 0.5
_PATIENCE_SECONDS = 900.0  # for the process that begins: it may have to load a large model
_GRID = "grid"  # attribute: along each dimension of the units, how many in all and in a unit


@dataclass(frozen=True)
class Field:
    """An array that is filled unit by unit."""

    name: str
    dims: tuple[str, ...]
    shape: tuple[int, ...]
    dtype: str
    missing: Any
    attrs: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Grid:
    """How some dimensions are cut into units; along the first of them units follow one another.

    Attributes
    ----------
    sizes, unit
        By dimension: in all, and in a unit.
    """

    sizes: Mapping[str, int]
    unit: Mapping[str, int]

    def __len__(self) -> int:
        """Count the units."""
        return math.prod(self._blocks)

    @property
    def _blocks(self) -> tuple[int, ...]:
        return tuple(-(-n // self.unit[dim]) for dim, n in self.sizes.items())

    def place(self, unit: int) -> dict[str, int]:
        """Return the place of a unit among the blocks along each dimension."""
        places = np.unravel_index(unit, self._blocks, order="F")
        return {dim: int(i) for dim, i in zip(self.sizes, places, strict=True)}

    def slices(self, unit: int) -> dict[str, slice]:
        """Return what a unit holds of each dimension."""
        starts = {dim: i * self.unit[dim] for dim, i in self.place(unit).items()}
        return {d: slice(start, min(start + self.unit[d], self.sizes[d])) for d, start in starts.items()}


@dataclass(frozen=True)
class Allocation:
    """What there is of a result before its first unit is made.

    Attributes
    ----------
    known
        What is known of it already, and its attributes, ``kind`` among them.
    fields
        What the units will fill.
    grid
        The units.
    """

    known: xr.Dataset
    fields: list[Field]
    grid: Grid


def allocate(location: Location, allocation: Allocation, inputs: Mapping[str, Any]) -> None:
    """Write all that is known, and allocate the rest.

    Parameters
    ----------
    location
        A place that holds nothing, or what an interrupted allocation left.
    allocation
        What there will be.
    inputs
        Everything that decides the numbers.
    """
    if location.exists():
        discard(location)
    known, grid = allocation.known, allocation.grid
    cut = {dim: [n, grid.unit[dim]] for dim, n in grid.sizes.items()}
    attrs = {**known.attrs, _GRID: cut, "inputs": dict(inputs)}
    store = location.zarr_store(read_only=False)
    root = zarr.create_group(store, zarr_format=3, attributes=attrs)
    text = {v: {"dtype": np.dtypes.StringDType()} for v in known.variables if known[v].dtype.kind in "OUT"}
    with quiet_zarr(), warnings.catch_warnings():
        # folders of an allocation that was interrupted are empty, and still there
        warnings.filterwarnings("ignore", message="Object at .* is not recognized")
        known.assign_attrs(attrs).to_zarr(store, mode="a", zarr_format=3, consolidated=False, encoding=text)
    for item in allocation.fields:
        root.create_array(
            item.name,
            shape=item.shape,
            dtype=str if item.dtype == "str" else item.dtype,
            chunks=tuple(max(1, grid.unit.get(d, n)) for d, n in zip(item.dims, item.shape, strict=True)),
            compressors=COMPRESSORS,
            fill_value=item.missing,
            dimension_names=item.dims,
            attributes=dict(item.attrs),
        )
    root = zarr.open_group(store, mode="r+", zarr_format=3)
    root.attrs["inputs_digest"] = digest_json(dict(inputs))  # last: its presence says that all is allocated


def check_place(location: Location, kind: str, what: str) -> None:
    """Refuse a place that holds something else, or where nothing can be written, before any work.

    Parameters
    ----------
    location
        The place.
    kind, what
        Of the result that belongs there: its attribute, and its name for messages.
    """
    if not location.exists():
        location.check_new()
    elif location.group().attrs.get("kind") != kind:
        raise InputError(f"{location} holds something else than {what}; choose another path or remove it")


class UnitArchive:
    """A result that has begun.

    Attributes
    ----------
    location
        Where it is.
    attrs
        Of the root.
    """

    def __init__(self, location: Location) -> None:
        self.location = location
        group = location.group()
        self.attrs: dict[str, Any] = dict(group.attrs)
        with quiet_zarr():
            self._arrays: dict[str, zarr.Array[Any]] = dict(group.arrays())

    @classmethod
    def find(cls, location: Location, inputs: Mapping[str, Any], what: str) -> "UnitArchive | None":
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
            changed = "; ".join(differences(before, inputs))
            raise InputError(f"{location} holds other {what} ({changed}); choose another path or remove it")
        return cls(location)

    @classmethod
    def wait_for(cls, location: Location, inputs: Mapping[str, Any], what: str) -> "UnitArchive":
        """Wait until another process has begun."""
        begun = time.monotonic()
        while (archive := cls.find(location, inputs, what)) is None:
            if time.monotonic() - begun > _PATIENCE_SECONDS:
                raise InputError(
                    f"the part 0 of {location} has not begun in {_PATIENCE_SECONDS / 60:.0f} minutes"
                )
            time.sleep(_POLL_SECONDS)
        return archive

    @property
    def grid(self) -> Grid:
        """The units."""
        cut: dict[str, list[int]] = self.attrs[_GRID]
        return Grid({d: n for d, (n, _) in cut.items()}, {d: n for d, (_, n) in cut.items()})

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
        place, files = self.grid.place(unit), {}
        with ThreadPoolExecutor(1, "encode") as pool:  # a worker thread: see `encode_chunk`
            for name, value in values.items():
                array = self._arrays[name]
                key = "/".join(map(str, (name, "c", *(place.get(dim, 0) for dim in _dims(array)))))
                content = pool.submit(_encoded, value, array).result()
                self.location.write(key, content)
                files[key] = digest_bytes(content)
        self.location.write(unit_file(unit), json.dumps({"files": files, "counts": {}}, indent=1).encode())

    def finalise(self) -> None:
        """Consolidate the metadata and write the manifest, where every unit is complete and none has yet."""
        self.attrs = dict(self.location.group().attrs)  # the parts may end at the same time
        if self.is_final or self.pending():
            return
        self.attrs["manifest_digest"] = seal(self.location)


def make_units(
    location: Location,
    inputs: Mapping[str, Any],
    what: str,
    plan: Callable[[], Allocation],
    fill: Callable[[UnitArchive], None],
    *,
    part: tuple[int, int] | None = None,
) -> xr.Dataset:
    """Begin a result or go on with it, finalise it when all its units are there, and open it.

    Parameters
    ----------
    location, inputs, what
        Where it is, everything that decides its numbers, and its name for messages.
    plan
        Says what it will hold; asked only where nothing has begun.
    fill
        Makes and writes what is pending.
    part
        (k, n): this process is the k-th of n that fill it together; the one with k = 0 begins.
    """
    archive = UnitArchive.find(location, inputs, what)
    if archive is None or not archive.is_final:
        if part is not None and part[0] > 0:
            UnitArchive.wait_for(location, inputs, what)
        with location.claimed(shared=part is not None):
            archive = UnitArchive.find(location, inputs, what)
            if archive is None:
                allocate(location, plan(), inputs)
                archive = UnitArchive(location)
            fill(archive)
        if not archive.pending():
            with location.claimed(wait=True):
                archive.finalise()
    if archive.is_final:
        return open_result(str(location))
    return open_group(location, location.group(), None, {})


def _dims(array: zarr.Array[Any]) -> tuple[str, ...]:
    return tuple(map(str, getattr(array.metadata, "dimension_names", None) or ()))


def _encoded(values: npt.NDArray[Any], array: zarr.Array[Any]) -> bytes:
    if array.dtype.kind == "T":
        return encode_text(pad(np.asarray(values, dtype=object), array.chunks, ""))
    stored = np.asarray(values, dtype=np.dtype(array.dtype).newbyteorder("<"))
    return encode_chunk(pad(stored, array.chunks, array.fill_value))
