"""How a recording or a result is cut into files, and what reading a part of it costs."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import zarr

from .location import Location, quiet_zarr

_NEURONS = 3  # that the example of `reads` asks for


@dataclass(frozen=True)
class ArrayLayout:
    """How one array is stored.

    Attributes
    ----------
    name
        Its path in the group.
    dims, shape, dtype
        Its dimensions, their lengths, and the type of its numbers.
    file, chunk
        Shape of what one file holds, and of the compressed chunks inside it; the same where a file
        is one chunk.
    itemsize
        Bytes of one number.
    """

    name: str
    dims: tuple[str, ...]
    shape: tuple[int, ...]
    dtype: str
    file: tuple[int, ...]
    chunk: tuple[int, ...]
    itemsize: int

    @property
    def n_files(self) -> int:
        """Files of the whole array, those of padding alone included."""
        return math.prod(-(-n // c) for n, c in zip(self.shape, self.file, strict=True))

    @property
    def n_bytes(self) -> int:
        """Bytes of its numbers before compression."""
        return math.prod(self.shape) * self.itemsize

    @property
    def file_bytes(self) -> int:
        """Bytes of one file before compression."""
        return math.prod(self.file) * self.itemsize

    @property
    def chunk_bytes(self) -> int:
        """Bytes of one chunk before compression."""
        return math.prod(self.chunk) * self.itemsize

    def cost(self, wanted: Mapping[str, int]) -> tuple[int, int]:
        """Count what must be read for so many neighbours along some dimensions, from the first on.

        Returns
        -------
        The files that are opened, and the bytes that are decoded.

        Examples
        --------
        >>> layout = ArrayLayout("a", ("prompt", "neuron"), (10, 8), "float32", (5, 8), (5, 4), 4)
        >>> layout.cost({"neuron": 1})
        (2, 160)
        """
        counts = [wanted.get(d, n) for d, n in zip(self.dims, self.shape, strict=True)]
        files = math.prod(-(-n // c) for n, c in zip(counts, self.file, strict=True))
        chunks = math.prod(-(-n // c) for n, c in zip(counts, self.chunk, strict=True))
        return files, chunks * self.chunk_bytes

    def reads(self) -> dict[str, tuple[int, int]]:
        """Return the cost of usual reads: one prompt, one layer, three neurons of it, everything."""
        asked: dict[str, dict[str, int]] = {
            "one prompt": {"prompt": 1},
            "one layer": {"layer": 1},
            f"{_NEURONS} neurons of a layer": {"layer": 1, "neuron": _NEURONS},
            "all of it": {},
        }
        return {what: self.cost(wanted) for what, wanted in asked.items() if wanted.keys() <= set(self.dims)}

    def summary(self) -> dict[str, Any]:
        """Return all of it as plain data; sizes in bytes before compression."""
        return {
            **asdict(self),
            "n_files": self.n_files,
            "bytes": self.n_bytes,
            "file_bytes": self.file_bytes,
            "chunk_bytes": self.chunk_bytes,
            "reads": {what: {"files": n, "bytes": size} for what, (n, size) in self.reads().items()},
        }


def array_layouts(location: Location) -> list[ArrayLayout]:
    """Return the layout of every array of several dimensions, by name.

    Raises
    ------
    MissingFileError
        There is nothing at the location.
    """
    group = location.group()
    with quiet_zarr():
        members = sorted(group.members(max_depth=None))
    return [_layout(name, a) for name, a in members if isinstance(a, zarr.Array) and a.ndim > 1]


def _layout(name: str, array: zarr.Array[Any]) -> ArrayLayout:
    names = getattr(array.metadata, "dimension_names", None) or (None,) * array.ndim
    return ArrayLayout(
        name,
        tuple(f"axis {i}" if d is None else str(d) for i, d in enumerate(names)),
        array.shape,
        str(array.dtype),
        array.shards or array.chunks,
        array.chunks,
        array.dtype.itemsize,
    )
