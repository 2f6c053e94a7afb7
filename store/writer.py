"""Writing a recording unit by unit, so that what was recorded stays sound whatever happens.

A unit is committed in this order: shards, summary, labels, the unit's digests, ``recorded``. A
reader takes a prompt only where ``recorded`` says so, and nothing is written after it. Units share
no chunk, so several processes may write different ones.
"""

import json
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import zarr

from .encoding import encode_chunk, encode_shard, encode_text, pad
from .errors import InputError, differences
from .layout import Layout
from .location import Location, quiet_zarr
from .manifest import unit_file, unit_files
from .moments import Bool, masked_moments
from .precision import keeps
from .provenance import digest_bytes
from .schema import SITES
from .sealing import seal


class Cube(Protocol):
    """Activations of a unit (prompt, token, layer, neuron): an array, or what reads the part of a shard."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Its size along each dimension."""

    def __getitem__(self, place: Any, /) -> npt.NDArray[Any]:
        """Return the part at (prompts, tokens, layer, neurons); the layer is a number."""


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
        # Listed once: the arrays never change, and silencing zarr's warnings is not thread-safe.
        self._arrays = dict(_arrays(self.group))
        recorded = self._array("recorded")
        self.units = Layout(recorded.chunks[0], (0,) * 4, (0,) * 4).units(recorded.shape[0])
        self._unit_arrays = {p for p, a in self._arrays.items() if _dims(a)[:1] == ("prompt",)}

    def _array(self, name: str) -> zarr.Array[Any]:
        if name not in self._arrays:
            raise InputError(f"{self.location} has no array {name!r}")
        return self._arrays[name]

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
        for key in unit_files(self.location):
            for name, n in json.loads(self.location.read(key))["counts"].items():
                total[name] = total.get(name, 0) + n
        return total

    def warn_of_losses(self, *, remedy: str, cause: str) -> None:
        """Warn of values that were clipped, with the remedy, and of those not finite, with the cause."""
        counts = self.counts()
        if counts.get("clipped"):
            paths = (f"{site}/activation" for site in self.sites)
            dtypes = sorted({np.dtype(self._array(p).dtype) for p in paths if p in self._arrays}, key=str)
            warnings.warn(
                f"{counts['clipped']} activations of {self.location} are beyond what "
                f"{' or '.join(map(str, dtypes))} holds and are kept as "
                f"{' or '.join(f'{np.finfo(t).max:g}' for t in dtypes)}, the largest; {remedy}",
                stacklevel=4,
            )
        if counts.get("nonfinite"):
            warnings.warn(
                f"{counts['nonfinite']} activations of {self.location} are not finite{cause}", stacklevel=4
            )

    def check_inputs(self, inputs: Mapping[str, Any]) -> None:
        """Refuse to go on with a recording that was made from something else.

        Parameters
        ----------
        inputs
            Everything that decides the numbers, as the provenance keeps it.

        Raises
        ------
        InputError
            It differs from that of the recording; the message names what.
        """
        before = self.attrs.get("provenance", {}).get("inputs", {})
        changed = "; ".join(differences(before, inputs))
        if changed:
            raise InputError(
                f"{self.location} was recorded differently ({changed}); choose another path or remove it"
            )

    def clear_units(self, units: Iterable[int]) -> None:
        """Remove what interrupted writes left of some units."""
        for key in self.unit_keys(units):
            self.location.remove(key)

    def unit_keys(self, units: Iterable[int]) -> list[str]:
        """List the files of some units."""
        numbers = {str(i) for i in units}
        files = {unit_file(int(i)) for i in numbers}

        def belongs(key: str) -> bool:
            path, _, chunk = key.partition("/c/")
            return key in files or (path in self._unit_arrays and chunk.partition("/")[0] in numbers)

        return [key for key in self.location.keys() if belongs(key)]

    def write_unit(
        self,
        i: int,
        labels: Mapping[str, npt.NDArray[Any]],
        activations: Mapping[str, Cube],
        *,
        moments: Mapping[str, Mapping[str, npt.NDArray[Any]]] | None = None,
        counts: Mapping[str, int] | None = None,
        threads: int = 1,
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
            Per site, (prompt, token, layer, neuron), NaN on padding; not for a site without a cube. A
            part is asked for when its shard is written, so that what reads them need not hold them all.
        moments
            Per site, what `masked_moments` gives; computed from the activations when left out.
        counts
            Anything counted while recording, such as clipped values; kept with the digests.
        threads
            Threads that compress.

        Raises
        ------
        InputError
            Activations, moments or labels do not have the shape of the unit, or labels have values that
            the type of their array does not hold.
        """
        self._check_shapes(i, {**labels, **{f"{s}/activation": a for s, a in activations.items()}})
        self._check_types(i, labels)
        if moments is None:
            moments = {
                s: masked_moments(a[:], real_tokens(labels, a.shape[1])) for s, a in activations.items()
            }
        summary = {f"{s}/summary/{name}": m for s, named in moments.items() for name, m in named.items()}
        self._check_shapes(i, summary)
        with ThreadPoolExecutor(threads, "encode") as pool:
            files = self._write_cubes(pool, i, labels, activations)
            files |= self._write_chunks(pool, i, summary)
            files |= self._write_chunks(pool, i, labels)
            content = {"files": files, "counts": dict(counts or {})}
            self.location.write(unit_file(i), json.dumps(content, indent=1).encode())
            unit = self.units[i]
            self._write_chunks(pool, i, {"recorded": np.ones(unit.stop - unit.start, dtype=bool)})

    def _write_cubes(
        self,
        pool: ThreadPoolExecutor,
        i: int,
        labels: Mapping[str, npt.NDArray[Any]],
        activations: Mapping[str, Cube],
    ) -> dict[str, str]:
        """Write the shards of a unit, one task each; return their digests by key."""
        tasks: list[tuple[str, Callable[[], bytes | None]]] = []
        for site, cube in activations.items():
            array, valid = self._array(f"{site}/activation"), real_tokens(labels, cube.shape[1])
            shard, chunk = array.shards or array.chunks, array.chunks
            shapes = ((shard[0], shard[1], shard[3]), (chunk[0], chunk[1], chunk[3]))
            n_shards = (_ceil_divide(cube.shape[1], shard[1]), _ceil_divide(cube.shape[3], shard[3]))
            for layer, t, f in np.ndindex(cube.shape[2], *n_shards):
                tokens = slice(t * shard[1], (t + 1) * shard[1])
                place = (slice(None), tokens, layer, slice(f * shard[3], (f + 1) * shard[3]))
                key = f"{site}/activation/c/{i}/{t}/{layer}/{f}"
                tasks.append((key, partial(_encode_part, cube, place, array, valid[:, tokens], *shapes)))
        return self._write_encoded(pool, tasks)

    def _write_chunks(
        self, pool: ThreadPoolExecutor, i: int, values: Mapping[str, npt.NDArray[Any]]
    ) -> dict[str, str]:
        """Write a unit of arrays that are not sharded; return the digests of the files by key."""
        tasks: list[tuple[str, Callable[[], bytes | None]]] = []
        for name, value in values.items():
            array = self._array(name)
            if array.dtype.kind == "T":
                texts = pad(np.asarray(value, dtype=object), array.chunks, "")
                tasks.append((f"{name}/c/{i}", partial(encode_text, texts)))
                continue
            for place in np.ndindex(*map(_ceil_divide, value.shape[1:], array.chunks[1:])):
                inner = zip(place, array.chunks[1:], strict=True)
                part = value[:, *(slice(k * n, (k + 1) * n) for k, n in inner)]
                chunk = pad(_stored(part, array), array.chunks, array.fill_value)
                tasks.append(("/".join(map(str, (name, "c", i, *place))), partial(encode_chunk, chunk)))
        return self._write_encoded(pool, tasks)

    def _write_encoded(
        self, pool: ThreadPoolExecutor, tasks: Iterable[tuple[str, Callable[[], bytes | None]]]
    ) -> dict[str, str]:
        """Encode and write in the pool; return the digests by key."""

        def write(key: str, encode: Callable[[], bytes | None]) -> dict[str, str]:
            content = encode()
            if content is None:
                return {}
            self.location.write(key, content)
            return {key: digest_bytes(content)}

        written = [pool.submit(write, key, encode) for key, encode in tasks]
        return {key: digest for future in written for key, digest in future.result().items()}

    def _check_shapes(self, i: int, values: Mapping[str, Any]) -> None:
        """Refuse what would not fill the unit, or be stretched to fill it."""
        unit = self.units[i]
        for name, value in values.items():
            expected = (unit.stop - unit.start, *self._array(name).shape[1:])
            if np.shape(value) != expected:
                raise InputError(f"unit {i}: {name} must have shape {expected}, got {np.shape(value)}")

    def _check_types(self, i: int, labels: Mapping[str, npt.NDArray[Any]]) -> None:
        """Refuse labels that their arrays would change."""
        for name, values in labels.items():
            dtype = np.dtype(self._array(name).dtype)
            if dtype.kind != "T" and not keeps(dtype, values):
                raise InputError(
                    f"unit {i}: {name} is stored as {dtype}, which does not hold all of its "
                    f"{values.dtype} values as they are; convert them first"
                )

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
        self.attrs["manifest_digest"] = seal(self.location)


def real_tokens(labels: Mapping[str, npt.NDArray[Any]], n_tokens: int) -> Bool:
    """Which tokens of a unit are real: (prompt, token)."""
    if "token_id" in labels:
        return np.asarray(labels["token_id"] != -1)
    return np.asarray(np.arange(n_tokens) < labels["n_tokens"][:, None])


def _encode_part(
    cube: Cube, place: tuple[Any, ...], array: zarr.Array[Any], valid: Bool, *shapes: tuple[int, int, int]
) -> bytes | None:
    """Read the part of a shard, and make the shard."""
    return encode_shard(_stored(cube[place], array), valid, *shapes)


def _stored(values: npt.NDArray[Any], array: zarr.Array[Any]) -> npt.NDArray[Any]:
    """Values in the type, and the order of bytes, of the store."""
    return np.asarray(values, dtype=np.dtype(array.dtype).newbyteorder("<"))


def _ceil_divide(a: int, b: int) -> int:
    return -(-a // b)


def _dims(array: zarr.Array[Any]) -> tuple[str | None, ...]:
    return tuple(getattr(array.metadata, "dimension_names", None) or ())


def _arrays(group: zarr.Group, prefix: str = "") -> Iterator[tuple[str, zarr.Array[Any]]]:
    with quiet_zarr():
        members = list(group.members())
    for name, member in members:
        if isinstance(member, zarr.Group):
            yield from _arrays(member, f"{prefix}{name}/")
        else:
            yield f"{prefix}{name}", member
