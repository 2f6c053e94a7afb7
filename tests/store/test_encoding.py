"""Encoding: zarr reads what we write, and would have written the same."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from zarr.storage import MemoryStore

from actome.store.encoding import COMPRESSORS, encode_chunk, encode_shard, encode_text, pad
from actome.store.layout import site_layout

DTYPES = ("float16", "float32", "float64")
SHARD_KEY = "c/0/0/0"


def array_like(shape, shard, chunk, dtype, store=None):
    """An array (prompt, token, neuron), stored as a recording stores its activations."""
    return zarr.create_array(
        MemoryStore({}) if store is None else store, shape=shape, dtype=dtype, chunks=chunk, shards=shard,
        compressors=COMPRESSORS, fill_value=float("nan"), zarr_format=3,
    )  # fmt: skip


def in_a_thread(function, *args):
    """Call it where Blosc uses a single thread, as the writer does."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(function, *args).result()


def put(array, key, content):
    store = array.store_path.store
    store._store_dict[key] = zarr.core.buffer.cpu.Buffer.from_bytes(content)


def taken(array):
    return {key: value.to_bytes() for key, value in array.store_path.store._store_dict.items()}


@st.composite
def shards(draw):
    """Values with NaN padding, which tokens are valid, and shapes of a shard and its chunks."""
    chunk = tuple(draw(st.integers(1, n)) for n in (4, 5, 6))
    n_chunks = (draw(st.integers(1, 4)), draw(st.integers(1, 4)))
    shard = (chunk[0], chunk[1] * n_chunks[0], chunk[2] * n_chunks[1])
    shape = tuple(draw(st.integers(1, n)) for n in shard)
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    kind = draw(st.sampled_from(["first tokens", "any tokens", "few"]))
    lengths = rng.integers(0, shape[1] + 1, shape[0])[:, None]
    valid = {
        "first tokens": np.arange(shape[1]) < lengths,
        "any tokens": rng.random(shape[:2]) < 0.5,
        "few": rng.random(shape[:2]) < 0.05,
    }[kind]
    values = (rng.standard_normal(shape) * 10.0 ** rng.integers(-4, 3, shape)).astype(
        draw(st.sampled_from(DTYPES))
    )
    values[rng.random(shape) < 0.1] = -0.0
    values[~valid] = np.nan
    return values, valid, shard, chunk


@settings(max_examples=60)
@given(shards())
def test_encode_shard__zarr_reads_the_values(case):
    values, valid, shard, chunk = case
    array = array_like(values.shape, shard, chunk, values.dtype)
    content = in_a_thread(encode_shard, values, valid, shard, chunk)
    assert (content is None) == (not valid.any())
    if content is not None:
        put(array, SHARD_KEY, content)
    np.testing.assert_array_equal(array[:], values)
    assert (np.signbit(array[:]) == np.signbit(values))[valid].all()  # also of zeros
    rows = np.flatnonzero(valid.any(axis=0))
    for t in rows[:2]:
        np.testing.assert_array_equal(array[:, t, -1], values[:, t, -1])


@settings(max_examples=60)
@given(shards())
def test_encode_shard__are_the_bytes_of_zarr_itself_with_one_chunk_of_tokens(case):
    values, valid, shard, chunk = case
    values, valid, shard = values[:, : chunk[1]], valid[:, : chunk[1]], (shard[0], chunk[1], shard[2])
    array = array_like(values.shape, shard, chunk, values.dtype)
    array[:] = values
    content = in_a_thread(encode_shard, values, valid, shard, chunk)
    assert taken(array).get(SHARD_KEY) == content


@given(shards())
def test_encode_shard__holds_no_chunk_without_a_valid_token(case):
    values, valid, shard, chunk = case
    content = in_a_thread(encode_shard, values, valid, shard, chunk)
    if content is None:
        return
    n = (shard[1] // chunk[1], shard[2] // chunk[2])
    index = np.frombuffer(content[-4 - 16 * n[0] * n[1] : -4], dtype="<u8").reshape(*n, 2)
    for t, f in np.ndindex(n):
        tokens = slice(t * chunk[1], (t + 1) * chunk[1])
        there = valid[:, tokens].any() and f * chunk[2] < values.shape[2]
        assert (index[t, f] != np.iinfo(np.uint64).max).all() == there
    assert index[..., 1][index[..., 1] != np.iinfo(np.uint64).max].sum() == len(content) - 4 - index.nbytes


def test_encode_shard__equal_values_give_equal_bytes_from_any_thread(rng):
    values = rng.standard_normal((32, 128, 512)).astype(np.float32)
    valid = np.ones((32, 128), dtype=bool)
    layout = site_layout(32, 128, 512, 4)
    shapes = tuple((s[0], s[1], s[3]) for s in (layout.shard, layout.chunk))
    with ThreadPoolExecutor(3) as pool:
        contents = set(pool.map(lambda _: encode_shard(values, valid, *shapes), range(4)))
    strided = np.moveaxis(np.ascontiguousarray(np.moveaxis(values, 2, 0)), 0, 2)
    contents.add(in_a_thread(encode_shard, strided, valid, *shapes))
    assert len(contents) == 1


@pytest.mark.parametrize("place", [0, 40, -1, -3, -10, -40])
def test_encode_shard__a_damaged_byte_is_noticed_by_zarr(rng, place):
    values = rng.standard_normal((2, 6, 8)).astype(np.float32)
    content = bytearray(encode_shard(values, np.ones((2, 6), dtype=bool), (2, 6, 8), (2, 3, 4)))
    content[place] ^= 0x10
    array = array_like((2, 6, 8), (2, 6, 8), (2, 3, 4), "float32")
    put(array, SHARD_KEY, bytes(content))
    with pytest.raises(ValueError, match="checksum"):
        array[:]


@pytest.mark.parametrize("dtype", [*DTYPES, "int32", "int64", "uint8", "bool"])
@pytest.mark.parametrize("shape", [(5,), (3, 4), (2, 3, 4)])
def test_encode_chunk__are_the_bytes_of_zarr_itself(rng, dtype, shape):
    values = rng.integers(0, 2, shape).astype(dtype)
    values.flat[0] = 1
    store = MemoryStore({})
    array = zarr.create_array(
        store, shape=shape, chunks=shape, dtype=dtype, compressors=COMPRESSORS, fill_value=0, zarr_format=3
    )
    array[:] = values
    assert taken(array)["/".join(["c", *"0" * len(shape)])] == in_a_thread(encode_chunk, values)
    put(array, "/".join(["c", *"0" * len(shape)]), in_a_thread(encode_chunk, values[::-1]))
    np.testing.assert_array_equal(array[:], values[::-1])


def test_pad__fills_the_edge_with_what_stands_for_missing():
    padded = pad(np.ones((1, 2), dtype=np.int32), (2, 3), -1)
    assert padded.tolist() == [[1, 1, -1], [-1, -1, -1]] and padded.dtype == np.int32
    whole = np.ones((2, 3))
    assert pad(whole, (2, 3), np.nan) is whole


def test_encode_text__are_the_bytes_of_zarr_itself(tmp_path):
    values = np.array(["a", "", "\N{HIRAGANA LETTER A} \N{GRINNING FACE}", "x" * 500], dtype=object)
    array = zarr.create_array(tmp_path, shape=(4,), chunks=(4,), dtype=str, compressors=COMPRESSORS)
    array[:] = values
    assert (tmp_path / "c/0").read_bytes() == in_a_thread(encode_text, values)
