"""Values of weight tensors, written condition by condition."""

import json

import numpy as np
import pytest
import zarr

from actome.store.errors import InputError
from actome.store.integrity import verify
from actome.store.location import Location
from actome.store.tensors import Tensor, TensorWriter, allocate_tensors, is_allocated
from actome.store.trees import open_tree

TENSORS = [Tensor("a.weight", (3000, 1000), {"matrix": "q"}), Tensor("b.weight", (1, 7), {"matrix": "norm"})]
LABELS = {"n_prompts": 3, "n_tokens": 20, "loss": 1.5}


@pytest.fixture
def location(tmp_path):
    return Location.of(tmp_path / "i.zarr")


def values(i):
    rng = np.random.default_rng(i)
    return {t.name: rng.random(t.shape, dtype=np.float32) for t in TENSORS}


def allocated(location, conditions=("x", "y")):
    attrs = {"kind": "importance", "inputs": {"model": "m", "by": "condition"}}
    allocate_tensors(location, "importance", conditions, TENSORS, attrs)
    return TensorWriter(location, "importance")


def test_tensor_writer__what_is_written_is_opened_in_chunks_of_whole_rows(location):
    writer = allocated(location)
    assert writer.pending() == [0, 1] and is_allocated(location)
    for i in (1, 0):
        writer.write(i, LABELS, values(i).items())
    assert writer.pending() == []
    writer.finalise()
    assert verify(str(location)) == []
    tree = open_tree(location)
    assert tree["condition"].to_numpy().tolist() == ["x", "y"]
    assert tree["loss"].to_numpy().tolist() == [1.5, 1.5]
    array = tree["a.weight"]["importance"]
    assert array.chunks[0] == (1, 1) and array.chunks[2] == (1000,) and len(array.chunks[1]) == 2
    for i in (0, 1):
        for name, expected in values(i).items():
            np.testing.assert_array_equal(tree[name]["importance"][i].to_numpy(), expected)


def test_tensor_writer__an_interrupted_condition_is_not_there_and_is_written_again(location, tmp_path):
    writer = allocated(location)
    writer.write(0, LABELS, values(0).items())

    def broken():
        yield from list(values(1).items())[:1]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        writer.write(1, LABELS, broken())
    assert verify(str(location)) == ["unfinished: no manifest; only complete units are checked"]
    with pytest.raises(InputError, match="not written to its end"):
        open_tree(location)
    again = TensorWriter(location, "importance")
    assert again.pending() == [1]
    again.write(1, LABELS, values(1).items())
    again.finalise()
    whole = Location.of(tmp_path / "whole.zarr")
    other = allocated(whole)
    for i in (0, 1):
        other.write(i, LABELS, values(i).items())
    other.finalise()
    files = [json.loads(p.read("actome/manifest.json"))["files"] for p in (location, whole)]
    assert files[0] == files[1]


def test_tensor_writer__damage_in_a_complete_condition_is_seen_before_the_end(location):
    writer = allocated(location)
    writer.write(0, LABELS, values(0).items())
    key = "b.weight/importance/c/0/0/0"
    location.write(key, b"\0" + location.read(key)[1:])
    assert f"damaged: {key}" in verify(str(location))


def test_allocate_tensors__an_interrupted_allocation_is_nothing(location):
    allocated(location)
    group = zarr.open_group(str(location), mode="r+")
    group.attrs.put({"kind": "importance"})
    assert not is_allocated(location)
    writer = allocated(location, ["z"])
    assert writer.pending() == [0]


def test_allocate_tensors__something_else_is_left_alone(location):
    zarr.create_group(str(location)).create_array("mine", shape=(2,), dtype="int8")[:] = 7
    with pytest.raises(InputError, match="holds something else than importance"):
        allocated(location)
    assert zarr.open_group(str(location))["mine"][:].tolist() == [7, 7]


def test_check_inputs__names_what_differs(location):
    writer = allocated(location)
    writer.check_inputs({"model": "m", "by": "condition"})
    with pytest.raises(InputError, match="by: 'condition' there, 'run' now"):
        writer.check_inputs({"model": "m", "by": "run"})
    with pytest.raises(InputError, match="something else than gradients"):
        TensorWriter(location, "gradients").check_inputs({})
