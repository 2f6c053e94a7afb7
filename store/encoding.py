"""From an array to the bytes of a Zarr v3 chunk or shard, as the recorder writes them.

zarr writes the same bytes, but spends several times the compression on getting there: it looks for
the fill value in every chunk, and copies each more than once. A recording is written as fast as the
model runs, so it is encoded here in one pass, and its digest is taken from the bytes in hand. What
is read back is decoded by `decoding`, or by any reader of Zarr.

References
----------
.. [1] Zarr v3 core specification, codecs ``sharding_indexed``, ``blosc`` and ``crc32c``.
"""

from typing import Any

import google_crc32c
import numpy as np
import numpy.typing as npt
from numcodecs import VLenUTF8, blosc
from zarr.codecs import BloscCodec, Crc32cCodec

from .moments import Bool

_LEVEL = 5
_ABSENT = np.iinfo(np.uint64).max  # offset and length of an inner chunk that holds no value

COMPRESSORS = (BloscCodec(cname="lz4", clevel=_LEVEL, shuffle="bitshuffle"), Crc32cCodec())


def encode_chunk(values: npt.NDArray[Any]) -> bytes:
    """Compress one chunk and append its checksum: the codecs of `COMPRESSORS`, on one thread.

    Called from the main thread, Blosc would use several and order its blocks by which was first;
    call it from a worker thread, so that equal values give equal bytes.
    """
    return b"".join(_with_checksum(_compress(values)))


def encode_text(values: npt.NDArray[Any]) -> bytes:
    """Make the chunk of an array of text, of any length each."""
    return b"".join(
        _with_checksum(_compress(np.frombuffer(VLenUTF8().encode(values.astype(object)), np.uint8)))
    )


def _compress(values: npt.NDArray[Any]) -> bytes:
    compressed: bytes = blosc.compress(np.ascontiguousarray(values), b"lz4", _LEVEL, blosc.BITSHUFFLE)
    return compressed


def _with_checksum(content: bytes) -> list[bytes]:
    checksum: int = google_crc32c.value(content)
    return [content, checksum.to_bytes(4, "little")]


def encode_shard(
    values: npt.NDArray[Any], valid: Bool, shard: tuple[int, int, int], chunk: tuple[int, int, int]
) -> bytes | None:
    """Make the shard of one unit, one layer and some neurons.

    Parameters
    ----------
    values
        (prompt, token, neuron), at most as large as the shard.
    valid
        (prompt, token): inner chunks without a valid token are left out.
    shard, chunk
        Shapes (prompt, token, neuron); the chunk divides the shard, and holds all its prompts.

    Returns
    -------
    The bytes; None where the shard would hold nothing.
    """
    n_tokens, n_neurons = shard[1] // chunk[1], shard[2] // chunk[2]
    index = np.full((n_tokens, n_neurons, 2), _ABSENT, dtype="<u8")
    parts: list[bytes] = []
    offset = 0
    for t in range(n_tokens):
        tokens = slice(t * chunk[1], (t + 1) * chunk[1])
        if not valid[:, tokens].any():
            continue
        for f in range(n_neurons):
            part = values[:, tokens, f * chunk[2] : (f + 1) * chunk[2]]
            if not part.size:
                continue
            encoded = _with_checksum(_compress(pad(part, chunk, np.nan)))
            index[t, f] = offset, sum(map(len, encoded))
            offset += sum(map(len, encoded))
            parts += encoded
    return b"".join([*parts, *_with_checksum(index.tobytes())]) if parts else None


def pad(values: npt.NDArray[Any], shape: tuple[int, ...], missing: Any) -> npt.NDArray[Any]:
    """Extend values to a shape with what stands for a missing one; a chunk at the edge is stored whole."""
    if values.shape == shape:
        return values
    out = np.full(shape, missing, dtype=values.dtype)
    out[tuple(slice(n) for n in values.shape)] = values
    return out
