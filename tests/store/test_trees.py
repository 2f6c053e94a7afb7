"""Trees of results: written chunk by chunk, truth values as bits, opened as they were."""

import dask.array as da
import numpy as np
import pytest
import xarray as xr
import zarr
from hypothesis import given
from hypothesis import strategies as st

from actome.store.archive import open as open_result
from actome.store.bits import pack_bits, unpack_bits
from actome.store.errors import InputError, InputTypeError
from actome.store.integrity import verify
from actome.store.location import Location
from actome.store.regions import check_regions, labels_of, masks, region_names
from actome.store.results import save_result
from actome.store.trees import open_tree


@pytest.fixture
def tree(rng) -> xr.DataTree:
    root = xr.Dataset(
        coords={"region": ["one", "two"], "role": ("region", ["top", "random"])},
        attrs={"kind": "regions", "selected_on": ["a", "b"], "manifest_digest": "of the source"},
    )
    nodes = {"/": root}
    for name, shape in (("model.a.weight", (2, 5, 11)), ("model.b.weight", (2, 1, 8))):
        mask = rng.random(shape) < 0.4
        nodes[name] = xr.Dataset(
            {"mask": (("region", "row", "column"), mask, {"long_name": "of the region"})},
            attrs={"matrix": "q", "layer": 3},
        )
    return xr.DataTree.from_dict(nodes)


@pytest.mark.parametrize("lazy", [False, True])
def test_save_result__a_tree_comes_back_as_it_was(tree, tmp_path, lazy, raise_if_computes):
    given_tree = tree.chunk({"row": 2, "region": 1, "column": 3}) if lazy else tree
    path = save_result(given_tree, tmp_path / "r.zarr", derived_from="sha256:x")
    assert verify(path) == []
    with raise_if_computes():
        opened = open_result(path)
        assert all(node["mask"].chunks is not None for node in opened.children.values())
    assert isinstance(opened, xr.DataTree)
    assert opened.attrs["derived_from"] == ["sha256:x"] and opened.attrs["manifest_digest"] != "of the source"
    assert opened["region"].to_numpy().tolist() == ["one", "two"]
    for name, node in tree.children.items():
        mask, expected = opened[name]["mask"], node["mask"]
        assert mask.dims == expected.dims and mask.attrs == expected.attrs and mask.dtype == bool
        np.testing.assert_array_equal(mask.to_numpy(), expected.to_numpy())
        assert opened[name].attrs == node.attrs


def test_save_result__masks_take_an_eighth_of_a_byte_in_the_order_of_packbits(tree, tmp_path):
    path = save_result(tree, tmp_path / "r.zarr")
    stored = zarr.open_group(path, mode="r")["model.a.weight/mask"]
    assert stored.dtype == np.uint8
    np.testing.assert_array_equal(stored[:], np.packbits(tree["model.a.weight"]["mask"].to_numpy(), axis=-1))


def test_save_result__a_tree_is_written_chunk_by_chunk(tmp_path):
    seen = []

    def block(block_id):
        seen.append(block_id)
        return np.zeros((1, 4, 6), dtype=bool)

    data = da.map_blocks(block, chunks=((1,), (4,) * 5, (6,)), dtype=bool, meta=np.empty((0, 0, 0), bool))
    tree = xr.DataTree.from_dict({"/w": xr.Dataset({"mask": (("region", "row", "column"), data)})})
    path = save_result(tree, tmp_path / "r.zarr")
    assert sorted(seen) == [(0, i, 0) for i in range(5)]
    assert zarr.open_group(path, mode="r")["w/mask"].chunks == (1, 4, 1)


def test_open__a_tree_that_was_cut_off_is_refused(tree, tmp_path):
    path = save_result(tree, tmp_path / "r.zarr")
    group = zarr.open_group(path, mode="r+")
    del group.attrs["manifest_digest"]
    with pytest.raises(InputError, match="not written to its end"):
        open_result(path)


def test_open_tree__refuses_what_is_none(tmp_path):
    path = save_result(xr.Dataset({"x": 1.0}), tmp_path / "d.zarr")
    with pytest.raises(InputError, match="holds no tree"):
        open_tree(Location.of(path))
    with pytest.raises(InputTypeError, match="Dataset, DataArray or DataTree"):
        save_result([1], tmp_path / "l.zarr")


@given(st.integers(0, 20), st.integers(1, 20), st.integers(1, 9), st.booleans())
def test_pack_bits__are_unpacked_as_they_were(rows, columns, chunk, lazy):
    values = np.random.default_rng(rows).random((rows, columns)) < 0.5
    data = da.from_array(values, chunks=chunk) if lazy else values
    ds = xr.Dataset({"m": (("row", "column"), data), "n": ("row", np.zeros(rows, bool))})
    packed = pack_bits(ds)
    assert packed["m"].dtype == np.uint8 and packed["m"].shape == (rows, -(-columns // 8))
    back = unpack_bits(packed)
    assert back["m"].dtype == bool and back["n"].dtype == bool
    np.testing.assert_array_equal(back["m"].to_numpy(), values)


def test_regions__are_checked_and_gone_through(tree):
    assert [name for name, _ in masks(tree)] == ["model.a.weight", "model.b.weight"]
    assert region_names(tree) == ["one", "two"]
    assert labels_of(tree, "role") == ["top", "random"] and labels_of(tree, "top") == ["", ""]
    for wrong, error, message in (
        (xr.Dataset(), InputTypeError, "must be a DataTree"),
        (xr.DataTree(), InputTypeError, "without regions"),
        (_tree(["one", "one"], bool), InputError, "names that differ"),
        (_tree(["one", "two"], float), InputError, "the mask of w must be bool"),
    ):
        with pytest.raises(error, match=message):
            check_regions(wrong)


def _tree(names, dtype):
    root = xr.Dataset(coords={"region": names})
    mask = (("region", "row", "column"), np.zeros((2, 1, 1), dtype=dtype))
    return xr.DataTree.from_dict({"/": root, "w": xr.Dataset({"mask": mask})})
