"""What is swept up is what nobody needs; what is complete or in progress stays."""

import os
import shutil
import time
from dataclasses import asdict

import pytest
import xarray as xr
import zarr

from actome.store.archive import open_so_far
from actome.store.errors import InputError, MissingFileError
from actome.store.housekeeping import append, gc
from actome.store.housekeeping.garbage import _groups_and_staged
from actome.store.housekeeping.staging import remove_leftovers, repair, staged_for, staging_path
from actome.store.integrity import verify
from actome.store.location import Location
from actome.store.results import save_result
from actome.store.writer import RecordingWriter

from ..killing import KilledError, killed_after
from .conftest import files

IDS = list("abcdefghijk")


@pytest.fixture
def abandoned(recorded):
    """A recording with a unit that is not complete, and temporary files; what `gc` has to find in it."""
    path = recorded("u", IDS, final=False)
    left = {
        "mlp/activation/c/5/0/0/0": b"half",
        "prompt/c/5": b"half",
        "prompt/c/.5.77.partial": b"torn",
        "mlp/summary/mean/c/0/0/0." + "0" * 32 + ".partial": b"torn",
    }
    for key, content in left.items():
        (path / key).parent.mkdir(parents=True, exist_ok=True)
        (path / key).write_bytes(content)
    return path, left


def test_gc__removes_units_that_are_not_complete_and_temporary_files(abandoned):
    path, left = abandoned
    before = files(path)
    found = gc(path, older_than=0)
    assert {(g.what, g.n_bytes, g.done) for g in found} == {
        ("units that are not complete", 8, "removed"),
        ("files that were not written to their end", 8, "removed"),
    }
    assert files(path) == {k: v for k, v in before.items() if k not in left}
    assert open_so_far(path).sizes["prompt"] == 10
    assert RecordingWriter(Location.of(path)).pending() == [5]
    assert gc(path, older_than=0) == []


def test_gc__a_dry_run_and_what_is_young_change_nothing(abandoned, tmp_path):
    path, left = abandoned
    before = files(path)
    assert {g.done for g in gc(tmp_path, older_than=0, dry_run=True)} == {"found"}
    assert {g.done for g in gc(tmp_path)} == {"changed less than 1 h ago, left"}
    for file in path.rglob("*"):
        os.utime(file, (time.time() - 3500,) * 2)
    assert {g.done for g in gc(tmp_path)} == {"changed less than 1 h ago, left"}
    assert files(path) == before
    for file in path.rglob("*"):
        os.utime(file, (time.time() - 3700,) * 2)
    os.utime(path / "zarr.json")  # one file that has just been written: the recording goes on
    assert {g.done for g in gc(tmp_path)} == {"changed less than 1 h ago, left"}
    os.utime(path / "zarr.json", (time.time() - 3700,) * 2)
    assert {g.done for g in gc(tmp_path)} == {"removed"}
    assert not set(left) & set(files(path))


def test_gc__removes_interrupted_allocations_and_results(recorded, tmp_path):
    with killed_after(None, tmp_path) as life:
        recorded("whole", IDS)
    first = next(i for i, change in enumerate(life.changes) if change.startswith("os.rename"))
    shutil.rmtree(tmp_path / "whole.zarr")
    for step in (first, 40, 90):
        with pytest.raises(KilledError), killed_after(step, tmp_path):
            recorded(f"cut{step}", IDS)
    save_result(xr.Dataset({"x": ("layer", [1.0])}, attrs={"kind": "fit"}), tmp_path / "sub/r.zarr")
    (tmp_path / "sub/r.zarr/actome/manifest.json").unlink()
    root = tmp_path / "sub/r.zarr/zarr.json"
    root.write_text(root.read_text().replace("manifest_digest", "other"))
    found = gc(tmp_path, older_than=0)
    assert {g.what for g in found} == {
        "a first write that was cut off",
        "an allocation that was interrupted",
        "a result that was interrupted",
    }
    assert not files(tmp_path)


def test_gc__leaves_what_is_complete_and_what_is_not_ours(recorded, tmp_path):
    recorded("a", IDS)
    save_result(xr.Dataset({"x": ("layer", [1.0])}, attrs={"kind": "fit"}), tmp_path / "r.zarr")
    zarr.create_group(tmp_path / "theirs.zarr", attributes={"kind": "galaxy"})
    zarr.create_array(str(tmp_path / "array.zarr"), shape=3, dtype="f4")
    (tmp_path / "torn.zarr").mkdir()
    (tmp_path / "torn.zarr/zarr.json").write_text("{torn")
    (tmp_path / "theirs.zarr/x.1.partial").write_bytes(b"theirs")
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / ".mine.staging").mkdir()
    (tmp_path / ".mine.staging/notes.txt").write_text("mine")
    before = files(tmp_path)
    assert gc(tmp_path, older_than=0) == []
    assert files(tmp_path) == before


@pytest.mark.parametrize("exchanged", [True, False])
def test_gc__clears_up_after_an_append_that_was_cut_off(recorded, tmp_path, monkeypatch, exchanged):
    if not exchanged:
        monkeypatch.setattr("actome.store.housekeeping.staging._exchange", lambda a, b: False)
    a, b = recorded("a", list("abc")), recorded("b", list("de"), seed=1)
    with pytest.raises(KilledError), killed_after(90, tmp_path):
        append(a, b)
    (folder,) = [p for p in tmp_path.iterdir() if p.name.startswith(".")]
    assert staged_for(folder) == a
    assert [g.what for g in gc(a, older_than=0)] == ["a folder in which a new state was built"]
    assert not folder.exists()
    assert verify(a) == []


def test_gc__brings_back_what_was_put_aside(recorded, tmp_path):
    a = recorded("a", list("abc"))
    before = files(a)
    a.rename(staging_path(a, "append").with_suffix(".replaced"))
    (found,) = gc(tmp_path, older_than=0)
    assert (found.what, found.done) == (
        "a recording put aside for a replacement that was cut off",
        "brought back",
    )
    assert files(a) == before
    a.rename(staging_path(a, "append").with_suffix(".replaced"))
    assert [g.done for g in gc(a, older_than=0)] == ["brought back"]  # asked for by its own name


def test_gc__brings_nothing_back_that_was_removed_meanwhile(recorded, tmp_path, monkeypatch):
    a = recorded("a", list("abc"))
    staged = staging_path(a, "append")
    aside = staging_path(a, "append").with_suffix(".replaced")
    gone = ([str(tmp_path / "gone.zarr")], [staged, aside])
    monkeypatch.setattr("actome.store.housekeeping.garbage._groups_and_staged", lambda location: gone)
    for dry_run in (True, False):
        assert gc(tmp_path, older_than=0, dry_run=dry_run) == []
    monkeypatch.setattr("actome.store.housekeeping.staging.leftovers", lambda path: [staged, aside])
    assert not repair(tmp_path / "b.zarr")
    remove_leftovers(a)
    assert [p.name for p in tmp_path.iterdir()] == ["a.zarr"]


def test_gc__looks_at_nothing_inside_a_group_and_lists_each_group_once(recorded, tmp_path, monkeypatch):
    paths = [recorded(name, list("abc")) for name in ("a", "b", "c")]
    (paths[0] / "mlp/.x.append-12345678.staging").mkdir()
    listed, walked, keys, walk = [], [], Location.keys, os.walk
    monkeypatch.setattr(Location, "keys", lambda self: listed.append(self.name) or keys(self))
    assert gc(tmp_path, older_than=0) == []
    assert sorted(listed) == ["a.zarr", "b.zarr", "c.zarr"]
    monkeypatch.setattr(os, "walk", lambda top: (walked.append(at[0]) or at for at in walk(top)))
    groups, staged = _groups_and_staged(Location.of(tmp_path))
    assert (groups, staged) == ([str(path) for path in paths], [])
    assert sorted(walked) == [str(tmp_path), *groups]


def test_gc__on_a_store_without_folders(tiny):
    from actome.store.archive import save

    path = save(tiny, "memory://gc/tiny.zarr")
    location = Location.of(path)
    location.write("prompt/c/.0.77.partial", b"torn")
    assert [asdict(g) for g in gc("memory://gc", older_than=0)] == [
        {
            "path": str(location),
            "what": "files that were not written to their end",
            "n_bytes": 4,
            "done": "removed",
        }
    ]
    assert verify(path) == []


def test_gc__refuses(tmp_path):
    with pytest.raises(InputError, match="older_than must be 0 hours or more, got -1"):
        gc(tmp_path, older_than=-1)
    with pytest.raises(MissingFileError, match="there is nothing at"):
        gc(tmp_path / "nowhere")
    assert not (tmp_path / "nowhere").exists()


def test_staging_path__names_folders_that_are_found_again(tmp_path):
    path = tmp_path / "a.b.zarr"
    names = {staging_path(path, "import") for _ in range(9)}
    assert len(names) == 9
    assert {staged_for(name) for name in names} == {path}
    for name in (path, tmp_path / ".x.staging", tmp_path / ".x.append-1.staging"):
        assert staged_for(name) is None
