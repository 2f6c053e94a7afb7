"""Regions against NumPy: top, bottom, random, core, monolingual; per tensor and over the model."""

import dask.array as da
import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from actome.analyze.regions.selection import region
from actome.store.archive import open as open_result
from actome.store.errors import InputError, InputTypeError
from actome.store.results import save_result

from .synthetic import CONDITIONS, SHAPES, importance


def arrays(tree):
    return {n: tree[n]["importance"].to_numpy().astype(np.float64) for n in tree.children}


def mask_of(tree, name, region=0):
    return tree[name]["mask"].isel(region=region).to_numpy()


def largest(values, k):
    out = np.zeros(values.size, dtype=bool)
    out[np.argsort(-values.ravel(), kind="stable")[:k]] = True
    return out.reshape(values.shape)


@settings(max_examples=4)
@given(
    st.integers(0, 99), st.sampled_from([0.01, 0.05, 0.3, 1.0]), st.integers(4, 12), st.integers(6, 20),
    st.integers(1, 3),
)  # fmt: skip
def test_region__core_is_numpys_in_every_tensor_whatever_the_chunks(seed, top, rows, columns, conditions):
    tree = importance(seed)
    lazy = tree.chunk({"row": rows, "column": columns, "condition": conditions})
    found = region(lazy, top=top)
    for name, values in arrays(tree).items():
        expected = largest(values.sum(axis=0), round(top * values[0].size))
        np.testing.assert_array_equal(mask_of(found, name), expected)
    assert found["region"].to_numpy().tolist() == [f"top {100 * top:g}%"]


def test_region__over_the_model_is_numpys_over_all_tensors():
    tree = importance()
    found = region(tree, top=0.1, scope="model")
    names = sorted(SHAPES)
    flat = np.concatenate([arrays(tree)[n].sum(axis=0).ravel() for n in names])
    expected = largest(flat, round(0.1 * flat.size))
    np.testing.assert_array_equal(np.concatenate([mask_of(found, n).ravel() for n in names]), expected)


def test_region__bottom_has_the_smallest_and_random_neither():
    tree = importance()
    bottom, random = region(tree, top=0.1, role="bottom"), region(tree, top=0.1, role="random")
    for name, values in arrays(tree).items():
        k = round(0.1 * values[0].size)
        np.testing.assert_array_equal(mask_of(bottom, name), largest(-values.sum(axis=0), k))
        assert mask_of(random, name).sum() == k
    again, other = (region(tree, top=0.1, role="random", seed=s) for s in (0, 1))
    name = "m.0.down_proj.weight"
    np.testing.assert_array_equal(mask_of(random, name), mask_of(again, name))
    assert (mask_of(random, name) != mask_of(other, name)).any()


def test_region__random_over_the_model_has_the_size_of_the_top():
    found = region(importance(), top=0.1, scope="model", role="random")
    assert sum(mask_of(found, n).sum() for n in SHAPES) == round(0.1 * sum(a * b for a, b in SHAPES.values()))


def test_region__random_places_are_uniform():
    """Over many draws every place is as likely: deviations in binomial standard deviations."""
    tree = importance(shapes={"w": (5, 8)})
    draws = [region(tree, top=0.25, role="random", of="condition", seed=s)["w"]["mask"] for s in range(30)]
    count = sum(mask.to_numpy().sum(axis=0) for mask in draws)
    assert count.sum() == 90 * 10
    assert abs(count - 90 / 4).max() < 4.5 * np.sqrt(90 * 0.25 * 0.75)


def test_region__monolingual_is_the_top_of_one_and_of_no_other():
    tree = importance()
    found = region(tree, top=0.2, of="monolingual")
    assert found["region"].to_numpy().tolist() == list(CONDITIONS)
    assert set(found["role"].to_numpy()) == {"monolingual"}
    for name, values in arrays(tree).items():
        tops = np.stack([largest(v, round(0.2 * v.size)) for v in values])
        for k in range(3):
            np.testing.assert_array_equal(mask_of(found, name, k), tops[k] & (tops.sum(axis=0) == 1))


def test_region__some_conditions_and_types_of_matrix_alone():
    tree = importance()
    found = region(tree, top=0.2, of="condition", conditions=["fr"], matrices=["q"])
    assert list(found.children) == ["m.0.q_proj.weight"]
    values = arrays(tree)["m.0.q_proj.weight"][2]
    np.testing.assert_array_equal(
        mask_of(found, "m.0.q_proj.weight"), largest(values, round(0.2 * values.size))
    )
    assert found.attrs["selected_on"] == ["p0", "p1"] and found.attrs["source"] == "sha256:i"
    assert found["m.0.q_proj.weight"].attrs == {"matrix": "q", "layer": 0, "rows": "out"}


def test_region__ties_go_to_the_first_places_and_a_nan_is_in_no_region():
    tree = importance(shapes={"w": (4, 4)})
    values = np.zeros((3, 4, 4), dtype=np.float32)
    values[:, 1] = np.nan
    tree["w"] = tree["w"].to_dataset().assign(importance=(("condition", "row", "column"), values))
    found = mask_of(region(tree, top=0.5), "w")
    assert found.sum() == 6 and found[0].all() and found[2, :2].all() and not found[1].any()


def test_region__the_archive_gives_back_the_same_masks(tmp_path):
    found = region(importance().chunk({"row": 3}), top=0.1, of="condition")
    opened = open_result(save_result(found, tmp_path / "r.zarr"))
    for name in SHAPES:
        np.testing.assert_array_equal(opened[name]["mask"].to_numpy(), found[name]["mask"].to_numpy())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"top": 0.0}, "top must be above 0"),
        ({"scope": "layer"}, "scope must be one of"),
        ({"role": "best"}, "role must be one of"),
        ({"of": "all"}, "of must be one of"),
        ({"top": "0.1"}, "top must be a number"),
        ({"seed": -1}, "seed must be at least 0"),
        ({"seed": 1.5}, "seed must be a whole number"),
        ({"conditions": ["pl"]}, "conditions must be some of"),
        ({"conditions": "fr"}, "conditions must be a list of some of"),
        ({"matrices": ["z"]}, "matrices must be a list of types"),
        ({"of": "monolingual", "conditions": ["fr"]}, "at least two conditions"),
        ({"of": "monolingual", "role": "bottom"}, "at least two conditions"),
    ],
)
def test_region__bad_input_is_refused(options, message):
    with pytest.raises((InputError, InputTypeError), match=message):
        region(importance(), **options)


def test_region__something_else_than_importance_is_refused():
    with pytest.raises(InputTypeError, match=r"that actome\.importance gives"):
        region(xr.Dataset())


def test_region__random_over_a_model_of_more_than_a_billion_parameters():
    shape, n_tensors = (4096, 11008), 32
    lazy = da.zeros((1, *shape), chunks=(1, 1024, shape[1]), dtype="float32")
    nodes = {
        f"w{i}": xr.Dataset({"importance": (("condition", "row", "column"), lazy)}) for i in range(n_tensors)
    }
    tree = xr.DataTree.from_dict({"/": xr.Dataset(coords={"condition": ["a"]}), **nodes})
    found = region(tree, top=1e-6, scope="model", role="random")
    assert list(found.children) == sorted(nodes)
    assert 0 < int(found["w0"]["mask"].sum()) < 200
