"""From the bytes of a shard to an array: the reading side of `encoding`.

zarr reads the same shards, but copies every value three times on the way and starts a task for each
inner chunk. Analyses go through all of them, so they are decoded here in one pass; an array that
was encoded in another way is left to zarr.

References
----------
.. [1] Zarr v3 core specification, codecs ``sharding_indexed``, ``blosc`` and ``crc32c``.
"""

import itertools
import math
from typing import Any

import google_crc32c
import numpy as np
import numpy.typing as npt
import zarr
from numcodecs import blosc
from zarr.codecs import BloscCodec, BytesCodec, Crc32cCodec, Endian, ShardingCodec
from zarr.core.chunk_key_encodings import DefaultChunkKeyEncoding

from .errors import DamagedError
from .location import Location

_ABSENT = np.iinfo(np.uint64).max  # offset and length of an inner chunk that holds no value
_CHECKSUM_BYTES = 4
_BLOSC_SIZE = slice(4, 8)  # where the header of a Blosc buffer says how many bytes it expands to

Bytes = npt.NDArray[np.uint8]
Axis = list[tuple[int, slice, npt.NDArray[np.int64]]]  # block, its place in the output, what is taken of it


class ShardedArray:
    """An array of a group, read by orthogonal indexing; what Dask takes its chunks from.

    Parameters
    ----------
    location
        The group.
    name
        Path of the array in it.
    array
        As zarr opened it; one that `is_readable`.
    """

    def __init__(self, location: Location, name: str, array: zarr.Array[Any]) -> None:
        self.shape, self.dtype, self.ndim = array.shape, np.dtype(array.dtype), array.ndim
        self.shards, self.chunks = array.shards or array.chunks, array.chunks
        self._location, self._name = location, name
        self._grid = tuple(s // c for s, c in zip(self.shards, self.chunks, strict=True))
        self._missing = array.fill_value

    @staticmethod
    def is_readable(array: zarr.Array[Any]) -> bool:
        """Say whether an array is sharded as `encoding` does it, whatever the settings of Blosc."""
        codecs: tuple[Any, ...] = getattr(array.metadata, "codecs", ())
        if len(codecs) != 1 or not isinstance(codecs[0], ShardingCodec):
            return False
        sharding = codecs[0]
        numbers = (sharding.codecs[0], sharding.index_codecs[0]) if sharding.codecs else ()
        return (
            getattr(array.metadata, "chunk_key_encoding", None) == DefaultChunkKeyEncoding()
            and all(getattr(codec, "endian", None) == Endian.little for codec in numbers)
            and [type(codec) for codec in sharding.codecs] == [BytesCodec, BloscCodec, Crc32cCodec]
            and [type(codec) for codec in sharding.index_codecs] == [BytesCodec, Crc32cCodec]
            and getattr(sharding.index_location, "value", sharding.index_location)
            == "end"  # text in zarr 3.4
        )

    def __getitem__(self, key: Any) -> npt.NDArray[Any]:
        """Read whole numbers, slices or arrays of numbers, each along an axis of its own.

        Raises
        ------
        DamagedError
            The checksum of a chunk that is read does not match its bytes.
        """
        keys = key if isinstance(key, tuple) else (key,)
        keys = (*keys, *[slice(None)] * (self.ndim - len(keys)))
        indices = [np.atleast_1d(np.arange(n)[k]) for n, k in zip(self.shape, keys, strict=True)]
        out = np.empty(tuple(map(len, indices)), dtype=self.dtype)
        axes = [_by_block(i, n) for i, n in zip(indices, self.shards, strict=True)]
        for place in itertools.product(*axes):
            target = tuple(to for _, to, _ in place)
            self._read_shard(tuple(block for block, _, _ in place), [x for _, _, x in place], out[target])
        return out[tuple(0 if isinstance(k, (int, np.integer)) else slice(None) for k in keys)]

    def _read_shard(
        self, shard: tuple[int, ...], indices: list[npt.NDArray[np.int64]], out: npt.NDArray[Any]
    ) -> None:
        """Read some places of one shard into a view of the output."""
        key = "/".join(map(str, (self._name, "c", *shard)))
        axes = [
            [(block, to, _as_slice(x)) for block, to, x in _by_block(i, n)]
            for i, n in zip(indices, self.chunks, strict=True)
        ]
        content = _Shard(self._location, key, self._grid, n_needed=math.prod(map(len, axes)))
        buffer = np.empty(self.chunks, dtype=self.dtype.newbyteorder("<"))
        for place in itertools.product(*axes):
            target = tuple(to for _, to, _ in place)
            encoded = content.chunk(tuple(block for block, _, _ in place))
            if encoded is None:
                out[target] = self._missing
                continue
            self._decompress(encoded, buffer, key)
            out[target] = buffer[_window([x for _, _, x in place])]

    def _decompress(self, encoded: Bytes, buffer: npt.NDArray[Any], key: str) -> None:
        n_bytes = int.from_bytes(encoded[_BLOSC_SIZE].tobytes(), "little")
        if n_bytes != buffer.nbytes:  # fewer would leave what was there before
            raise DamagedError(f"{self._location}: {key} holds a chunk of another size than its array says")
        blosc.decompress(encoded, buffer)


class _Shard:
    """The inner chunks of one shard, read as a whole or one by one."""

    def __init__(self, location: Location, key: str, grid: tuple[int, ...], *, n_needed: int) -> None:
        self._location, self._key = location, key
        n_bytes = 16 * math.prod(grid) + _CHECKSUM_BYTES
        self._whole = 2 * n_needed >= math.prod(grid)
        try:
            content = location.read(key) if self._whole else location.read_range(key, -n_bytes)
        except FileNotFoundError:
            self._index = np.full((*grid, 2), _ABSENT, dtype="<u8")  # nothing valid in it
            return
        self._content = np.frombuffer(content, dtype=np.uint8)
        self._index = self._checked(self._content[-n_bytes:]).view("<u8").reshape(*grid, 2)

    def chunk(self, place: tuple[int, ...]) -> Bytes | None:
        """Return the compressed bytes of an inner chunk; None where it was left out."""
        offset, length = map(int, self._index[place])
        if offset == _ABSENT:
            return None
        if self._whole:
            return self._checked(self._content[offset : offset + length])
        content = self._location.read_range(self._key, offset, offset + length)
        return self._checked(np.frombuffer(content, dtype=np.uint8))

    def _checked(self, content: Bytes) -> Bytes:
        """Compare the checksum at the end with what comes before it, and cut it off."""
        body, checksum = content[:-_CHECKSUM_BYTES], content[-_CHECKSUM_BYTES:]
        if not len(body) or google_crc32c.value(body) != int.from_bytes(checksum.tobytes(), "little"):
            raise DamagedError(
                f"{self._location}: {self._key} is damaged: a checksum does not match; "
                "`actome verify` names all that is"
            )
        return body


def _by_block(index: npt.NDArray[np.int64], size: int) -> Axis:
    """Group numbers along one axis by the block they lie in, in runs of the order given."""
    edges = np.flatnonzero(np.diff(index // size)) + 1
    axis: Axis = []
    for a, b in itertools.pairwise([0, *edges.tolist(), len(index)]):
        if b > a:
            block = int(index[a]) // size
            axis.append((block, slice(a, b), index[a:b] - block * size))
    return axis


def _as_slice(index: npt.NDArray[np.int64]) -> slice | npt.NDArray[np.int64]:
    """Return a slice for numbers that follow one another: NumPy takes it without a copy."""
    return slice(int(index[0]), int(index[-1]) + 1) if (np.diff(index) == 1).all() else index


def _window(places: list[slice | npt.NDArray[np.int64]]) -> Any:
    """Index that takes numbers along each axis."""
    if all(isinstance(x, slice) for x in places):
        return tuple(places)
    return np.ix_(*(np.arange(x.start, x.stop) if isinstance(x, slice) else x for x in places))
