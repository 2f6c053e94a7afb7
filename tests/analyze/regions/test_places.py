"""The most important parameters, rows and columns, against sorting."""

import numpy as np
import pytest
import xarray as xr

from actome.analyze.regions.places import top_places
from actome.store.errors import InputError, InputTypeError

from .synthetic import SHAPES, importance


def sums(tree):
    return {n: tree[n]["importance"].to_numpy().astype(np.float64).sum(axis=0) for n in tree.children}


@pytest.mark.parametrize("along", ["scalar", "row", "column"])
@pytest.mark.parametrize("chunk", [None, 3])
def test_top_places__are_the_largest_of_all_tensors(along, chunk):
    tree = importance(1)
    found = top_places(tree.chunk({"row": chunk, "column": chunk}) if chunk else tree, n=6, along=along)
    everything = []
    for name, values in sums(tree).items():
        if along == "scalar":
            everything += [(values[r, c], name, r, c) for r, c in np.ndindex(values.shape)]
        elif along == "row" and values.shape[0] > 1:
            everything += [(values[r].mean(), name, r, -1) for r in range(values.shape[0])]
        elif along == "column":
            everything += [(values[:, c].mean(), name, -1, c) for c in range(values.shape[1])]
    expected = sorted(everything, reverse=True)[:6]
    top = found.isel(place=np.flatnonzero(found["role"] == "top"))
    for i, (value, name, row, column) in enumerate(expected):
        assert (str(top["tensor"][i].item()), int(top["row"][i]), int(top["column"][i])) == (
            name,
            row,
            column,
        )
        assert float(top["value"][i]) == pytest.approx(value)


def test_top_places__random_ones_are_others_of_the_same_tensors():
    found = top_places(importance(), n=5, n_random=3).to_dataframe()
    assert not found.duplicated(["tensor", "row", "column"]).any()
    for _, group in found.groupby("rank"):
        assert group["tensor"].nunique() == 1 and group["role"].tolist() == ["top", *["random"] * 3]
    assert found.attrs == {} and (found["row"] >= 0).all()


def test_top_places__ties_go_to_the_first_and_a_nan_is_no_place():
    tree = importance(shapes={"a": (2, 3), "b": (2, 3)})
    for name in "ab":
        values = np.ones((3, 2, 3), dtype=np.float32)
        values[1, 0, 0] = np.nan
        tree[name] = tree[name].to_dataset().assign(importance=(("condition", "row", "column"), values))
    found = top_places(tree, n=6, n_random=0)
    assert list(zip(found["tensor"].values, found["row"].values, found["column"].values, strict=True)) == [
        ("a", 0, 1), ("a", 0, 2), ("a", 1, 0), ("a", 1, 1), ("a", 1, 2), ("b", 0, 1),
    ]  # fmt: skip
    with pytest.raises(InputError, match="there are 10 of what was asked for"):
        top_places(tree, n=11)


def test_top_places__bad_input_is_refused():
    for given, options, error, message in (
        (xr.Dataset(), {}, InputTypeError, "DataTree that"),
        (importance(), {"along": "layer"}, InputError, "along must be"),
        (importance(), {"n": 0}, InputError, "n must be at least 1"),
        (importance(), {"n": 2.5}, InputTypeError, "n must be a whole number"),
        (importance(), {"n": True}, InputTypeError, "n must be a whole number"),
        (importance(), {"n_random": -1}, InputError, "n_random must be at least 0"),
    ):
        with pytest.raises(error, match=message):
            top_places(given, **options)
    assert set(SHAPES)
