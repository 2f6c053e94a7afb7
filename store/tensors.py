"""Values of every weight of a model, one group a tensor, written condition by condition.

A condition is the unit of the archive, as some prompts are of a recording, and is committed in the
same order: the values, the labels, their digests, ``recorded``. A condition is therefore complete
or not there, whatever happens, and what was interrupted goes on with the next one.
"""

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import zarr

from .allocate import discard
from .encoding import COMPRESSORS, encode_chunk, pad
from .errors import InputError, differences
from .location import Location
from .manifest import unit_file
from .provenance import digest_bytes
from .sealing import seal
from .trees import TREE

DIMS = ("condition", "row", "column")
LABELS = {"n_prompts": "int64", "n_tokens": "int64", "loss": "float64"}
_CHUNK_BYTES = 8 * 2**20


@dataclass(frozen=True)
class Tensor:
    """A weight tensor as rows and columns.

    Attributes
    ----------
    name
        As the model names it.
    shape
        (row, column).
    attrs
        What is known of it, kept with its group.
    """

    name: str
    shape: tuple[int, int]
    attrs: Mapping[str, Any] = field(default_factory=dict)

    @property
    def chunk(self) -> tuple[int, int, int]:
        """Stored together: whole rows of one condition."""
        rows = max(1, _CHUNK_BYTES // (4 * max(1, self.shape[1])))
        return 1, min(rows, max(1, self.shape[0])), max(1, self.shape[1])


def allocate_tensors(
    location: Location,
    variable: str,
    conditions: Sequence[str],
    tensors: Iterable[Tensor],
    attrs: Mapping[str, Any],
) -> None:
    """Create every array, whole and without a value: ``variable`` (condition, row, column) of each tensor.

    What an interrupted allocation left is removed first. The attributes come last: their presence says that
    all is allocated.

    Raises
    ------
    InputError
        There is something else.
    """
    if location.exists():
        if location.group().attrs.get("kind") != variable:
            raise InputError(f"{location} holds something else than {variable}; choose another path")
        discard(location)
    store = location.zarr_store(read_only=False)
    root = zarr.create_group(store, zarr_format=3, attributes={"kind": variable})
    names = root.create_array(
        "condition", shape=(len(conditions),), dtype=str, dimension_names=("condition",)
    )
    names[:] = np.array(conditions, dtype=object)
    for name, dtype in {**LABELS, "recorded": "bool"}.items():
        missing: Any = {"i": -1, "f": float("nan"), "b": False}[np.dtype(dtype).kind]
        root.create_array(
            name, shape=(len(conditions),), chunks=(1,), dtype=dtype, fill_value=missing,
            dimension_names=("condition",), compressors=COMPRESSORS,
        )  # fmt: skip
    for tensor in tensors:
        root.create_group(tensor.name, attributes=dict(tensor.attrs)).create_array(
            variable, shape=(len(conditions), *tensor.shape), chunks=tensor.chunk, dtype="float32",
            fill_value=float("nan"), dimension_names=DIMS, compressors=COMPRESSORS,
        )  # fmt: skip
    root.attrs.update({**attrs, TREE: True})


def is_allocated(location: Location) -> bool:
    """Say whether there is something at a location; an allocation that was interrupted is nothing."""
    return location.exists() and TREE in location.group().attrs


class TensorWriter:
    """An archive of tensors that takes one condition at a time.

    Attributes
    ----------
    location
        Where it is.
    attrs
        The attributes of the root.
    """

    def __init__(self, location: Location, variable: str) -> None:
        self.location, self._variable = location, variable
        self._group = location.group(read_only=False)
        self.attrs: dict[str, Any] = self._group.attrs.asdict()

    def check_inputs(self, inputs: Mapping[str, Any]) -> None:
        """Refuse to go on with what was made from something else.

        Raises
        ------
        InputError
            The inputs kept here differ; the message names what.
        """
        before = self.attrs.get("inputs", {})
        if self.attrs.get("kind") != self._variable:
            raise InputError(
                f"{self.location} holds something else than {self._variable}; choose another path"
            )
        changed = "; ".join(differences(before, inputs))
        if changed:
            raise InputError(
                f"{self.location} was made differently ({changed}); choose another path or remove it"
            )

    @property
    def is_final(self) -> bool:
        """Whether the manifest is written."""
        return "manifest_digest" in self.attrs

    def pending(self) -> list[int]:
        """Return the conditions that are not complete."""
        if self.is_final:
            return []
        return np.flatnonzero(~np.asarray(self._array("recorded")[:], dtype=bool)).tolist()

    def write(
        self,
        i: int,
        labels: Mapping[str, float],
        tensors: Iterable[tuple[str, npt.NDArray[np.float32]]],
    ) -> None:
        """Commit one condition.

        Parameters
        ----------
        i
            Number of the condition.
        labels
            A value for each of `LABELS`.
        tensors
            Name and values (row, column) of every tensor; taken one after the other, so that they
            need not all be held.
        """
        files: dict[str, str] = {}
        with ThreadPoolExecutor(min(8, os.cpu_count() or 1), "encode") as pool:
            for name, values in tensors:
                files |= self._write_all(pool, self._chunks(i, name, values))
            files |= self._write_all(
                pool, {f"{name}/c/{i}": np.array([v], dtype=LABELS[name]) for name, v in labels.items()}
            )
            content = {"files": files, "counts": {}}
            self.location.write(unit_file(i), json.dumps(content, indent=1).encode())
            self._write_all(pool, {f"recorded/c/{i}": np.array([True])})

    def _chunks(
        self, i: int, name: str, values: npt.NDArray[np.float32]
    ) -> dict[str, npt.NDArray[np.float32]]:
        """Cut the values of one tensor into chunks, by key."""
        path = f"{name}/{self._variable}"
        _, rows, columns = self._array(path).chunks
        starts = range(0, values.shape[0], rows)
        parts = (pad(values[None, r : r + rows], (1, rows, columns), np.nan) for r in starts)
        return {f"{path}/c/{i}/{r}/0": part for r, part in enumerate(parts)}

    def _write_all(self, pool: ThreadPoolExecutor, chunks: Mapping[str, npt.NDArray[Any]]) -> dict[str, str]:
        """Encode and write in the pool; return the digests by key."""
        return dict(zip(chunks, pool.map(self._write, chunks, chunks.values()), strict=True))

    def _write(self, key: str, values: npt.NDArray[Any]) -> str:
        content = encode_chunk(values)
        self.location.write(key, content)
        return digest_bytes(content)

    def finalise(self) -> None:
        """Consolidate the metadata and write the manifest, once every condition is complete."""
        if self.is_final:
            return
        self.attrs["manifest_digest"] = seal(self.location)

    def _array(self, name: str) -> zarr.Array[Any]:
        array = self._group[name]
        if not isinstance(array, zarr.Array):
            raise InputError(f"{self.location} has no array {name!r}")
        return array
