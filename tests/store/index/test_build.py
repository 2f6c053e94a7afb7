"""Building the index: it says what the cube holds, changes nothing else, and is missed when stale."""

import dask
import numpy as np
import pandas as pd
import pytest
import zarr

import actome
from actome.store.archive import save
from actome.store.errors import InputError, MissingFileError
from actome.store.index.build import K, build_index, index_of, is_current
from actome.store.index.quantiles import LEVELS
from actome.store.location import Location
from actome.store.phantom import phantom
from actome.store.schema import INDEX


@pytest.fixture(scope="module")
def indexed(tmp_path_factory):
    ds = phantom(n_prompts=9, n_tokens=(2, 9), n_layers=3, n_neurons=300, dtype=np.float16, seed=4)
    path = save(ds, tmp_path_factory.mktemp("index") / "r.zarr")
    return ds, build_index(path)


def index_group(path) -> zarr.Group:
    return index_of(Location.of(path)).group()["mlp"]


def test_build_index__holds_the_extremes_and_quantiles_of_every_neuron(indexed):
    ds, path = indexed
    group = index_group(path)
    cube = ds["activation"].to_numpy()
    valid = ds["token_id"].to_numpy() != -1
    where = np.argwhere(valid)
    rows = cube[valid].astype(np.float64)  # (row, layer, neuron)
    for end, sign in enumerate((1, -1)):
        order = np.argsort(-sign * rows, axis=0, kind="stable")[:K]
        np.testing.assert_array_equal(
            group["extreme_value"][end], np.take_along_axis(rows, order, axis=0), strict=False
        )
        prompt, token = group["extreme_prompt"][end], group["extreme_token"][end]
        layer, neuron = np.indices(rows.shape[1:])
        np.testing.assert_array_equal(cube[prompt, token, layer, neuron], group["extreme_value"][end])
        assert {tuple(x) for x in where.tolist()} >= set(zip(prompt.ravel(), token.ravel(), strict=True))
    np.testing.assert_allclose(group["quantile_value"][:], np.quantile(rows, LEVELS, axis=0), rtol=1e-12)


def test_build_index__declares_what_it_writes(indexed):
    group = index_group(indexed[1])
    for variable in INDEX:
        array = group[variable.name]
        assert array.metadata.dimension_names == variable.dims
        assert array.dtype.name in variable.dtypes
        assert array.attrs["long_name"] == variable.meaning


def test_build_index__writes_the_labels_as_tables(indexed):
    ds, path = indexed
    folder = index_of(Location.of(path)).root
    prompts = pd.read_parquet(f"{folder}/prompts.parquet")
    assert prompts["condition"].tolist() == ds["condition"].to_numpy().tolist()
    tokens = pd.read_parquet(f"{folder}/tokens.parquet")
    valid = ds["token_id"].to_numpy() != -1
    assert len(tokens) == valid.sum()
    np.testing.assert_array_equal(tokens["token_id"], ds["token_id"].to_numpy()[valid])
    assert tokens["prompt"].tolist() == ds["prompt"].to_numpy()[np.nonzero(valid)[0]].tolist()


def test_build_index__leaves_the_recording_as_it_is(indexed):
    _, path = indexed
    assert actome.verify(path) == [] and actome.validate(path) == []
    assert is_current(Location.of(path))


def test_build_index__gives_the_same_bytes_again_on_one_thread(indexed):
    _, path = indexed
    folder = index_of(Location.of(path))
    before = {key: folder.read(key) for key in folder.keys()}
    with dask.config.set(scheduler="synchronous"):
        build_index(path)
    assert {key: folder.read(key) for key in folder.keys()} == before


def test_build_index__of_another_recording_does_not_count(indexed, tmp_path):
    ds, path = indexed
    other = save(ds.isel(prompt=slice(0, 9)), tmp_path / "other.zarr")
    source, target = index_of(Location.of(path)), index_of(Location.of(other))
    for key in source.keys():
        target.write(key, source.read(key))
    assert not is_current(Location.of(other))
    assert any(line.startswith("stale") for line in actome.verify(other))
    build_index(other)
    assert is_current(Location.of(other)) and actome.verify(other) == []


def test_build_index__an_interrupted_one_does_not_count(tiny_path, monkeypatch):
    location = Location.of(tiny_path)
    write = Location.write

    def fail(self, key, content):
        if key == "manifest.json":
            raise OSError("the disk is full")
        write(self, key, content)

    monkeypatch.setattr(Location, "write", fail)
    with pytest.raises(OSError, match="the disk is full"):
        build_index(tiny_path)
    monkeypatch.undo()
    assert not is_current(location)
    build_index(tiny_path)
    assert is_current(location) and actome.verify(tiny_path) == []


def test_build_index__without_a_cube_or_token_labels_writes_what_it_can(tiny, tmp_path):
    bare = tiny[["activation"]].drop_vars([v for v in tiny.coords if tiny[v].dims == ("prompt", "token")])
    path = build_index(save(bare, tmp_path / "bare.zarr"))
    folder = index_of(Location.of(path))
    assert folder.exists("prompts.parquet") and not folder.exists("tokens.parquet")
    assert index_group(path)["extreme_value"].shape[0] == 2


def test_build_index__refuses_what_is_no_finished_recording(tiny, tmp_path):
    result = actome.save_result(tiny[["activation"]], tmp_path / "result.zarr")
    with pytest.raises(InputError, match=r"result.zarr is not a finished recording"):
        build_index(result)
    with pytest.raises(MissingFileError):
        build_index(tmp_path / "nothing.zarr")


def test_build_index__what_an_interrupted_one_left_is_named(tiny_path):
    index_of(Location.of(tiny_path)).write("mlp/zarr.json", b"{}")
    assert actome.verify(tiny_path) == [
        "unfinished: actome/index/ was not written to its end; `actome index` builds it again"
    ]
