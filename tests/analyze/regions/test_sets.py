"""Sets of regions: joined, cut by type of matrix, compared."""

import numpy as np
import pytest
import xarray as xr

from actome.analyze.regions.selection import region
from actome.analyze.regions.sets import by_matrix, join_regions, region_overlap
from actome.store.errors import InputError

from .synthetic import SHAPES, importance, regions


def test_join_regions__keeps_every_mask_and_label():
    tree = importance()
    parts = [
        region(tree, top=0.1),
        region(tree, top=0.1, role="bottom"),
        region(tree, top=0.2, of="condition"),
    ]
    joined = join_regions(*parts)
    assert joined["region"].to_numpy().tolist() == ["top 10%", "bottom 10%", "de", "en", "fr"]
    assert joined["role"].to_numpy().tolist() == ["top", "bottom", "top", "top", "top"]
    assert joined.attrs["selected_on"] == ["p0", "p1"] and joined.attrs["kind"] == "regions"
    for name in SHAPES:
        expected = np.concatenate([p[name]["mask"].to_numpy() for p in parts])
        np.testing.assert_array_equal(joined[name]["mask"].to_numpy(), expected)
    assert join_regions(parts[2], names=["x", "y", "z"])["region"].to_numpy().tolist() == ["x", "y", "z"]


def test_join_regions__refuses_names_used_twice_and_other_tensors():
    tree = importance()
    one = region(tree, top=0.1)
    for given, options, message in (
        ((one, one), {}, "names that differ"),
        ((one, region(tree, top=0.1, matrices=["q"], role="bottom")), {}, "different weight tensors"),
        ((one,), {"names": ["a", "b"]}, "1 regions, and 2 names"),
        ((), {}, "no regions to join"),
    ):
        with pytest.raises(InputError, match=message):
            join_regions(*given, **options)


def test_by_matrix__the_parts_are_disjoint_and_make_the_whole():
    whole = region(importance(), top=0.2, of="condition")
    parts = by_matrix(whole)
    names = parts["region"].to_numpy().tolist()
    assert names == [f"{c}/{m}" for m in ("down", "q", "norm") for c in ("de", "en", "fr")]
    for name in SHAPES:
        mask = parts[name]["mask"].to_numpy()
        for k, condition in enumerate(("de", "en", "fr")):
            own = [i for i, n in enumerate(names) if n.startswith(condition)]
            assert (mask[own].sum(axis=0) == whole[name]["mask"][k].to_numpy()).all()


def test_region_overlap__is_numpys_beside_chance_of_each_tensor(rng):
    masks = {"a": rng.random((3, 6, 5)) < 0.3, "b": rng.random((3, 2, 9)) < 0.8}
    found = region_overlap(regions(masks, ("x", "y", "z")))
    flat = np.concatenate([m.reshape(3, -1) for m in masks.values()], axis=1)
    for i in range(3):
        for j in range(3):
            both, either = (flat[i] & flat[j]).sum(), (flat[i] | flat[j]).sum()
            assert found["jaccard"].to_numpy()[i, j] == pytest.approx(both / either)
            chance = sum(m[i].sum() * m[j].sum() / m[i].size for m in masks.values())
            assert found["expected"].to_numpy()[i, j] == pytest.approx(chance)
    assert found["size"].to_numpy().tolist() == flat.sum(axis=1).tolist()


def test_region_overlap__is_the_same_for_any_chunks_and_nan_for_empty_regions(rng):
    masks = {"a": rng.random((2, 6, 5)) < 0.3}
    masks["a"][1] = False
    tree = regions(masks, ("x", "empty"))
    chunked = xr.DataTree.from_dict(
        {"/": tree.to_dataset(), "a": tree["a"].to_dataset().chunk({"row": 2, "column": 3})}
    )
    xr.testing.assert_identical(region_overlap(tree), region_overlap(chunked))
    assert np.isnan(region_overlap(tree)["jaccard"].to_numpy()[1, 1])
