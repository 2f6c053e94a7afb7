"""Writing a recording unit by unit, so that what was recorded stays sound whatever happens.

A unit is committed in this order: shards, summary, labels, the unit's digests, ``recorded``. A
reader takes a prompt only where ``recorded`` says so, and nothing is written after it. Units share
no chunk, so several processes may write different ones.
"""

import json
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import zarr
from zarr.codecs import BloscCodec, Crc32cCodec

from . import integrity
from .errors import InputError
from .layout import Layout, choose_unit, site_layout
from .location import Location
from .moments import Bool, masked_moments
from .provenance import digest_bytes
from .schema import ACTIVATION_DIMS, ROOT, SITES, SUMMARY, VERSION, Variable, declared

_COMPRESSORS = (BloscCodec(cname="lz4", shuffle="bitshuffle"), Crc32cCodec())
_COORDINATE = {"layer": np.int64, "neuron": np.int64}


@dataclass(frozen=True)
class SiteSpec:
    """What a site will hold: its layers and neurons by number, and the module hooked in each layer."""

    layers: tuple[int, ...]
    neurons: tuple[int, ...]
    hook_names: tuple[str, ...]
    dtype: str

    @property
    def itemsize(self) -> int:
        """Bytes of one activation."""
        return np.dtype(self.dtype).itemsize


class RecordingWriter:
    """An open recording that takes one unit at a time.

    Attributes
    ----------
    location
        Where it is.
    units
        The prompts of each unit.
    attrs
        The root attributes: schema version and provenance.
    """

    def __init__(self, location: Location) -> None:
        self.location = location
        self.group = location.group(read_only=False)
        self.attrs: dict[str, Any] = dict(self.group.attrs)
        if self.attrs.get("kind") != "recording":
            raise InputError(f"{location} holds something else than a recording; choose another path")
        recorded = self._array("recorded")
        self.units = Layout(recorded.chunks[0], (0,) * 4, (0,) * 4).units(recorded.shape[0])
        # Listed once: the arrays never change, and silencing zarr's warnings is not thread-safe.
        self._unit_arrays = sorted(p for p, a in _arrays(self.group) if _dims(a)[:1] == ("prompt",))

    @classmethod
    def create(
        cls,
        location: Location,
        *,
        labels: pd.DataFrame,
        n_tokens: int,
        sites: Mapping[str, SiteSpec],
        token_variables: tuple[str, ...],
        provenance: Mapping[str, Any],
        paradigm: str = "",
    ) -> "RecordingWriter":
        """Allocate every array of a recording, without a value.

        Parameters
        ----------
        location
            A place that holds nothing yet.
        labels
            One row a prompt; its columns become variables of the root.
        n_tokens
            Length of the token axis.
        sites
            What each site holds.
        token_variables
            The (prompt, token) variables of the schema that will be written.
        provenance
            Kept as the root attribute ``provenance``.
        paradigm
            The YAML text of the paradigm, kept beside the arrays.

        Raises
        ------
        InputError
            There is a recording, a result or any other file at `location`, it cannot be written, or
            there are no prompts.
        """
        if cls.is_allocated(location):
            raise InputError(f"{location} holds a recording already; choose another path or remove it")
        if not location.exists():
            location.check_new()
        if not len(labels):
            raise InputError("a recording needs at least one prompt, got none")
        unit = choose_unit(
            len(labels),
            max(n_tokens * len(s.neurons) * s.itemsize for s in sites.values()),
            sum(n_tokens * len(s.neurons) * len(s.layers) * s.itemsize for s in sites.values()),
        )
        for key in location.keys():  # of an allocation that was interrupted
            location.remove(key)
        attrs = {"kind": "recording", "schema_version": VERSION}
        root = zarr.create_group(location.zarr_store(read_only=False), zarr_format=3, attributes=attrs)
        _create_root(root, labels, n_tokens, token_variables, unit)
        for name, spec in sites.items():
            _create_site(root.create_group(name), spec, len(labels), n_tokens, unit)
        if paradigm:
            location.write("actome/paradigm.yaml", paradigm.encode())
        root.attrs["provenance"] = dict(provenance)  # last: its presence says that all is allocated
        return cls(location)

    @staticmethod
    def is_allocated(location: Location) -> bool:
        """Say whether there is something at a location; an allocation that was interrupted is nothing."""
        if not location.exists():
            return False
        attrs = location.group().attrs
        return attrs.get("kind") != "recording" or "provenance" in attrs

    def _array(self, name: str) -> zarr.Array[Any]:
        array = self.group[name]
        if not isinstance(array, zarr.Array):
            raise InputError(f"{self.location}: {name!r} is not an array")
        return array

    @property
    def sites(self) -> list[str]:
        """The sites, as groups of the root."""
        return sorted(name for name in SITES if name in self.group)

    @property
    def is_final(self) -> bool:
        """Whether the manifest is written and every unit is complete."""
        return bool(self.attrs.get("manifest_digest"))

    def pending(self) -> list[int]:
        """Return the units that are not complete."""
        if self.is_final:
            return []
        recorded = np.asarray(self._array("recorded")[:])
        return [i for i, unit in enumerate(self.units) if not recorded[unit].all()]

    def counts(self) -> dict[str, int]:
        """Add up what was counted while recording, over the units that are complete."""
        total: dict[str, int] = {}
        for key in self.location.keys("actome/units"):
            for name, n in json.loads(self.location.read(key))["counts"].items():
                total[name] = total.get(name, 0) + n
        return total

    def clear_unit(self, i: int) -> None:
        """Remove what an interrupted write left of a unit."""
        for key in self._unit_keys(i):
            self.location.remove(key)
        if self.location.exists(integrity.unit_file(i)):
            self.location.remove(integrity.unit_file(i))

    def write_unit(
        self,
        i: int,
        labels: Mapping[str, npt.NDArray[Any]],
        activations: Mapping[str, npt.NDArray[Any]],
        counts: Mapping[str, int] | None = None,
    ) -> None:
        """Commit one unit.

        Parameters
        ----------
        i
            Number of the unit.
        labels
            Values of the root variables for its prompts: (prompt,) or (prompt, token). The valid
            tokens are those with a ``token_id``; without it, the first ``n_tokens``.
        activations
            Per site, (prompt, token, layer, neuron), NaN on padding.
        counts
            Anything counted while recording, such as clipped values; kept with the digests.

        Raises
        ------
        InputError
            Activations or labels do not have the shape of the unit.
        """
        unit = self.units[i]
        self._check_shapes(i, {**labels, **{f"{s}/activation": a for s, a in activations.items()}})
        for site, values in activations.items():
            self._array(f"{site}/activation")[unit] = values
        for site, values in activations.items():
            valid = _valid(labels, values.shape[1])
            for name, moment in masked_moments(values, valid).items():
                self._array(f"{site}/summary/{name}")[unit] = moment
        for name, column in labels.items():
            self._array(name)[unit] = column
        files = {key: digest_bytes(self.location.read(key)) for key in self._unit_keys(i)}
        content = {"files": files, "counts": dict(counts or {})}
        self.location.write(integrity.unit_file(i), json.dumps(content, indent=1).encode())
        self._array("recorded")[unit] = np.ones(unit.stop - unit.start, dtype=bool)

    def _check_shapes(self, i: int, values: Mapping[str, npt.NDArray[Any]]) -> None:
        """Refuse what zarr would stretch to fit."""
        unit = self.units[i]
        for name, value in values.items():
            expected = (unit.stop - unit.start, *self._array(name).shape[1:])
            if np.shape(value) != expected:
                raise InputError(f"unit {i}: {name} must have shape {expected}, got {np.shape(value)}")

    def _unit_keys(self, i: int) -> list[str]:
        """Keys of the chunks of a unit, in every array along ``prompt``."""
        return [key for path in self._unit_arrays for key in self.location.keys(f"{path}/c/{i}")]

    def finalise(self) -> None:
        """Consolidate the metadata and write the manifest, once every unit is complete.

        Raises
        ------
        InputError
            A unit is not complete.
        """
        if self.is_final:
            return
        if self.pending():
            raise InputError(f"{self.location}: units {self.pending()} are not recorded yet")
        for key in self.location.keys():
            if key.endswith(".partial"):  # a write to the local disk that was cut off
                self.location.remove(key)
        with quiet_zarr():
            zarr.consolidate_metadata(self.location.zarr_store(read_only=False), zarr_format=3)
        self.attrs["manifest_digest"] = integrity.write_manifest(self.location)


def _create(group: zarr.Group, variable: Variable, dtype: Any, shape: tuple[int, ...], **kwargs: Any) -> None:
    kwargs.setdefault("compressors", _COMPRESSORS)
    group.create_array(
        variable.name,
        shape=shape,
        dtype=dtype,
        fill_value=variable.missing,
        dimension_names=variable.dims,
        attributes={"long_name": variable.meaning},
        **kwargs,
    )


def _create_root(
    root: zarr.Group, labels: pd.DataFrame, n_tokens: int, token_variables: tuple[str, ...], unit: int
) -> None:
    known = declared(ROOT)
    for column in dict.fromkeys([*labels.columns, "n_tokens", "recorded"]):
        variable = known.get(column) or _label_variable(column, labels[column].dtype)
        dtype = str if variable.dtypes[0] == "str" else variable.dtypes[0]
        _create(root, variable, dtype, (len(labels),), chunks=(unit,))
    for name in token_variables:
        variable = known[name]
        _create(root, variable, variable.dtypes[0], (len(labels), n_tokens), chunks=(unit, n_tokens))


def _label_variable(column: str, dtype: Any) -> Variable:
    """Declare a further column of the paradigm: a number, a truth value, or text."""
    missing: Any = {"i": -1, "u": 0, "f": float("nan"), "b": False}.get(dtype.kind, "")
    name = "str" if missing == "" else dtype.name
    return Variable(column, ("prompt",), (name,), "label of the paradigm", missing)


def _valid(labels: Mapping[str, npt.NDArray[Any]], n_tokens: int) -> Bool:
    """Which tokens of a unit are real: (prompt, token)."""
    if "token_id" in labels:
        return np.asarray(labels["token_id"] != -1)
    return np.asarray(np.arange(n_tokens) < labels["n_tokens"][:, None])


def _dims(array: zarr.Array[Any]) -> tuple[str | None, ...]:
    return tuple(getattr(array.metadata, "dimension_names", None) or ())


def _create_site(group: zarr.Group, spec: SiteSpec, n_prompts: int, n_tokens: int, unit: int) -> None:
    shape = (n_prompts, n_tokens, len(spec.layers), len(spec.neurons))
    layout = site_layout(unit, n_tokens, len(spec.neurons), spec.itemsize)
    group.create_array(
        "activation",
        shape=shape,
        dtype=spec.dtype,
        chunks=layout.chunk,
        shards=layout.shard,
        compressors=_COMPRESSORS,
        fill_value=float("nan"),
        dimension_names=ACTIVATION_DIMS,
    )
    for name, values in (("layer", spec.layers), ("neuron", spec.neurons)):
        array = group.create_array(
            name, shape=(len(values),), dtype=_COORDINATE[name], dimension_names=(name,), fill_value=-1
        )
        array[:] = np.array(values)
    hooks = group.create_array("hook_name", shape=(shape[2],), dtype=str, dimension_names=("layer",))
    hooks[:] = np.array(spec.hook_names, dtype=object)
    summary = group.create_group("summary")
    neurons = min(layout.shard[3], shape[3])
    for variable in SUMMARY:
        full = (n_prompts,) if variable.dims == ("prompt",) else (n_prompts, *shape[2:])
        chunks = (unit,) if variable.dims == ("prompt",) else (unit, 1, neurons)
        _create(summary, variable, variable.dtypes[0], full, chunks=chunks)


def _arrays(group: zarr.Group, prefix: str = "") -> Iterator[tuple[str, zarr.Array[Any]]]:
    with quiet_zarr():
        members = list(group.members())
    for name, member in members:
        if isinstance(member, zarr.Group):
            yield from _arrays(member, f"{prefix}{name}/")
        else:
            yield f"{prefix}{name}", member


@contextmanager
def quiet_zarr() -> Iterator[None]:
    """Silence two warnings of zarr: on consolidated metadata, and on the folder of our plain files."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Consolidated metadata is currently not part")
        warnings.filterwarnings("ignore", message="Object at actome is not recognized")
        yield
