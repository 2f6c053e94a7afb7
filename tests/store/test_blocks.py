import threading
from concurrent.futures import ThreadPoolExecutor

import dask.array as da
import numpy as np
import pytest
import xarray as xr
from dask.delayed import delayed
from hypothesis import given, settings
from hypothesis import strategies as st
from threadpoolctl import threadpool_info, threadpool_limits

from actome.store import blocks
from actome.store.archive import open as open_recording
from actome.store.archive import save
from actome.store.errors import InputError, InputTypeError
from actome.store.moments import masked_moments

from ..strategies import chunkings, recordings

MOMENTS = ("mean", "m2", "mean_abs")


def assert_same_moments(a: xr.Dataset, b: xr.Dataset) -> None:
    assert a["count"].to_numpy().tolist() == b["count"].to_numpy().tolist()
    for name in MOMENTS:
        assert a[name].dims == ("prompt", "layer", "neuron")
        assert a[name].dtype == np.float64
        np.testing.assert_allclose(
            a[name].to_numpy(), b[name].to_numpy(), rtol=1e-9, atol=1e-18, err_msg=name
        )


def reference(ds: xr.Dataset) -> xr.Dataset:
    """The moments by xarray's own reductions over the tokens that are not NaN."""
    x = ds["activation"].transpose("prompt", "token", "layer", "neuron").compute().astype(np.float64)
    count = x.notnull().any(("layer", "neuron")).sum("token")
    moments = {"mean": x.mean("token"), "m2": ((x - x.mean("token")) ** 2).sum("token", min_count=1)}
    return xr.Dataset(moments | {"mean_abs": abs(x).mean("token"), "count": count})


@given(st.data())
def test_prompt_level__is_independent_of_chunking(data):
    ds = data.draw(recordings())
    assert_same_moments(blocks.prompt_level(ds.chunk(data.draw(chunkings(ds)))), reference(ds))


@settings(max_examples=8)
@given(recordings())
def test_prompt_level__stored_summary_equals_the_cube(tmp_path_factory, ds):
    path = save(ds, tmp_path_factory.mktemp("r") / "r.zarr")
    stored = blocks.prompt_level(open_recording(path, level="prompt"))
    assert_same_moments(stored, blocks.prompt_level(open_recording(path)))
    assert_same_moments(stored, reference(ds))


def test_prompt_level__is_lazy(tiny, raise_if_computes):
    lazy = tiny.assign(activation=tiny["activation"].chunk(prompt=2, layer=1))
    with raise_if_computes():
        out = blocks.prompt_level(lazy)
    assert all(out[name].chunks == ((2,) * 6, (1, 1), (6,)) for name in MOMENTS)
    assert out["count"].chunks is None
    assert set(out["mean"].coords) >= {"condition", "run"}
    assert "token" not in out.dims


def test_prompt_level__does_not_read_the_cube(tiny_path):
    def read(block):
        raise AssertionError("the cube was read")

    ds = open_recording(tiny_path)
    ds["activation"] = ds["activation"].copy(data=ds["activation"].data.map_blocks(read, meta=np.empty(0)))
    out = blocks.prompt_level(ds)
    with pytest.raises(AssertionError, match="the cube was read"):
        out["mean"].compute()


def test_prompt_level__summaries_are_taken_as_they_are(tiny_path):
    ds = open_recording(tiny_path, level="prompt")
    doubled = ds.assign(mean=ds["mean"] * 2).transpose()
    out = blocks.prompt_level(doubled)
    np.testing.assert_array_equal(out["mean"].to_numpy(), 2 * ds["mean"].to_numpy())
    assert out["mean"].dims == ("prompt", "layer", "neuron")


@pytest.mark.parametrize(
    "change",
    [
        lambda ds: ds.isel(token=slice(0, 2)),
        lambda ds: ds.isel(token=slice(1, None)),
        lambda ds: ds.isel(prompt=[7, 2, 3]),
        lambda ds: ds.isel(layer=[1]),
        lambda ds: ds.isel(neuron=slice(None, None, -2)),
        lambda ds: ds.transpose("neuron", "token", "layer", "prompt"),
        lambda ds: ds.compute(),
        lambda ds: ds.assign(activation=ds["activation"] * 3),
        lambda ds: ds.chunk(token=2, neuron=4),
        lambda ds: ds.drop_vars("token_id"),
    ],
)
def test_prompt_level__what_the_user_made_is_what_is_analysed(tiny_path, change):
    ds = change(open_recording(tiny_path))
    assert_same_moments(blocks.prompt_level(ds), reference(ds))


@pytest.mark.parametrize("lazy", [True, False])
def test_prompt_level__masked_tokens_need_their_token_id_masked(tiny, lazy):
    keep = xr.DataArray([True, False, True, True, True], dims="token")
    masked = tiny.where(keep)[["activation"]].assign_coords(tiny.coords)
    masked = masked.chunk(prompt=5) if lazy else masked
    with pytest.raises(
        InputError, match="valid is NaN in every neuron; if it was masked on purpose, set its token_id"
    ):
        blocks.prompt_level(masked).compute()
    masked["token_id"] = masked["token_id"].where(keep, np.int32(-1))
    assert_same_moments(blocks.prompt_level(masked), reference(masked))


def test_level_of__says_which(tiny, tiny_path):
    assert blocks.level_of(tiny) == "token"
    assert blocks.level_of(open_recording(tiny_path, level="prompt")) == "prompt"


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda ds: ds["activation"], InputTypeError, "expected a Dataset from actome.open, got DataArray"),
        (lambda ds: ds.isel(layer=0), InputError, r"must have dims .*'layer'.*select with a list or a slice"),
        (lambda ds: ds[["true_effect"]], InputError, r"neither 'activation' nor .*it has \['true_effect'\]"),
    ],
)
def test_level_of__bad_input(tiny, change, error, message):
    with pytest.raises(error, match=message):
        blocks.level_of(change(tiny))


@given(recordings(labels=True))
def test_valid_tokens__token_id_and_padding_agree(ds):
    from_padding = blocks.valid_tokens(ds.drop_vars("token_id"))
    np.testing.assert_array_equal(blocks.valid_tokens(ds), from_padding)
    np.testing.assert_array_equal(blocks.valid_tokens(ds.transpose()), from_padding)


def test_activation_array__is_whole_along_tokens_and_lazy(tiny, raise_if_computes):
    with raise_if_computes():
        for ds in (tiny, tiny.chunk(prompt=5, token=1, neuron=4), tiny.transpose()):
            array = blocks.activation_array(ds)
            assert isinstance(array, da.Array)
            assert array.shape == (12, 5, 2, 6)
            assert array.numblocks[1] == 1
    np.testing.assert_array_equal(array.compute(), tiny["activation"].to_numpy())


def test_valid_rows__keeps_a_token_with_some_neurons_missing():
    prompt = np.ones((3, 1, 2))
    prompt[0, 0, 0] = np.nan
    assert blocks.valid_rows(prompt, np.array([True, False, True])).shape == (2, 1, 2)


@pytest.mark.parametrize("n", [1, 2, 7, 8, 9, 63, 64, 65, 130])
def test_tree_reduce__equals_a_plain_reduction(n):
    parts = [delayed([i]) for i in range(n)]
    widths = []

    def combine(results):
        widths.append(len(results))
        return [x for result in results for x in result]

    assert blocks.tree_reduce(parts, combine).compute(scheduler="sync") == list(range(n))
    assert max(widths, default=1) <= 8


def test_tree_reduce__computes_nothing(raise_if_computes):
    with raise_if_computes():
        blocks.tree_reduce([delayed(1), delayed(2)], sum)


def test_tree_reduce__an_empty_dataset():
    with pytest.raises(InputError, match="there is nothing to reduce: the Dataset is empty"):
        blocks.tree_reduce([], sum)


def blas_threads() -> list[int]:
    return [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]


def test_one_blas_thread__limits_and_restores_with_concurrent_tasks():
    before = blas_threads()
    assert before
    n, inside, seen = 6, threading.Barrier(6, timeout=20), []
    leaving = [threading.Event() for _ in range(n)]

    def task(i):
        inside.wait()  # all are in
        if i:
            leaving[i - 1].wait(20)  # one after the other goes
        seen.append(blas_threads())
        return i

    limited = blocks.one_blas_thread(task)
    with ThreadPoolExecutor(n) as pool:
        futures = [pool.submit(limited, i) for i in range(n)]
        for i, future in enumerate(futures):
            assert future.result(timeout=20) == i
            leaving[i].set()
    assert seen == [[1] * len(before)] * n
    assert blas_threads() == before


def test_one_blas_thread__limits_although_another_thread_set_a_limit_before():
    before = blas_threads()
    with threadpool_limits(limits=2, user_api="blas"), ThreadPoolExecutor(1) as pool:
        inside = pool.submit(blocks.one_blas_thread(blas_threads)).result()
        assert inside == [1] * len(before)
        assert blas_threads() == [2] * len(before)
    assert blas_threads() == before


def test_one_blas_thread__restores_after_an_error():
    before = blas_threads()
    with pytest.raises(ZeroDivisionError):
        blocks.one_blas_thread(lambda: 1 / 0)()
    assert blas_threads() == before


def test_one_blas_thread__passes_arguments():
    assert blocks.one_blas_thread(lambda a, *, b: (a, b))(1, b=2) == (1, 2)


def test_prompt_level__runs_on_a_distributed_cluster(tiny, tiny_path):
    distributed = pytest.importorskip("distributed")
    cluster = distributed.LocalCluster(
        n_workers=1, threads_per_worker=2, processes=False, dashboard_address=None, protocol="inproc"
    )
    with cluster, distributed.Client(cluster):
        ds = open_recording(tiny_path)
        assert_same_moments(blocks.prompt_level(ds).compute(), reference(tiny))
        parts = [delayed(np.full)(2, i) for i in range(10)]
        assert blocks.tree_reduce(parts, sum_of).compute().tolist() == [45, 45]


def sum_of(results):
    return np.sum(results, axis=0)


def test_block_moments__are_those_of_the_kernel(tiny):
    cube, valid = tiny["activation"].to_numpy(), blocks.valid_tokens(tiny)
    out = blocks.prompt_level(tiny)
    for name in MOMENTS:
        np.testing.assert_array_equal(out[name].to_numpy(), masked_moments(cube, valid)[name])
