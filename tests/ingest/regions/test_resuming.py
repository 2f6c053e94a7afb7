"""Scores of regions, sweeps and trainings that are interrupted come to the bytes of a run in one go."""

import re
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

import actome
from actome.ingest.identity import weights_digest
from actome.ingest.regions.lesions import pick_region
from actome.ingest.regions.scores import score_regions
from actome.ingest.regions.sweep import sweep
from actome.ingest.regions.training import train_frozen
from actome.store.errors import InputError
from actome.store.housekeeping.removing import remove
from actome.store.integrity import verify
from actome.store.location import Location
from actome.store.unit_archive import UnitArchive

from ...store.killing import KilledError, killed_after
from ..resuming import files

KINDS = ["scores", "sweep", "training"]


@pytest.fixture
def runs(loaded, phantom, planted):
    """Each of the three, into a path."""
    few = phantom.paradigm.select(run=0)
    names = np.array(["model.layers.0.mlp.down_proj.weight"] * 3, dtype=object)
    places = xr.Dataset(
        {"tensor": ("place", names), "row": ("place", [0, 1, -1]), "column": ("place", [2, -1, 3])},
        attrs={"selected_on": []},
    )
    steps = {"steps": 2, "every": 2, "batch_size": 2, "learning_rate": 1e-2}
    texts = phantom.paradigm.select(run=1)
    region = pick_region(planted, "b")
    return {
        "scores": lambda path: score_regions(
            loaded,
            few,
            path,
            planted,
            kind="noise",
            amount=0.5,
            controls=1,
            match="magnitude",
            max_new_tokens=2,
        ),
        "sweep": lambda path: sweep(loaded, few, path, places, factors=(0, 3)),
        "training": lambda path: train_frozen(loaded, few, path, region, texts=texts, **steps),
    }


@pytest.mark.parametrize("kind", KINDS)
def test_region_results__only_units_that_are_missing_are_made(runs, kind, phantom, tmp_path, monkeypatch):
    whole, digest = runs[kind](tmp_path / "whole.zarr").load(), weights_digest(phantom.module)
    write, seen = UnitArchive.write, []

    def stop(self, unit, values):
        if len(seen) == 2:
            raise RuntimeError("the machine goes down")
        seen.append(unit)
        write(self, unit, values)

    monkeypatch.setattr(UnitArchive, "write", stop)
    with pytest.raises(RuntimeError, match="goes down"):
        runs[kind](tmp_path / "s.zarr")
    n_units = len(UnitArchive(Location.of(tmp_path / "s.zarr")).grid)
    assert seen == [0, 1] and n_units > 2 and weights_digest(phantom.module) == digest
    with pytest.raises(InputError, match=r"was not written to its end; make the call that writes it again"):
        actome.open(tmp_path / "s.zarr")
    monkeypatch.setattr(
        UnitArchive, "write", lambda self, unit, values: (seen.append(unit), write(self, unit, values))
    )
    xr.testing.assert_identical(runs[kind](tmp_path / "s.zarr").load().drop_attrs(), whole.drop_attrs())
    assert seen == list(range(n_units))
    assert files(tmp_path / "s.zarr") == files(tmp_path / "whole.zarr") and verify(tmp_path / "s.zarr") == []
    runs[kind](tmp_path / "s.zarr")  # a finished one is opened
    assert seen == list(range(n_units))


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_region_results__killed_anywhere_they_come_to_the_same_bytes(runs, kind, tmp_path):
    run = runs[kind]
    run(tmp_path / "whole.zarr")
    with killed_after(None, tmp_path / "count.zarr") as life:
        run(tmp_path / "count.zarr")
    for left in range(0, len(life.changes), 7):
        path = tmp_path / f"{left}.zarr"
        with killed_after(left, path), pytest.raises(KilledError):
            run(path)
        if (path / "zarr.json").exists():
            allowed = r"unfinished|foreign: .*partial|damaged: zarr.json names"
            assert all(re.match(allowed, line) for line in verify(path))
        run(path)
        assert files(path) == files(tmp_path / "whole.zarr") and verify(path) == []


@pytest.mark.parametrize("kind", KINDS)
def test_region_results__something_else_at_the_place_is_refused(runs, kind, tmp_path):
    actome.save_result(xr.Dataset({"a": 1}), tmp_path / "other.zarr")
    with pytest.raises(InputError, match="holds something else than"):
        runs[kind](tmp_path / "other.zarr")
    assert verify(tmp_path / "other.zarr") == []


def test_region_results__one_that_was_interrupted_can_be_removed(runs, tmp_path, monkeypatch):
    def stop(self, unit, values):
        raise RuntimeError("the machine goes down")

    monkeypatch.setattr(UnitArchive, "write", stop)
    with pytest.raises(RuntimeError, match="goes down"):
        runs["training"](tmp_path / "s.zarr")
    remove(tmp_path / "s.zarr")
    assert not Path(tmp_path / "s.zarr" / "zarr.json").exists()
