"""Activations of any source become a recording, prompt by prompt and unit by unit."""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from tqdm import tqdm

from ..allocate import SiteSpec, allocate, is_allocated
from ..errors import InputError
from ..location import Location
from ..precision import fit
from ..provenance import digest_json, library_versions, now
from ..schema import SITES
from ..writer import RecordingWriter

_DTYPES = ("float16", "float32")


@dataclass(frozen=True)
class Shown:
    """What a source holds of one prompt, without its padding.

    Attributes
    ----------
    activation
        Per site, (token, layer, neuron).
    token_id
        (token,); None where the source has none.
    """

    activation: Mapping[str, npt.NDArray[Any]]
    token_id: npt.NDArray[Any] | None = None


@dataclass(frozen=True)
class Source:
    """Activations made elsewhere, of known size, read one prompt at a time.

    Attributes
    ----------
    format
        "numpy", "saelens" or "vllm".
    labels
        One row a prompt, as `labels.read_labels` gives it.
    n_tokens
        Length of the token axis.
    sites
        What each site holds, in the type in which it will be stored.
    read
        The prompt of a row.
    digests
        SHA-256 of each file of the source, by its name.
    settings
        What else decides the numbers.
    metadata
        What the source says of itself.
    has_token_ids
        Whether `read` gives token ids.
    libraries
        Versions beyond those that every recording notes.
    """

    format: str
    labels: pd.DataFrame
    n_tokens: int
    sites: Mapping[str, SiteSpec]
    read: Callable[[int], Shown]
    digests: Mapping[str, str]
    settings: Mapping[str, Any]
    metadata: Mapping[str, Any] = field(default_factory=dict)
    has_token_ids: bool = False
    libraries: Mapping[str, str] = field(default_factory=dict)

    def inputs(self) -> dict[str, Any]:
        """Everything that decides the numbers; compared when an import goes on."""
        return {
            "format": self.format,
            "source_digest": digest_json(dict(self.digests)),
            "labels_digest": digest_json(self.labels.to_dict(orient="list")),
            "sites": {site: list(spec.layers) for site, spec in self.sites.items()},
            **self.settings,
        }


def check_target(
    out: str | os.PathLike[str], *, site: str | None = None, dtype: str | None = None
) -> Location:
    """Refuse before any work what would be refused after it; return the place that is written.

    Raises
    ------
    InputError
        The path is taken, and not by an import that was interrupted; the site or the type of the
        store is none.
    """
    if site is not None and site not in SITES:
        raise InputError(f"site must be one of {list(SITES)}, got {site!r}")
    if dtype is not None and dtype not in _DTYPES:
        raise InputError(f"dtype must be one of {list(_DTYPES)} or None, got {dtype!r}")
    location = Location.of(out)
    if not is_allocated(location):
        if not location.exists():
            location.check_new()
    elif RecordingWriter(location).is_final:
        raise InputError(f"{location} holds a recording already; choose another path or remove it")
    return location


def choose_numbers(what: str, numbers: Sequence[int] | None, n: int) -> tuple[int, ...]:
    """Return the numbers given to `n` layers or neurons; 0 to n - 1 where none are given.

    >>> choose_numbers("layers", None, 3)
    (0, 1, 2)
    """
    chosen = tuple(range(n)) if numbers is None else tuple(int(i) for i in numbers)
    if len(chosen) != n or len(set(chosen)) < n or min(chosen, default=0) < 0:
        raise InputError(
            f"{what} must give {n} different numbers from 0 up, as many as the source holds; "
            f"got {list(chosen)}"
        )
    return chosen


def write_recording(source: Source, location: Location) -> str:
    """Write a source as a recording, one unit in memory at a time.

    An import that was interrupted goes on with the units that are missing. Where the source turns
    out to be wrong on the way, what this call had written is removed.

    Raises
    ------
    InputError
        A real token is NaN in every neuron, or an interrupted import at this place was of something else.

    Warns
    -----
    UserWarning
        Values were clipped to what float16 holds, or are not finite; both stay counted in the recording.
    """
    there = is_allocated(location)
    writer = RecordingWriter(location) if there else _create(source, location)
    writer.check_inputs(source.inputs())
    try:
        _write_units(source, writer)
    except InputError:
        if not there:
            location.fs.rm(location.root, recursive=True)
        raise
    location.write("actome/sources.json", json.dumps(dict(source.digests), indent=1).encode())
    writer.finalise()
    writer.warn_of_losses(remedy="import with dtype='float32' to keep them", cause=", as in the source")
    return str(location)


def _create(source: Source, location: Location) -> RecordingWriter:
    provenance = {
        "inputs": source.inputs(),
        "source": dict(source.metadata),
        "storage_dtype": ", ".join(sorted({spec.dtype for spec in source.sites.values()})),
        "environment": {**library_versions(), **source.libraries},
        "created": now(),
    }
    allocate(
        location,
        labels=source.labels,
        n_tokens=source.n_tokens,
        sites=source.sites,
        token_variables=("token_id",) if source.has_token_ids else (),
        provenance=provenance,
    )
    return RecordingWriter(location)


def _write_units(source: Source, writer: RecordingWriter) -> None:
    pending = writer.pending()
    n_prompts = sum(writer.units[i].stop - writer.units[i].start for i in pending)
    writer.clear_units(pending)
    with tqdm(total=n_prompts, unit="prompt", desc="import", disable=None) as bar:
        for i in pending:
            labels, activations, counts = _read_unit(source, writer.units[i])
            with np.errstate(invalid="ignore"):  # moments over an infinity are NaN, as they should be
                writer.write_unit(i, labels, activations, counts=counts)
            bar.update(writer.units[i].stop - writer.units[i].start)


def _read_unit(
    source: Source, unit: slice
) -> tuple[dict[str, npt.NDArray[Any]], dict[str, npt.NDArray[Any]], dict[str, int]]:
    """Read the prompts of a unit into one slab a site: labels, activations, counts."""
    n = unit.stop - unit.start
    labels = {str(c): source.labels[c].to_numpy()[unit] for c in source.labels}
    labels["n_tokens"] = np.zeros(n, dtype=np.int64)
    if source.has_token_ids:
        labels["token_id"] = np.full((n, source.n_tokens), -1, dtype=np.int32)
    slabs = {
        site: np.full((n, source.n_tokens, len(spec.layers), len(spec.neurons)), np.nan, dtype=spec.dtype)
        for site, spec in source.sites.items()
    }
    counts = {"clipped": 0, "nonfinite": 0}
    for row, number in enumerate(range(unit.start, unit.stop)):
        shown, prompt = source.read(number), source.labels["prompt"].iloc[number]
        for site, slab in slabs.items():
            values = shown.activation[site]
            _check_tokens(values, f"prompt {prompt!r}, site {site!r}")
            labels["n_tokens"][row] = len(values)
            for layer in range(values.shape[1]):  # one at a time: what is converted is copied
                slab[row, : len(values), layer] = fit(values[:, layer], slab.dtype, counts)
        if shown.token_id is not None:
            labels["token_id"][row, : len(shown.token_id)] = shown.token_id
    return labels, slabs, counts


def _check_tokens(values: npt.NDArray[Any], where: str) -> None:
    """Refuse a token without a number: readers would take it for padding."""
    empty = np.flatnonzero(np.isnan(values).all(axis=(1, 2)))
    if len(empty):
        raise InputError(
            f"{where}: token {empty[0]} of {len(values)} is NaN in every neuron; only the tokens after the "
            "last real one may be"
        )
