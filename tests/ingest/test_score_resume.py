"""Scores that are interrupted, continued and shared come to the same bytes."""

import re

import numpy as np
import pytest
import xarray as xr

import actome
from actome.ingest.scoring import plan
from actome.store.errors import InputError
from actome.store.integrity import verify
from actome.store.location import Location
from actome.store.unit_archive import Grid, UnitArchive

from ..store.killing import KilledError, killed_after
from .resuming import files


@pytest.fixture
def run(loaded, few, masks, monkeypatch):
    """Score into a path, in 2 x 2 units."""
    monkeypatch.setattr(
        plan.ScorePlan,
        "grid",
        lambda self: Grid({"lesion": 5, "prompt": len(few)}, {"lesion": 3, "prompt": 2}),
    )

    def run(path, **options):
        return actome.score(loaded, few, path, masks, controls=0 if "doses" in options else 1, **options)

    return run


def same_values(a, b):
    xr.testing.assert_identical(a.load().drop_attrs(), b.load().drop_attrs())


def check_kills(run, tmp_path, places):
    """Kill a run at some of its changes of the disk, and let it go on."""
    whole = run(tmp_path / "whole.zarr", hits=True)
    with killed_after(None, tmp_path / "count.zarr") as life:
        run(tmp_path / "count.zarr", hits=True)
    for left in places(len(life.changes)):
        path = tmp_path / f"{left}.zarr"
        with killed_after(left, path), pytest.raises(KilledError):
            run(path, hits=True)
        if (path / "zarr.json").exists() and (
            problems := verify(path)
        ):  # none: only the clearing up was left
            allowed = r"unfinished|foreign: .*partial|damaged: zarr.json names"
            assert all(re.match(allowed, line) for line in problems)
            with pytest.raises((InputError, FileNotFoundError)):
                actome.open(path)
        same_values(run(path, hits=True), whole)
        assert files(path) == files(tmp_path / "whole.zarr") and verify(path) == []


def test_score__killed_it_goes_on_to_the_same_bytes(run, tmp_path):
    check_kills(run, tmp_path, lambda n: [n // 2, n - 30, n - 4])


@pytest.mark.slow
def test_score__killed_at_any_change_of_the_disk_it_goes_on_to_the_same_bytes(run, tmp_path):
    check_kills(run, tmp_path, lambda n: range(0, n, 5))


def test_score__only_units_that_are_missing_are_scored(run, tmp_path, monkeypatch):
    class StopError(Exception):
        pass

    write, seen = UnitArchive.write, []

    def stop(self, unit, values):
        if len(seen) == 2:
            raise StopError
        seen.append(unit)
        write(self, unit, values)

    monkeypatch.setattr(UnitArchive, "write", stop)
    with pytest.raises(StopError):
        run(tmp_path / "s.zarr")
    assert seen == [0, 1] and UnitArchive(Location.of(tmp_path / "s.zarr")).pending() == [2, 3]
    monkeypatch.setattr(
        UnitArchive, "write", lambda self, unit, values: (seen.append(unit), write(self, unit, values))
    )
    run(tmp_path / "s.zarr")
    assert seen == [0, 1, 2, 3]


def test_score__parts_come_to_the_bytes_of_one_process(run, tmp_path):
    whole = run(tmp_path / "whole.zarr")
    first = run(tmp_path / "s.zarr", part=(0, 2))
    assert 0 < int(first["logprob"].isnull().all("token").sum()) < first["logprob"].isel(token=0).size
    with pytest.raises(InputError, match="the scores are not complete: other processes have not ended"):
        actome.lesion_effects(first)
    same_values(run(tmp_path / "s.zarr", part=(1, 2)), whole)
    assert files(tmp_path / "s.zarr") == files(tmp_path / "whole.zarr") and verify(tmp_path / "s.zarr") == []
    with pytest.raises(InputError, match="k from 0 to n - 1"):
        run(tmp_path / "s.zarr", part=(2, 2))


def test_score__damage_is_found(run, tmp_path):
    run(tmp_path / "s.zarr")
    chunk = tmp_path / "s.zarr" / "logprob" / "c" / "1" / "0" / "0"
    chunk.write_bytes(chunk.read_bytes()[:-1] + b"x")
    assert verify(tmp_path / "s.zarr") == ["damaged: logprob/c/1/0/0"]


def test_score__what_differs_from_the_scores_there_is_named(run, tmp_path):
    run(tmp_path / "s.zarr")
    with pytest.raises(
        InputError, match=r"holds other scores \(amount: None there, 2.0 now; .*kind: 'zero' there"
    ):
        run(tmp_path / "s.zarr", kind="scale", amount=2.0)
    actome.save_result(xr.Dataset({"a": 1}), tmp_path / "other.zarr")
    with pytest.raises(InputError, match="something else than scores"):
        run(tmp_path / "other.zarr")


def test_grid__every_lesion_and_prompt_is_in_one_unit():
    grid = Grid({"lesion": 7, "prompt": 5}, {"lesion": 3, "prompt": 2})
    seen = np.zeros((7, 5), dtype=int)
    for unit in range(len(grid)):
        seen[tuple(grid.slices(unit).values())] += 1
    assert len(grid) == 9 and (seen == 1).all()
    assert [tuple(grid.place(u).values()) for u in (0, 1, 2, 3)] == [(0, 0), (1, 0), (2, 0), (0, 1)]
