"""What is removed is ours and whole, and nobody takes half of it for the whole."""

import subprocess
import sys

import numpy as np
import pytest
import xarray as xr
import zarr

from actome.store.archive import open as open_recording
from actome.store.errors import ActomeError, InputError, MissingFileError
from actome.store.housekeeping import append, gc, remove
from actome.store.results import save_result

from ..killing import KilledError, killed_after
from .conftest import files


def result(path, **attrs):
    return save_result(xr.Dataset({"stat": ("layer", [1.0, 2.0]), "accuracy": 0.5}, attrs=attrs), path)


def test_remove__recordings_and_results_complete_or_not(recorded, tmp_path):
    recorded("a", list("abc"))
    recorded("u", list("abcdefghijk"), final=False)
    result(tmp_path / "r.zarr", kind="contrast")
    result(tmp_path / "cut.zarr", kind="fit")
    (tmp_path / "cut.zarr/actome/manifest.json").unlink()
    for name in ("a", "u", "r", "cut"):
        remove(tmp_path / f"{name}.zarr")
    assert list(tmp_path.iterdir()) == []


def test_remove__on_a_store_without_folders(tiny):
    from actome.store.archive import save

    path = save(tiny, "memory://lab/tiny.zarr")
    remove(path)
    with pytest.raises(MissingFileError):
        open_recording(path)
    with pytest.raises(MissingFileError):
        remove(path)


def test_remove__killed_anywhere_shows_no_prompt_that_is_not_whole_and_goes_on(recorded, tmp_path):
    first = recorded("a", list("abc"))
    with killed_after(None, tmp_path) as life:
        remove(first)
    for step in range(0, len(life.changes), 11):
        path = recorded(f"r{step}", list("abc"))
        expected = open_recording(path).compute()
        with pytest.raises(KilledError), killed_after(step, tmp_path):
            remove(path)
        try:
            shown = open_recording(path).compute()
        except ActomeError:
            shown = None
        if shown is not None:
            kept = [i for i, p in enumerate(expected.prompt.values) if p in shown.prompt.values]
            np.testing.assert_array_equal(shown.activation, expected.activation[kept])
        if (path / "zarr.json").exists():
            remove(path)
        gc(tmp_path, older_than=0)
        assert not [p for p in path.rglob("*") if p.is_file()]


def test_remove__a_lazy_reader_meets_an_error_and_no_missing_value(recorded, tmp_path):
    path = recorded("a", list("abc"))
    lazy = open_recording(path)
    with pytest.raises(KilledError), killed_after(25, tmp_path):
        remove(path)
    gone = [p for p in ("0", "1", "2") if not (path / f"mlp/activation/c/{p}/0/0/0").exists()]
    assert gone
    with pytest.raises(OSError, match="is gone, though it was written"):
        lazy.activation.compute()
    remove(path)
    with pytest.raises(OSError, match="is gone, though it was written"):
        lazy.activation.compute()


def test_remove__can_be_recorded_again_after_a_kill(recorded, tmp_path):
    path = recorded("a", list("abc"))
    with pytest.raises(KilledError), killed_after(30, tmp_path):
        remove(path)
    recorded("a", list("xy"))
    assert open_recording(path).prompt.values.tolist() == ["x", "y"]


def test_remove__refuses_what_is_not_ours(recorded, tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/notes.txt").write_text("mine")
    zarr.create_group(tmp_path / "theirs.zarr", attributes={"kind": "galaxy"})
    zarr.create_array(str(tmp_path / "array.zarr"), shape=3, dtype="f4")
    a = recorded("a", ["x"])
    (a / "notes.txt").write_text("mine")
    b = recorded("b", ["x"])
    (b / "extra").symlink_to(tmp_path / "folder")
    (tmp_path / "link.zarr").symlink_to(recorded("c", ["x"]))
    (tmp_path / "p.zip").write_bytes(b"PK\5\6" + bytes(18))
    before = files(tmp_path)
    for name, error, message in (
        ("folder", MissingFileError, "there is no recording or result"),
        ("nothing", MissingFileError, "there is no recording or result"),
        ("theirs.zarr", InputError, "is no recording and no result of Actome; it is not removed"),
        ("array.zarr", InputError, "is no recording and no result of Actome"),
        ("a.zarr", InputError, "files that are not part of it, such as notes.txt; move them away first"),
        ("b.zarr", InputError, "b.zarr/extra is a link"),
        ("link.zarr", InputError, "link.zarr is a link"),
        ("p.zip", InputError, "is a ZIP file; remove the file itself"),
    ):
        with pytest.raises(error, match=message):
            remove(tmp_path / name)
    assert files(tmp_path) == before
    assert not (tmp_path / "nothing").exists()


_CLAIM = """
import sys, time
from actome.store.location import Location
with Location.of(sys.argv[1]).claimed(shared=True):
    print("claimed", flush=True)
    time.sleep(60)
"""


def test_remove__refuses_what_is_being_recorded(recorded):
    path = recorded("a", list("abcdefghijk"), final=False)
    before = files(path)
    other = subprocess.Popen([sys.executable, "-c", _CLAIM, str(path)], stdout=subprocess.PIPE, text=True)
    try:
        assert other.stdout.readline() == "claimed\n"
        with pytest.raises(InputError, match="being recorded by another process"):
            remove(path)
        assert [g.done for g in gc(path, older_than=0)] == ["another process writes it, left"]
    finally:
        other.kill()
        other.communicate()
    assert files(path) == before


def test_remove__takes_what_was_put_aside_with_it(recorded, tmp_path, monkeypatch):
    monkeypatch.setattr("actome.store.housekeeping.staging._exchange", lambda a, b: False)
    a, b = recorded("a", ["x"]), recorded("b", ["y"], seed=1)
    with pytest.raises(KilledError), killed_after(_until_the_old_is_removed(recorded, tmp_path), tmp_path):
        append(a, b)
    assert len([p for p in tmp_path.iterdir() if p.suffix == ".replaced"]) == 1
    remove(a)
    assert gc(tmp_path, older_than=0) == []
    assert not a.exists() and not [p for p in tmp_path.iterdir() if p.name.startswith(".")]


def _until_the_old_is_removed(recorded, tmp_path) -> int:
    c, d = recorded("c", ["x"]), recorded("d", ["y"], seed=1)
    with killed_after(None, tmp_path) as life:
        append(c, d)
    remove(c)
    renames = [
        i for i, change in enumerate(life.changes) if change.endswith(".staging") and "rename" in change
    ]
    return renames[0] + 2
