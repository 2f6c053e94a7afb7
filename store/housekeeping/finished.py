"""A finished recording as a source of others: what it holds, and its numbers by rows."""

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import zarr

from ..allocate import SiteSpec
from ..archive import array_of, cube_of, sites_of
from ..beside import split_number
from ..decoding import ShardedArray
from ..errors import DamagedError, InputError
from ..location import Location
from ..manifest import INDEX, MANIFEST, listed_files, unit_files
from ..schema import ROOT, declared

_ROOT = declared(ROOT)
_WRITTEN = ("recorded", "n_tokens")  # every recording has them, and its writer fills them


@dataclass(frozen=True)
class Finished:
    """A recording that was written to its end.

    Attributes
    ----------
    location, group
        Where it is, and its root, open for reading.
    """

    location: Location
    group: zarr.Group

    @classmethod
    def of(cls, path: str | os.PathLike[str]) -> "Finished":
        """Open a recording.

        Raises
        ------
        InputError
            It is none, or it is not complete.
        MissingFileError
            There is nothing at `path`.
        """
        location = Location.of(path)
        group = location.group()
        if group.attrs.get("kind") != "recording":
            raise InputError(f"{location} is no recording; a result is made again, not rewritten")
        if not group.attrs.get("manifest_digest"):
            raise InputError(f"{location} is not complete; record it to its end first")
        return cls(location, group)

    @cached_property
    def files(self) -> dict[str, str]:
        """The digest of each file, as the manifest lists it."""
        files = listed_files(self.location.read(MANIFEST))
        if files is None:
            raise DamagedError(f"{self.location}: {MANIFEST} is not readable")
        return files

    @property
    def digest(self) -> str:
        """The digest of the manifest."""
        return str(self.group.attrs["manifest_digest"])

    @property
    def provenance(self) -> dict[str, Any]:
        """Where the numbers come from."""
        provenance: Any = self.group.attrs.get("provenance", {})
        return dict(provenance)

    @cached_property
    def n_prompts(self) -> int:
        """Count the prompts."""
        return self.array("prompt").shape[0]

    @cached_property
    def unit(self) -> int:
        """Prompts in a unit."""
        return self.array("recorded").chunks[0]

    @cached_property
    def n_tokens(self) -> int:
        """Length of the token axis; without a cube and token variables, of the longest prompt."""
        names = (*self.token_variables, *(f"{s}/activation" for s, spec in self.sites.items() if spec.cube))
        return self.array(names[0]).shape[1] if names else int(self.read("n_tokens").max())

    @cached_property
    def sites(self) -> dict[str, SiteSpec]:
        """What each site holds."""
        return {site: self._site(site) for site in sites_of(self.group)}

    def _site(self, site: str) -> SiteSpec:
        cube = f"{site}/activation" in self.group
        return SiteSpec(
            layers=tuple(self.read(f"{site}/layer").tolist()),
            neurons=tuple(self.read(f"{site}/neuron").tolist()),
            hook_names=tuple(self.read(f"{site}/hook_name").tolist()),
            dtype=str(np.dtype(self.array(f"{site}/activation").dtype)) if cube else "float64",
            cube=cube,
        )

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """The labels along ``prompt``, in a fixed order."""
        names = [name for name, array in self.group.arrays() if array.ndim == 1 and name not in _WRITTEN]
        order = {name: i for i, name in enumerate(_ROOT)}
        return tuple(sorted(names, key=lambda name: (order.get(name, len(order)), name)))

    @cached_property
    def token_variables(self) -> tuple[str, ...]:
        """The (prompt, token) variables that it has."""
        return tuple(v.name for v in ROOT if v.dims == ("prompt", "token") and v.name in self.group)

    def array(self, name: str) -> zarr.Array[Any]:
        """Return an array by its path."""
        return array_of(self.group, name)

    def read(self, name: str, rows: slice | npt.NDArray[np.int64] = slice(None)) -> npt.NDArray[Any]:
        """Return rows of an array, a slice or by number; text as objects."""
        array = self.array(name)
        values = np.asarray(array[rows] if isinstance(rows, slice) else array.oindex[rows])
        return values.astype(object) if values.dtype.kind == "T" else values

    @cached_property
    def cubes(self) -> dict[str, ShardedArray | zarr.Array[Any]]:
        """Per site, the activations (prompt, token, layer, neuron), to read by slices."""
        return {site: cube_of(self.location, site) for site, spec in self.sites.items() if spec.cube}

    def counts(self) -> Iterator[tuple[int, dict[str, int]]]:
        """Go through what was counted while recording: first row of the unit, and the counts."""
        for key in unit_files(self.location):
            number = int(key.rpartition("/")[2].removesuffix(".json"))
            yield number * self.unit, json.loads(self.location.read(key))["counts"]

    def further_files(self) -> list[str]:
        """List what is kept beside the arrays: the paradigms by number, the digests of what was imported."""
        managed = (MANIFEST, INDEX, "actome/units/")
        kept = [k for k in self.files if k.startswith("actome/") and not k.startswith(managed)]
        return sorted(kept, key=split_number)
