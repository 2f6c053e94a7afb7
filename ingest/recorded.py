"""What a recording holds of what is needed to compute it again: its texts, its settings, its numbers."""

import os
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import xarray as xr
import zarr

from ..store.archive import array_of, open_group, open_so_far, sites_of
from ..store.errors import ActomeError, DamagedError, InputError
from ..store.location import Location
from ..store.paradigm import Paradigm

_COMPUTED = ("n_tokens", "completion", "count")  # along prompt, and no label of the paradigm
_NEEDED = (
    *("model", "revision", "architecture", "compute_dtype", "sites", "modules", "paradigm_digest", "tokens"),
    *("sampling", "seed", "chat", "special_tokens", "truncate", "keep", "logprob"),
)
_SAME_PROMPTS = {"cast", "rechunk"}  # operations that keep the prompts in their places
_OTHER_PROMPTS = {"merge", "append"}


class Recorded:
    """What a recording holds, and how it was made.

    Attributes
    ----------
    provenance, inputs
        How it was made; what decided the numbers.
    numbers
        (prompt,): place of each recorded prompt in the paradigm.
    table
        The labels of the recorded prompts.
    cubes, moments
        Per site, as `open` gives them; no cubes where only the moments were kept.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.location = Location.of(path)
        group = self.location.group()
        self.provenance = _provenance(self.location, group)
        self.inputs: dict[str, Any] = self.provenance["inputs"]
        name, sites = str(self.location), sites_of(group)
        self.moments = {site: open_so_far(name, site=site, level="prompt") for site in sites}
        has_cube = self.inputs["keep"] == "full"
        self.cubes = {site: open_so_far(name, site=site, level="token") for site in sites if has_cube}
        self._root = open_group(self.location, group, None, {"prompt": array_of(group, "recorded").chunks[0]})
        self.numbers = np.flatnonzero(self._root["recorded"].to_numpy())
        first = self.moments[sites[0]]
        labels = [c for c in first.coords if first[c].dims == ("prompt",) and c not in _COMPUTED]
        self.table = pd.DataFrame({str(c): first[c].to_numpy() for c in labels})

    @property
    def storage_dtype(self) -> str:
        """The type in which the numbers are stored: the coarsest, where sites differ."""
        dtypes = [
            self.provenance["storage_dtype"],
            *(d["activation"].dtype.name for d in self.cubes.values()),
        ]
        return "float16" if any("float16" in dtype for dtype in dtypes) else "float32"

    @property
    def rounded_to(self) -> str:
        """The coarsest type in which the numbers may have been stored: a cast does not tell from what."""
        was_cast = any(step["name"] == "cast" for step in self.provenance.get("operations", []))
        return "float16" if was_cast or _cuts(self.inputs, "dtype") else self.storage_dtype

    @property
    def is_whole(self) -> bool:
        """Whether the prompts are those of the paradigm, each in its place; some may not be recorded yet."""
        names = {step["name"] for step in self.provenance.get("operations", [])}
        return names <= _SAME_PROMPTS and "cut" not in self.inputs

    @property
    def digest(self) -> str | None:
        """Digest of the paradigm that the labels make; None where not every prompt of it is there."""
        is_complete = self.is_whole and len(self.numbers) == self._root.sizes["prompt"]
        return Paradigm(self.table).digest if is_complete else None

    def modules(self, site: str) -> list[str]:
        """Names of the modules that were hooked, one for each layer that is there."""
        names = dict(zip(self.inputs["sites"][site], self.inputs["modules"][site], strict=True))
        return [names[int(layer)] for layer in self.moments[site]["layer"]]

    def tokens(self, place: int, variable: str) -> npt.NDArray[Any]:
        """Values of one prompt: (token,), without padding."""
        row = self._root.isel(prompt=self.numbers[place])
        return self._read(row[variable])[: int(row["n_tokens"])]

    def cube(self, place: int, site: str, layer: int) -> npt.NDArray[Any]:
        """Activations of one prompt in the layer at a place: (token, 1, neuron)."""
        return self._read(self.cubes[site]["activation"].isel(prompt=place, layer=[layer]))

    def moment(self, place: int, site: str, name: str) -> npt.NDArray[Any]:
        """One of the moments of one prompt: (layer, neuron)."""
        return self._read(self.moments[site][name].isel(prompt=place))

    def _read(self, array: xr.DataArray) -> npt.NDArray[Any]:
        try:
            return np.asarray(array.to_numpy())
        except ActomeError:
            raise
        except (ValueError, RuntimeError, OSError) as error:  # of a checksum, of Blosc, of the disk
            raise DamagedError(
                f"{array.name} of {self.location} cannot be read: {error}; `actome verify` names the files "
                "that are damaged"
            ) from error


def _provenance(location: Location, group: zarr.Group) -> dict[str, Any]:
    """Return how a recording was made; refuse one whose numbers or texts are not those of the model."""
    if group.attrs.get("kind") != "recording":
        raise InputError(f"{location} is a result; only a recording can be computed again")
    provenance: Any = group.attrs.asdict().get("provenance", {})
    inputs = provenance.get("inputs")
    if not inputs:
        raise InputError(
            f"{location} was imported or saved: nothing in it says which model gave these numbers, so they "
            "cannot be computed again"
        )
    lacking = [name for name in _NEEDED if name not in inputs]
    if lacking:
        raise InputError(
            f"the provenance of {location} does not tell {', '.join(lacking)}, as that of `record` does; "
            "without them it cannot be computed again"
        )
    steps = {step["name"] for step in provenance.get("operations", [])}
    foreign = sorted(steps - _SAME_PROMPTS - _OTHER_PROMPTS)
    known = steps or "cut" in inputs or not provenance.get("derived_from")
    if "saved" in provenance or foreign or not known:
        how = "saved from a Dataset" if "saved" in provenance else "derived from another"
        raise InputError(
            f"{location} was {how}, so that its numbers may have been changed since a model gave them; "
            f"compute its source again instead: {', '.join(provenance.get('derived_from', [])) or 'unknown'}"
        )
    if "digest" in _cuts(inputs, "text"):
        raise InputError(f"the texts of {location} are hidden, so nothing can be shown to a model again")
    is_drawn = (inputs["sampling"] or {}).get("temperature", 0) > 0
    if is_drawn and (steps & _OTHER_PROMPTS or "cut" in inputs):
        raise InputError(
            f"the tokens of {location} were drawn at random, by the places of the prompts in their paradigm, "
            "and it holds others or fewer; compute its source again instead: "
            f"{', '.join(provenance['derived_from'])}"
        )
    return dict(provenance)


def _cuts(inputs: dict[str, Any], name: str) -> list[Any]:
    """Values that exports of a part were given of one of their settings."""
    values, cut = [], inputs.get("cut")
    while cut:
        values += [cut[name]] if name in cut else []
        cut = cut.get("before")
    return values
