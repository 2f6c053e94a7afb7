"""`receive` replaces an entry whole or not at all, and only what it may replace."""

import errno
import os
import shutil

import pytest
import xarray as xr

from actome.store.catalog import open_catalog
from actome.store.errors import InputError
from actome.store.housekeeping import gc, staging
from actome.store.integrity import verify
from actome.store.location import Location
from actome.store.results import save_result
from actome.store.sharing import export, receive
from actome.store.sharing.contents import Contents
from actome.store.sharing.entering import Archive

from ..killing import KilledError, killed_after
from .test_package import digest_of, files_of


@pytest.fixture
def replaced(tmp_path):
    """An archive that holds an entry, and a package with another state of it and one more entry."""
    for name, value in (("old/words", 1.0), ("new/words", 2.0), ("new/more", 3.0)):
        ds = xr.Dataset({"effect": ("layer", [value, 4.0])}, attrs={"kind": "fit"})
        save_result(ds, tmp_path / f"{name}.zarr")
    export(tmp_path / "old/words.zarr", tmp_path / "p1", licence="CC0-1.0")
    export([tmp_path / f"new/{n}.zarr" for n in ("words", "more")], tmp_path / "p2", licence="CC-BY-4.0")
    receive(tmp_path / "p1", tmp_path / "archive")
    (tmp_path / "archive/about/words/notes.txt").write_text("mine")
    return tmp_path / "archive", tmp_path / "p2"


@pytest.fixture(params=[True, False], ids=["exchanged", "renamed"])
def exchange(request, monkeypatch):
    """Whether the system can exchange two folders."""
    if not request.param:
        monkeypatch.setattr(staging, "_exchange", lambda a, b: False)
    return request.param


def listed_digest(archive) -> str | None:
    return open_catalog(archive / "catalog.yaml")["words"].metadata.digest


@pytest.mark.slow
def test_receive__killed_anywhere_leaves_one_of_the_two_states(replaced, tmp_path, exchange):
    archive, package = replaced
    shutil.copytree(archive, tmp_path / "before")
    with killed_after(None, archive) as life:
        receive(package, archive, overwrite=True)
    after = files_of(archive)
    states = {digest_of(tmp_path / "before/words.zarr"), digest_of(archive / "words.zarr")}
    seen = set()
    for step in range(len(life.changes)):
        shutil.rmtree(archive)
        shutil.copytree(tmp_path / "before", archive)
        with pytest.raises(KilledError), killed_after(step, archive):
            receive(package, archive, overwrite=True)
        gc(archive, older_than=0)
        assert verify(archive / "words.zarr") == []
        assert not [p for p in archive.rglob(".*") if p.suffix in (".staging", ".replaced")]
        assert (archive / "about/words/notes.txt").read_text() == "mine"
        seen |= {digest_of(archive / "words.zarr"), listed_digest(archive)}
        receive(package, archive, overwrite=True)
        left = {name for name in files_of(archive) if not name.endswith(".partial")}
        assert {name: files_of(archive)[name] for name in left} == after
    assert seen == states


def test_receive__an_error_at_the_end_puts_everything_back(replaced, monkeypatch, exchange):
    archive, package = replaced
    before = files_of(archive)

    def full(self, text):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Archive, "_write_catalog", full)
    with pytest.raises(OSError, match="No space left"):
        receive(package, archive, overwrite=True)
    assert files_of(archive) == before
    assert sorted(p.name for p in archive.iterdir()) == ["about", "catalog.yaml", "words.zarr"]


def test_receive__a_catalog_that_cannot_be_edited_leaves_the_data(replaced):
    archive, package = replaced
    before = files_of(archive / "words.zarr")
    (archive / "catalog.yaml").write_text("version: 1\nsources: {unknown: {}}\n")
    with pytest.raises(InputError, match="catalog"):
        receive(package, archive, overwrite=True)
    assert files_of(archive / "words.zarr") == before


def test_receive__replaces_the_terms_and_keeps_what_else_is_there(replaced):
    archive, package = replaced
    receive(package, archive, overwrite=True)
    about = files_of(archive / "about/words")
    assert about.pop("notes.txt") == b"mine"
    assert about == {name: (package / name).read_bytes() for name in about}
    assert b"CC-BY-4.0" in about["LICENSE.txt"]
    assert not list(archive.rglob(".*.*"))


def test_receive__overwrites_nothing_that_is_in_use_or_not_ours(replaced):
    archive, package = replaced
    path = archive / "words.zarr"
    with Location.of(path).claimed():
        refused(archive, package, "being recorded by another process")
    (path / "notes.txt").write_text("mine")
    refused(archive, package, r"holds files that are not part of it, such as notes\.txt")
    (path / "notes.txt").unlink()
    path.rename(archive / "other.zarr")
    for target in (archive / "other.zarr", archive / "gone"):
        path.symlink_to(target)
        refused(archive, package, "is a link")
        path.unlink()
    path.mkdir()
    (path / "thesis.tex").write_text("mine")
    refused(archive, package, "is no recording and no result")
    shutil.rmtree(archive / "about")
    shutil.rmtree(path)
    (archive / "about").mkdir()
    (archive / "about/words").write_text("mine")
    refused(archive, package, "is no folder, in which the licence")


def refused(archive, package, message: str) -> None:
    before = files_of(archive)
    with pytest.raises(InputError, match=message):
        receive(package, archive, overwrite=True)
    assert files_of(archive) == before
    assert not list(archive.glob(".*"))


def test_receive__overwrites_no_entry_that_is_elsewhere(replaced):
    archive, package = replaced
    (archive / "words.zarr").rename(archive / "moved.zarr")
    catalog = archive / "catalog.yaml"
    catalog.write_text(catalog.read_text().replace("words.zarr", "moved.zarr"))
    refused(archive, package, r"the catalog lists 'words' at .*moved\.zarr, not at .*words\.zarr")


def test_receive__others_use_the_archive_while_it_copies(replaced, monkeypatch):
    archive, package = replaced
    copy_below, called = Contents.copy_below, []

    def copy(self, prefix, folder):
        if not called:
            called.append(prefix)
            with Location.of(archive).claimed():
                pass
            catalog = open_catalog(archive / "catalog.yaml")
            catalog.add("mine", "s3://lab/mine.zarr", look=False)
            catalog.save()
            assert [r.is_new for r in receive(package, archive, overwrite=True)] == [True, True]
        copy_below(self, prefix, folder)

    monkeypatch.setattr(Contents, "copy_below", copy)
    assert [r.is_new for r in receive(package, archive, overwrite=True)] == [False, False]
    assert called  # the other import was first
    assert list(open_catalog(archive / "catalog.yaml")) == ["words", "mine", "more"]
    assert not list(archive.glob(".*"))


def test_receive__brings_an_entry_up_to_date_whose_digest_is_of_another_state(replaced):
    archive, package = replaced
    text = (archive / "catalog.yaml").read_text()
    old = listed_digest(archive)
    receive(package, archive, overwrite=True)
    (archive / "catalog.yaml").write_text(f"# of the lab\n{text}")  # as a kill before the catalog leaves it
    assert listed_digest(archive) == old
    assert [r.is_new for r in receive(package, archive)] == [False, False]
    assert listed_digest(archive) == digest_of(archive / "words.zarr") != old
    assert (archive / "catalog.yaml").read_text().startswith("# of the lab\n")


def test_gc__sweeps_what_a_killed_import_and_a_killed_export_left(replaced, tmp_path):
    archive, package = replaced
    with pytest.raises(KilledError), killed_after(20, archive):
        receive(package, archive, overwrite=True)
    with pytest.raises(KilledError), killed_after(9, tmp_path / "out"):
        (tmp_path / "out").mkdir()
        export(tmp_path / "new/words.zarr", tmp_path / "out/words")
    for folder, name in ((archive, ".words.zarr.import-"), (tmp_path / "out", ".words.export-")):
        assert sorted(folder.glob(".*"))[-1].name.startswith(name)
        assert {g.done for g in gc(folder)} == {"changed less than 1 h ago, left"}
        found = gc(folder, older_than=0)
        assert {(g.what, g.done) for g in found} == {("a folder in which a new state was built", "removed")}
        assert sum(g.n_bytes for g in found) > 0 and not list(folder.glob(".*"))
    assert verify(archive / "words.zarr") == []


def test_gc__leaves_an_export_in_progress(replaced, tmp_path, monkeypatch):
    read_whole, found = Location.read, []

    def read(self, key):
        if not found and list(tmp_path.glob(".p.export-*")):
            found.append("asked")
            found.extend(g.done for g in gc(tmp_path, older_than=0))
        return read_whole(self, key)

    monkeypatch.setattr(Location, "read", read)
    export(tmp_path / "new/words.zarr", tmp_path / "p")
    assert found == ["asked", "another process writes it, left"]
