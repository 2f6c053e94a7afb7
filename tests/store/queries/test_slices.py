"""Slices across a catalog: the same numbers as opening each recording by hand, and nothing read."""

from pathlib import Path

import numpy as np
import pytest
import xarray as xr

import actome
from actome.store.archive import save
from actome.store.errors import InputError
from actome.store.phantom import phantom


@pytest.fixture(scope="module")
def catalog(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lab")
    (folder / "catalog.yaml").write_text("version: 1\nsources: {}\n")
    entries = actome.open_catalog(folder / "catalog.yaml")
    kinds = {"first": (("a", "rest"), 3), "second": (("b", "rest"), 2), "third": (("a", "b", "rest"), 1)}
    for seed, (name, (conditions, n_layers)) in enumerate(kinds.items()):
        ds = phantom(conditions=conditions, n_prompts=4, n_layers=n_layers, n_neurons=10, seed=seed)
        save(ds.assign_attrs(provenance={"inputs": {"model": f"m{seed}"}}), folder / f"{name}.zarr")
        entries.add(name, f"{name}.zarr", model=f"lab/m{seed}")
    entries.save()
    return folder / "catalog.yaml"


def test_slice_catalog__is_what_opening_each_would_give(catalog, raise_if_computes):
    with raise_if_computes():
        tree = actome.slice_catalog(catalog, condition="a", layer=0)
    assert list(tree.children) == ["first", "third"]
    for name, node in tree.children.items():
        whole = actome.open(name, level="prompt", catalog=catalog)
        expected = whole.isel(prompt=np.flatnonzero(whole["condition"] == "a")).sel(layer=[0])
        xr.testing.assert_equal(node.to_dataset(), expected)


def test_slice_catalog__narrows_by_model_level_and_layers(catalog):
    tree = actome.slice_catalog(catalog, model="lab/*", layer=[0, 1], level="token", condition=["a", "b"])
    assert {n: x.sizes["layer"] for n, x in tree.children.items()} == {"first": 2, "second": 2}
    assert all("activation" in node for node in tree.children.values())


def test_slice_catalog__a_recording_without_the_level_is_left_out(catalog):
    entries = actome.open_catalog(catalog)
    moments = Path(__file__).parents[2] / "reference/recording_v1_generated.zarr.zip"
    entries.add("moments", str(moments), kind="recording")
    for level, names in (("token", ["first", "third"]), ("prompt", ["first", "third", "moments"])):
        tree = actome.slice_catalog(entries, condition="a", layer=np.int64(0), level=level)
        assert list(tree.children) == names


def test_slice_catalog__nothing_found_says_what_was_looked_at(catalog):
    with pytest.raises(InputError, match=r"no recording of .* has condition 'fr'.*looked at \['first'"):
        actome.slice_catalog(catalog, condition="fr")


def test_slice_catalog__what_is_not_built_is_named(catalog):
    entries = actome.open_catalog(catalog)
    entries.add("later", "later.zarr", kind="recording")
    with pytest.warns(UserWarning, match="not built and left out: \\['later'\\]"):
        assert "later" not in actome.slice_catalog(entries).children
