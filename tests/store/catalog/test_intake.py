"""A saved catalog is one that Intake opens."""

import warnings

import numpy as np
import pytest

from actome.store.archive import open as open_recording
from actome.store.archive import save
from actome.store.catalog import open_catalog
from actome.store.catalog.edit import create
from actome.store.results import save_result


@pytest.fixture
def catalog(tmp_path, tiny):
    save(tiny, tmp_path / "data/r.zarr")
    save_result(tiny["activation"].mean(("prompt", "token")), tmp_path / "data/mean.zarr")
    create(tmp_path / "catalog.yaml")
    catalog = open_catalog(tmp_path / "catalog.yaml")
    catalog.add("r", "data/r.zarr", description="a: b # no", tags=["no", "1e3", "2026-01-01"])
    catalog.add("mean", "data/mean.zarr", derived_from=["r"])
    catalog.save()
    return catalog


@pytest.fixture
def by_intake(catalog):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the libraries that Intake imports
        import intake

        yield intake.open_catalog(str(catalog.path))


def test_intake__opens_what_save_wrote(catalog, by_intake):
    assert list(by_intake) == list(catalog)
    ours, theirs = catalog.open("mean"), by_intake["mean"].to_dask()
    np.testing.assert_array_equal(theirs["activation"].values, ours["activation"].values)
    cube = by_intake["r"].reader(group="mlp").read()
    np.testing.assert_array_equal(
        cube["activation"].values, open_recording("r", catalog=catalog)["activation"].values
    )
    labels = by_intake["r"].to_dask()
    assert labels["condition"].values.tolist() == catalog.open("r")["condition"].values.tolist()
