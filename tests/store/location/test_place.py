import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import zarr

from actome.store.archive import open as open_recording
from actome.store.errors import InputError, MissingDependencyError, MissingFileError
from actome.store.integrity import verify
from actome.store.location import Location
from actome.store.validation import validate


def test_of__local_paths_are_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    location = Location.of("a.zarr/")
    assert location.is_local
    assert (str(location), location.name) == (str(tmp_path / "a.zarr"), "a.zarr")
    assert Location.of(Path("a.zarr")) == location


def test_of__a_url_is_no_local_folder():
    location = Location.of("memory://lab/a.zarr")
    assert not location.is_local
    assert Location.of(str(location)) == location


def test_of__unknown_protocol():
    with pytest.raises(InputError, match=r"nope://a\.zarr is no path and no URL"):
        Location.of("nope://a.zarr")


def test_of__protocol_without_its_package(monkeypatch):
    def missing(url):
        raise ImportError("Install gcsfs to access Google Storage")

    monkeypatch.setattr("actome.store.location.filesystems.url_to_fs", missing)
    with pytest.raises(MissingDependencyError, match=r"gs://lab/a\.zarr cannot be reached: Install gcsfs"):
        Location.of("gs://lab/a.zarr")
    monkeypatch.setitem(sys.modules, "actome.store.location.object_store", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'actome\[remote\]'"):
        Location.of("s3://lab/a.zarr")


@pytest.mark.parametrize("root", ["local", "memory"])
def test_files__written_read_listed_removed(tmp_path, root):
    location = Location.of(tmp_path / "g" if root == "local" else "memory://test_files/g")
    assert location.keys() == []
    location.write("b/c/1/0", b"one")
    location.write("b/c/10/0", b"ten")
    location.write("b/c/2", b"two")
    assert location.keys() == ["b/c/1/0", "b/c/10/0", "b/c/2"]
    assert location.keys("b/c/1") == ["b/c/1/0"]
    assert location.keys("b/c/2") == ["b/c/2"]
    assert location.keys("b/c/3") == []
    location.write("b/c/2", b"new")
    assert location.read("b/c/2") == b"new"
    location.remove("b/c/2")
    assert not location.exists("b/c/2")
    assert location.exists("b/c/1/0")


def test_write__leaves_the_old_file_when_it_is_cut_off(tmp_path, monkeypatch):
    location = Location.of(tmp_path)
    location.write("a", b"old")

    def cut_off(self, content):
        raise OSError("no space left on device")

    monkeypatch.setattr(Path, "write_bytes", cut_off)
    with pytest.raises(OSError, match="no space"):
        location.write("a", b"new")
    assert location.read("a") == b"old"


@pytest.mark.parametrize("root", ["local", "memory"])
def test_group__opens_what_zarr_wrote(tmp_path, root):
    location = Location.of(tmp_path / "g" if root == "local" else "memory://test_group/g")
    zarr.create_group(location.zarr_store(read_only=False), attributes={"x": 1})
    assert location.group().attrs["x"] == 1
    location.group(read_only=False).attrs["x"] = 2
    assert location.group().attrs["x"] == 2
    with pytest.raises(ValueError, match="read-only"):
        location.group().attrs["x"] = 3


def test_group__says_that_there_is_nothing(tmp_path):
    with pytest.raises(
        MissingFileError, match=r"there is no recording or result at .*/a\.zarr: no zarr\.json"
    ):
        Location.of(tmp_path / "a.zarr").group()


def test_of__a_zip_file_is_read_only(tiny_path, tmp_path):
    file = zipped(tiny_path, tmp_path / "tiny.zarr.zip")
    location = Location.of(file)
    assert (location.name, str(location)) == ("tiny.zarr.zip", str(file))
    assert location.keys() == Location.of(tiny_path).keys()
    assert location.keys("mlp/layer") == Location.of(tiny_path).keys("mlp/layer")
    assert location.read("zarr.json") == (tiny_path / "zarr.json").read_bytes()
    with pytest.raises(InputError, match="is a ZIP file: it can be read, not written; write a folder"):
        location.group(read_only=False)


def test_of__a_zip_file_holds_a_whole_recording(tiny, tiny_path, tmp_path):
    file = zipped(tiny_path, tmp_path / "tiny.zarr.zip")
    ds = open_recording(file)
    np.testing.assert_array_equal(ds["activation"].to_numpy(), tiny["activation"].to_numpy())
    assert ds.attrs["name"] == "tiny"
    assert verify(file) == validate(file) == []


def test_of__no_zip_file(tmp_path):
    with pytest.raises(MissingFileError, match=r"there is no ZIP file at .*nowhere\.zip; one can be read"):
        Location.of(tmp_path / "nowhere.zip")
    (tmp_path / "text.zip").write_text("text")
    with pytest.raises(InputError, match=r"text\.zip is no path and no URL that can be read"):
        Location.of(tmp_path / "text.zip")


def zipped(folder: Path, file: Path) -> Path:
    with zipfile.ZipFile(file, "w") as archive:
        for path in sorted(p for p in folder.rglob("*") if p.is_file()):
            archive.write(path, path.relative_to(folder))
    return file


def test_check_new__takes_what_is_free_and_refuses_what_holds_something(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "torn").mkdir()
    (tmp_path / "torn" / "zarr.json.0123.partial").write_bytes(b"to")
    (tmp_path / "full" / "sub").mkdir(parents=True)
    (tmp_path / "full" / "sub" / "a.txt").write_text("x")
    for free in ("empty", "torn", "new/deep"):
        Location.of(tmp_path / free).check_new()
    for taken, message in (
        ("full", "a folder with other files, such as sub/a.txt"),
        ("full/sub/a.txt", "a.txt is a file"),
        ("full/sub/a.txt/b.zarr", "a.txt is a file"),
    ):
        with pytest.raises(InputError, match=message):
            Location.of(tmp_path / taken).check_new()


def test_check_new__a_folder_that_must_not_be_written_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("os.access", lambda path, mode: False)
    with pytest.raises(InputError, match="is not writable"):
        Location.of(tmp_path / "x.zarr").check_new()
