import numpy as np
import pytest
import zarr

from actome.store.archive import save
from actome.store.catalog.stored_metadata import stored_metadata
from actome.store.phantom import phantom


def test_stored_metadata__is_empty_where_there_is_nothing(tmp_path):
    assert stored_metadata(str(tmp_path / "x.zarr")) == {}
    assert stored_metadata(str(tmp_path / "x.zip")) == {}


def test_stored_metadata__leaves_out_labels_that_name_prompts(tmp_path):
    ds = phantom(n_prompts=30)
    ds["condition"] = ("prompt", [f"c{i}" for i in range(ds.sizes["prompt"])])
    assert "conditions" not in stored_metadata(save(ds, tmp_path / "x.zarr"))


def test_stored_metadata__knows_an_unfinished_recording(tmp_path, tiny):
    path = save(tiny, tmp_path / "x.zarr")
    group = zarr.open_group(path, mode="r+", use_consolidated=False)
    del group.attrs["manifest_digest"]
    group["recorded"][:] = tiny["condition"].values == "a"
    known = stored_metadata(path)
    assert "digest" not in known
    assert known["conditions"] == ["a"]


def test_stored_metadata__takes_no_odd_values_from_a_foreign_store(tmp_path):
    group = zarr.create_group(tmp_path / "x.zarr", zarr_format=3)
    group.attrs.update(
        {
            "kind": ["x"],
            "provenance": "mine",
            "licence": 1,
            "model": "/home/me/models/big-7b/",
            "derived_from": [1, "a"],
        }
    )
    group.create_array("condition", shape=(3,), dtype="int64")
    group.create_array("x", shape=(3, 4), dtype="int64", dimension_names=("layer", None))
    assert stored_metadata(str(tmp_path / "x.zarr")) == {
        "model": "big-7b",  # the folder of a machine is nobody else's
        "shape": {"layer": 3},
        "derived_from": ["a"],
    }


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("condition", {"shape": (10**13,), "dtype": str, "chunks": (10,)}),
        ("condition", {"shape": (6,), "dtype": str, "chunks": (10**13,)}),
        pytest.param(
            "condition",
            {"shape": (2,), "dtype": "<U500000000", "chunks": (1,)},
            marks=pytest.mark.filterwarnings("ignore:The data type"),
        ),
        ("recorded", {"shape": (10**13,), "dtype": "bool", "chunks": (10,)}),
        ("recorded", {"shape": (6, 2), "dtype": "bool"}),
        ("recorded", {"shape": (6,), "dtype": "float64"}),
    ],
)
def test_stored_metadata__reads_no_array_that_only_a_hostile_store_declares(tmp_path, name, options):
    group = zarr.create_group(tmp_path / "x.zarr", zarr_format=3)
    for column, dtype in (("condition", str), ("recorded", "bool")):
        array = group.create_array(column, shape=(6,), dtype=dtype)
        array[:] = np.array(list("aabbcc"), dtype=object) if dtype is str else True
    assert stored_metadata(str(tmp_path / "x.zarr"))["conditions"] == ["a", "b", "c"]
    del group[name]
    group.create_array(name, **options)
    assert "conditions" not in stored_metadata(str(tmp_path / "x.zarr"))
