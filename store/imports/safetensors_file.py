"""Reading safetensors files without the library: it needs a framework for bfloat16, and this room has none.

A file is the length of its header (8 bytes, little-endian), the header (JSON: name -> type, shape,
place of the bytes), and the bytes. The layout is that of safetensors 0.8.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pydantic

from ..errors import InputError, MissingFileError
from ..yaml import describe

_DTYPES = {"F16": "<f2", "F32": "<f4", "F64": "<f8", "BF16": "<u2", "I32": "<i4", "I64": "<i8"}
_MAX_HEADER = 100_000_000  # the library's own limit
_BFLOAT16_INFINITY = 0x7F80
_FLOAT16_MAX_IN_BFLOAT16 = 0x477F  # 65280, the largest bfloat16 that float16 holds; the next is 65536


class _Entry(pydantic.BaseModel, extra="forbid", frozen=True, strict=True):
    """A tensor, as the header describes it; the offsets count from the header's end."""

    dtype: str
    shape: list[pydantic.NonNegativeInt]
    data_offsets: list[pydantic.NonNegativeInt] = pydantic.Field(min_length=2, max_length=2)


class _Header(pydantic.RootModel[dict[str, _Entry]], strict=True):
    pass


@dataclass(frozen=True)
class TensorFile:
    """A safetensors file whose header has been checked against its length.

    Attributes
    ----------
    path
        The file.
    dtypes, shapes
        Of each tensor, as safetensors names them.
    metadata
        What the file says of itself.
    """

    path: Path
    dtypes: Mapping[str, str]
    shapes: Mapping[str, tuple[int, ...]]
    metadata: Mapping[str, str]
    _first_byte: Mapping[str, int]

    @classmethod
    def open(cls, path: Path) -> "TensorFile":
        """Read and check the header.

        Raises
        ------
        MissingFileError, InputError
            There is no such file; it is cut off, or is no safetensors file.
        """
        if not path.is_file():
            raise MissingFileError(f"there is no safetensors file at {path}")
        header, start = _read_header(path)
        metadata = header.pop("__metadata__", {})
        try:
            entries = _Header.model_validate(header).root
        except pydantic.ValidationError as error:
            raise InputError(f"{path} is no safetensors file: {describe(error)}") from error
        n_bytes = path.stat().st_size - start
        for name, entry in entries.items():
            first, last = entry.data_offsets
            if last > n_bytes:
                raise InputError(
                    f"{path} is cut off: {name!r} ends at byte {last} of {n_bytes}; copy or write it again"
                )
            if entry.dtype in _DTYPES and last - first != _itemsize(entry.dtype) * math.prod(entry.shape):
                raise InputError(
                    f"{path} is damaged: the {last - first} bytes of {name!r} are not those of {entry.shape}"
                )
        return cls(
            path,
            {name: entry.dtype for name, entry in entries.items()},
            {name: tuple(entry.shape) for name, entry in entries.items()},
            metadata if isinstance(metadata, dict) else {},
            {name: start + entry.data_offsets[0] for name, entry in entries.items()},
        )

    def read(self, name: str) -> npt.NDArray[Any]:
        """Return a tensor; bfloat16 as float32, which holds every value of it.

        Raises
        ------
        InputError
            It is of a type that is not read here.
        """
        raw = self._raw(name)
        if self.dtypes[name] == "BF16":
            return (raw.astype(np.uint32) << 16).view(np.float32)  # bfloat16 is the upper half of float32
        return raw.astype(raw.dtype.newbyteorder("="), copy=False)

    def fits_float16(self, name: str) -> bool:
        """Say whether every finite value of a bfloat16 tensor lies within float16's range."""
        magnitude = self._raw(name) & 0x7FFF
        return not bool(((magnitude > _FLOAT16_MAX_IN_BFLOAT16) & (magnitude < _BFLOAT16_INFINITY)).any())

    def _raw(self, name: str) -> npt.NDArray[Any]:
        if self.dtypes[name] not in _DTYPES:
            raise InputError(
                f"{self.path}: {name!r} is of type {self.dtypes[name]}; {list(_DTYPES)} can be read"
            )
        dtype, shape = np.dtype(_DTYPES[self.dtypes[name]]), self.shapes[name]
        return np.fromfile(self.path, dtype, math.prod(shape), offset=self._first_byte[name]).reshape(shape)


def _itemsize(dtype: str) -> int:
    return np.dtype(_DTYPES[dtype]).itemsize


def _read_header(path: Path) -> tuple[dict[str, Any], int]:
    """Return the header, and how many bytes it and its length take."""
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > min(size - 8, _MAX_HEADER):
            raise InputError(f"{path} is cut off or no safetensors file: its {size} bytes hold no header")
        content = file.read(length)
    try:
        header = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is no safetensors file: its header is not JSON: {error}") from error
    if not isinstance(header, dict):
        raise InputError(f"{path} is no safetensors file: its header is no mapping")
    return header, 8 + length
