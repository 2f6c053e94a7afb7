"""Decoding: the same numbers as zarr reads, whatever is asked for; damage is an error."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st
from zarr.codecs import BloscCodec, BytesCodec, Crc32cCodec, GzipCodec, ShardingCodec

import actome
from actome.store.decoding import ShardedArray
from actome.store.encoding import COMPRESSORS, encode_shard
from actome.store.errors import DamagedError
from actome.store.location import Location

SHAPE, SHARD, CHUNK = (11, 9, 3, 20), (4, 12, 1, 12), (4, 4, 1, 4)


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """A sharded array with every kind of gap: edges, inner chunks left out, a shard left out."""
    path = tmp_path_factory.mktemp("decoding") / "a.zarr"
    group = zarr.create_group(path)
    array = group.create_array(
        "x", shape=SHAPE, dtype="float16", chunks=CHUNK, shards=SHARD, compressors=COMPRESSORS,
        fill_value=np.nan,
    )  # fmt: skip
    values = np.random.default_rng(0).standard_normal(SHAPE).astype(np.float16)
    values[:4, 4:] = np.nan
    values[8:, :, 1] = np.nan
    array[:] = values
    return Location.of(path), array, values


def sharded(stored) -> ShardedArray:
    location, array, _ = stored
    return ShardedArray(location, "x", array)


@st.composite
def keys(draw):
    """Whole numbers, slices with any step, and lists with repeats, in any order."""

    def of_axis(n):
        number = st.integers(-n, n - 1)
        return st.one_of(number, st.slices(n), st.lists(number, max_size=6).map(lambda x: np.array(x, int)))

    return tuple(draw(of_axis(n)) for n in SHAPE[: draw(st.integers(0, 4))])


def orthogonal(values, key):
    """What orthogonal indexing means, one axis at a time."""
    for axis in reversed(range(len(key))):
        values = values[(slice(None),) * axis + (key[axis],)]
    return values


@given(key=keys())
def test_sharded_array__reads_what_was_written(stored, key):
    np.testing.assert_array_equal(sharded(stored)[key], orthogonal(stored[2], key), strict=True)


def test_sharded_array__reads_no_more_than_the_chunks_it_needs(stored, monkeypatch):
    read, ranges = [], []
    whole, part = Location.read, Location.read_range
    monkeypatch.setattr(Location, "read", lambda self, key: read.append(key) or whole(self, key))
    monkeypatch.setattr(Location, "read_range", lambda self, *a: ranges.append(part(self, *a)) or ranges[-1])
    sharded(stored)[4:8, :2, 0, [1, 3]]
    assert not read
    assert len(ranges) == 2 and len(ranges[0]) == 3 * 3 * 16 + 4
    assert len(ranges[1]) < 4 * 4 * 4 * 2 + 30
    sharded(stored)[4:8, :, 0]
    assert len(read) == 2  # two shards, each as a whole


@pytest.mark.parametrize(
    ("compressors", "shards", "readable"),
    [
        (COMPRESSORS, SHARD, True),
        ((BloscCodec(cname="zstd", shuffle="shuffle"), Crc32cCodec()), SHARD, True),
        (COMPRESSORS, None, False),
        ((BloscCodec(),), SHARD, False),
        ((GzipCodec(), Crc32cCodec()), SHARD, False),
    ],
)
def test_is_readable__leaves_other_encodings_to_zarr(compressors, shards, readable, tmp_path):
    group = zarr.create_group(tmp_path / "a.zarr")
    array = group.create_array(
        "x", shape=SHAPE, dtype="float32", chunks=CHUNK, shards=shards, compressors=compressors
    )
    assert ShardedArray.is_readable(array) is readable
    if readable:
        array[:] = np.arange(np.prod(SHAPE), dtype=np.float32).reshape(SHAPE)
        ours = ShardedArray(Location.of(tmp_path / "a.zarr"), "x", array)
        np.testing.assert_array_equal(ours[:], array[:], strict=True)


@pytest.mark.parametrize(
    "options",
    [
        {"serializer": ShardingCodec(chunk_shape=CHUNK, codecs=(BytesCodec(endian="big"), *COMPRESSORS))},
        {
            "shards": SHARD,
            "compressors": COMPRESSORS,
            "chunk_key_encoding": {"name": "default", "separator": "."},
        },
        {"shards": SHARD, "compressors": COMPRESSORS, "chunk_key_encoding": {"name": "v2", "separator": "/"}},
    ],
)
def test_is_readable__not_another_order_of_bytes_or_other_names(options, tmp_path):
    group = zarr.create_group(tmp_path / "a.zarr")
    if "serializer" in options:
        options = options | {"chunks": SHARD, "compressors": None}
    else:
        options = options | {"chunks": CHUNK}
    assert not ShardedArray.is_readable(group.create_array("x", shape=SHAPE, dtype="float32", **options))


def test_sharded_array__a_chunk_of_another_size_is_an_error(tiny_path):
    location = Location.of(tiny_path)
    array = zarr.open_group(tiny_path, mode="r")["mlp/activation"]
    small = np.zeros((1, *array.chunks[1:]), array.dtype)
    shard = tiny_path / "mlp/activation/c/0/0/1/0"
    with ThreadPoolExecutor(1) as pool:
        valid = np.ones(small.shape[:2], dtype=bool)
        shape = (small.shape[0], small.shape[1], small.shape[3])
        shard.write_bytes(pool.submit(encode_shard, small[:, :, 0], valid, shape, shape).result())
    with pytest.raises(DamagedError, match="a chunk of another size than its array says"):
        ShardedArray(location, "mlp/activation", array)[:, :, 1]


@pytest.mark.parametrize("offset", [0, 40, -3, -20])
def test_sharded_array__damage_is_an_error(tiny_path, offset):
    shard = tiny_path / "mlp/activation/c/0/0/1/0"
    content = bytearray(shard.read_bytes())
    content[offset] ^= 1
    shard.write_bytes(content)
    ds = actome.open(tiny_path)
    ds["activation"].isel(layer=0).compute()
    with pytest.raises(DamagedError, match=r"mlp/activation/c/0/0/1/0 is damaged.*actome verify"):
        ds["activation"].compute()


def test_sharded_array__a_file_cut_off_is_an_error(tiny_path):
    shard = tiny_path / "mlp/activation/c/0/0/1/0"
    for content in (shard.read_bytes()[:10], b""):
        shard.write_bytes(content)
        with pytest.raises(DamagedError, match="mlp/activation/c/0/0/1/0 is damaged"):
            actome.open(tiny_path)["activation"].compute()
