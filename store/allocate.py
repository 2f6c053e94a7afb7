"""Allocating a recording: every array it will have, whole and without a value, before anything runs."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import zarr

from .encoding import COMPRESSORS
from .errors import InputError
from .layout import AUTOMATIC, Grain, choose_unit, site_layout, summary_chunk
from .location import Location
from .schema import ACTIVATION_DIMS, ROOT, SUMMARY, VERSION, Variable, declared

_COORDINATE = {"layer": np.int64, "neuron": np.int64}
MOMENTS_BYTES = 24  # mean, m2 and mean_abs of one neuron in one prompt


@dataclass(frozen=True)
class SiteSpec:
    """What a site will hold: its layers and neurons by number, and the module hooked in each layer.

    Without its cube, a site holds the moments of each prompt alone.
    """

    layers: tuple[int, ...]
    neurons: tuple[int, ...]
    hook_names: tuple[str, ...]
    dtype: str
    cube: bool = True

    def bytes_per_layer(self, n_tokens: int) -> int:
        """Bytes of one prompt in one layer, before compression: its activations, or else its moments."""
        size = n_tokens * np.dtype(self.dtype).itemsize if self.cube else MOMENTS_BYTES
        return size * len(self.neurons)

    def bytes_per_prompt(self, n_tokens: int) -> int:
        """Bytes of one prompt in all layers, before compression: its activations and its moments."""
        moments = MOMENTS_BYTES * len(self.neurons) if self.cube else 0
        return (self.bytes_per_layer(n_tokens) + moments) * len(self.layers)


def default_unit(n_prompts: int, n_tokens: int, sites: Mapping[str, SiteSpec]) -> int:
    """Return how many prompts make a unit of such a recording, where the user asks for nothing else."""
    return choose_unit(
        n_prompts,
        max(s.bytes_per_layer(n_tokens) for s in sites.values()),
        sum(s.bytes_per_prompt(n_tokens) for s in sites.values()),
    )


def allocate(
    location: Location,
    *,
    labels: pd.DataFrame,
    n_tokens: int,
    sites: Mapping[str, SiteSpec],
    token_variables: tuple[str, ...],
    provenance: Mapping[str, Any],
    paradigm: str = "",
    grain: Grain = AUTOMATIC,
) -> None:
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
    grain
        What is asked of the layout.

    Raises
    ------
    InputError
        There is a recording, a result or any other file at `location`, it cannot be written, or
        there are no prompts.
    """
    if is_allocated(location):
        raise InputError(f"{location} holds a recording already; choose another path or remove it")
    if not location.exists():
        location.check_new()
    if not len(labels):
        raise InputError("a recording needs at least one prompt, got none")
    unit = grain.unit or default_unit(len(labels), n_tokens, sites)
    _empty(location)  # of an allocation that was interrupted
    attrs = {"kind": "recording", "schema_version": VERSION}
    root = zarr.create_group(location.zarr_store(read_only=False), zarr_format=3, attributes=attrs)
    create_columns(root, labels, n_tokens, token_variables, unit)
    for name, spec in sites.items():
        kept = {} if spec.cube else {"keep": "summary"}
        _create_site(root.create_group(name, attributes=kept), spec, len(labels), n_tokens, unit, grain)
    if paradigm:
        location.write("actome/paradigm.yaml", paradigm.encode())
    root.attrs["provenance"] = dict(provenance)  # last: its presence says that all is allocated


def is_allocated(location: Location) -> bool:
    """Say whether there is something at a location; an allocation that was interrupted is nothing."""
    if not location.exists():
        return False
    attrs = location.group().attrs
    return attrs.get("kind") != "recording" or "provenance" in attrs


def discard(location: Location) -> None:
    """Give a recording or a result up, so that another can be written in its place."""
    root = json.loads(location.read("zarr.json"))
    for name in ("provenance", "manifest_digest"):
        root.get("attributes", {}).pop(name, None)
    location.write("zarr.json", json.dumps(root).encode())  # from here on it counts as interrupted
    _empty(location)


def _empty(location: Location) -> None:
    """Remove every file: first what says that prompts are complete, last what says that this is a group.

    The digests go late: they tell a reader of before that a chunk is gone, and not a missing value.
    """
    rank = {"recorded": 0, "actome": 2, "zarr.json": 3}
    for key in sorted(location.keys(), key=lambda key: rank.get(key.partition("/")[0], 1)):
        location.remove(key)


def _create(group: zarr.Group, variable: Variable, dtype: Any, shape: tuple[int, ...], **kwargs: Any) -> None:
    kwargs.setdefault("compressors", COMPRESSORS)
    group.create_array(
        variable.name,
        shape=shape,
        dtype=dtype,
        fill_value=variable.missing,
        dimension_names=variable.dims,
        attributes={"long_name": variable.meaning},
        **kwargs,
    )


def create_columns(
    root: zarr.Group, labels: pd.DataFrame, n_tokens: int, token_variables: tuple[str, ...], unit: int
) -> None:
    """Allocate the variables of the root that it does not have yet."""
    known = declared(ROOT)
    for column in dict.fromkeys([*labels.columns, "n_tokens", "recorded"]):
        if column in root:
            continue
        variable = known.get(column) or _label_variable(column, labels[column].dtype)
        dtype = str if variable.dtypes[0] == "str" else variable.dtypes[0]
        _create(root, variable, dtype, (len(labels),), chunks=(unit,))
    for name in token_variables:
        if name in root:
            continue
        variable = known[name]
        _create(root, variable, variable.dtypes[0], (len(labels), n_tokens), chunks=(unit, n_tokens))


def _label_variable(column: str, dtype: Any) -> Variable:
    """Declare a further column of the paradigm: a number, a truth value, or text."""
    missing: Any = {"i": -1, "u": 0, "f": float("nan"), "b": False}.get(dtype.kind, "")
    name = "str" if missing == "" else dtype.name
    return Variable(column, ("prompt",), (name,), "label of the paradigm", missing)


def _create_site(
    group: zarr.Group, spec: SiteSpec, n_prompts: int, n_tokens: int, unit: int, grain: Grain
) -> None:
    shape = (n_prompts, n_tokens, len(spec.layers), len(spec.neurons))
    if spec.cube:
        layout = site_layout(unit, n_tokens, len(spec.neurons), np.dtype(spec.dtype).itemsize, grain)
        group.create_array(
            "activation",
            shape=shape,
            dtype=spec.dtype,
            chunks=layout.chunk,
            shards=layout.shard,
            compressors=COMPRESSORS,
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
    for variable in SUMMARY:
        full = (n_prompts,) if variable.dims == ("prompt",) else (n_prompts, *shape[2:])
        chunks = (unit,) if variable.dims == ("prompt",) else summary_chunk(unit, *shape[2:])
        _create(summary, variable, variable.dtypes[0], full, chunks=chunks)
