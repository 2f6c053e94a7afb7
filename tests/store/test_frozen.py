"""Schema version 1 is frozen: recordings made long ago read as they were written, by us and by zarr."""

import hashlib
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
import zarr

import actome
from actome.store.queries import neurons
from actome.store.schema import VERSION

REFERENCE = Path(__file__).parents[1] / "reference"


@pytest.fixture(params=["prompts", "generated"])
def frozen(request):
    held = json.loads((REFERENCE / f"recording_v1_{request.param}.json").read_text(encoding="utf-8"))
    return REFERENCE / f"recording_v1_{request.param}.zarr.zip", held


@pytest.fixture(params=["zip", "folder"])
def opened(frozen, request, tmp_path):
    """The fixture as it is, and unpacked."""
    path, held = frozen
    if request.param == "folder":
        with zipfile.ZipFile(path) as file:
            file.extractall(tmp_path / "r.zarr")
        path = tmp_path / "r.zarr"
    return path, held


def same(array, held) -> bool:
    """Compare values with what was written down: their digest, or the texts themselves."""
    values = np.asarray(array)
    if "values" in held:
        return [str(v) for v in values] == held["values"]
    little = np.ascontiguousarray(values, dtype=np.dtype(held["dtype"]).newbyteorder("<"))
    return list(values.shape) == held["shape"] and (
        hashlib.sha256(little.tobytes()).hexdigest() == held["sha256"]
    )


def test_frozen__is_of_the_schema_that_this_version_writes():
    assert VERSION == 1, "a new schema version needs fixtures of its own, beside these"


def test_frozen__is_sound(opened):
    path, held = opened
    assert actome.validate(path) == [] and actome.verify(path) == []
    sites = ["mlp", "residual"] if "residual/layer" in held["arrays"] else ["mlp"]
    for site in sites:
        ds = actome.open(path, site=site)
        assert ds.attrs["manifest_digest"] == held["manifest_digest"]
        assert ds.attrs["schema_version"] == 1


def test_open__gives_every_value_that_was_written(opened):
    path, held = opened
    arrays = held["arrays"]
    for site in sorted({name.partition("/")[0] for name in arrays if "/" in name}):
        levels = ["token", "prompt"] if f"{site}/activation" in arrays else ["prompt"]
        read = {level: actome.open(path, site=site, level=level) for level in levels}
        for name, expected in arrays.items():
            if name == "recorded" or ("/" in name and not name.startswith(f"{site}/")):
                continue
            along_tokens = "token" in expected["dims"]
            if along_tokens and "token" not in read:
                continue
            short = name.rpartition("/")[2]
            ds = read["prompt"] if "/summary/" in name else read[levels[0]]
            assert ds[short].dims == tuple(expected["dims"]), name
            assert same(ds[short].to_numpy(), expected), name


def test_zarr__reads_it_without_us(frozen, tmp_path):
    path, held = frozen
    with zipfile.ZipFile(path) as file:
        file.extractall(tmp_path)
    group = zarr.open_group(tmp_path, mode="r")
    assert all(same(group[name][:], expected) for name, expected in held["arrays"].items())
    if held["index"]:
        index = zarr.open_group(tmp_path / "actome/index", mode="r")
        assert all(same(index[name][:], expected) for name, expected in held["index"].items())


def test_frozen__its_index_still_answers(opened):
    path, held = opened
    if not held["index"]:
        pytest.skip("a recording of moments has no index of neurons")
    ds = actome.open(path, site="mlp")
    assert neurons.index_group(ds) is not None
    table = actome.top_tokens(ds, layer=1, neuron=3, k=5)
    column = np.abs(ds["activation"].sel(layer=1, neuron=3).to_numpy().astype(np.float64))
    np.testing.assert_array_equal(np.abs(table["activation"]), np.sort(column[~np.isnan(column)])[::-1][:5])
