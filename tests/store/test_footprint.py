"""What reading costs, as told, against what is read."""

import pytest
import zarr
from zarr.storage import LocalStore

from actome.store.archive import open as open_recording
from actome.store.archive import save
from actome.store.footprint import ArrayLayout, array_layouts
from actome.store.location import Location
from actome.store.phantom import phantom
from actome.store.results import save_result


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    ds = phantom(n_prompts=12, n_tokens=(140, 150), n_layers=3, n_neurons=300)
    return save(ds, tmp_path_factory.mktemp("footprint") / "x.zarr")


def test_array_layouts__say_how_the_arrays_are_cut(path):
    cube = {x.name: x for x in array_layouts(Location.of(path))}["mlp/activation"]
    assert cube.dims == ("prompt", "token", "layer", "neuron")
    assert cube.shape == (36, 150, 3, 300)
    assert cube.file == (5, 192, 1, 384) and cube.chunk == (5, 64, 1, 128)
    assert cube.n_files == 8 * 3
    assert cube.n_bytes == 36 * 150 * 3 * 300 * 4
    assert cube.chunk_bytes == 5 * 64 * 128 * 4


@pytest.mark.parametrize(
    ("what", "wanted"),
    [
        ("one prompt", {"prompt": slice(0, 1)}),
        ("one layer", {"layer": slice(0, 1)}),
        ("3 neurons of a layer", {"layer": slice(0, 1), "neuron": slice(0, 3)}),
        ("all of it", {}),
    ],
)
def test_reads__counts_the_files_that_are_opened(path, what, wanted, monkeypatch):
    cube = {x.name: x for x in array_layouts(Location.of(path))}["mlp/activation"]
    dims = [wanted.get(d, slice(None)) for d in cube.dims]
    opened = set()
    get = LocalStore.get

    async def counted(self, key, *args, **kwargs):
        if "/c/" in key:
            opened.add(key)
        return await get(self, key, *args, **kwargs)

    monkeypatch.setattr(LocalStore, "get", counted)
    zarr.open_group(path, mode="r")["mlp/activation"][tuple(dims)]
    files, decoded = cube.reads()[what]
    assert files == len(opened)
    assert decoded % cube.chunk_bytes == 0


def test_cost__decodes_whole_chunks():
    layout = ArrayLayout("a", ("prompt", "neuron"), (10, 8), "float32", (5, 8), (5, 4), 4)
    assert layout.cost({"prompt": 6, "neuron": 5}) == (2, 4 * 80)
    assert layout.summary()["reads"]["one prompt"] == {"files": 1, "bytes": 160}
    assert list(layout.reads()) == ["one prompt", "all of it"]


def test_array_layouts__of_a_result_too(path, tmp_path):
    effect = open_recording(path)["activation"].mean(("prompt", "token"))
    (layout,) = array_layouts(Location.of(save_result(effect, tmp_path / "r.zarr")))
    assert layout.dims == ("layer", "neuron")
    assert layout.file == layout.chunk
