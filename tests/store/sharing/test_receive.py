"""`receive`: what enters an archive, and how a package that was tampered with does not."""

import os
import shutil
import stat
import zipfile
from pathlib import Path

import pytest

from actome.store.archive import open as open_entry
from actome.store.catalog import open_catalog
from actome.store.errors import ActomeError, InputError, MissingFileError
from actome.store.integrity import verify
from actome.store.sharing import export, receive
from actome.store.sharing.checksums import check_names, read_sums
from actome.store.sharing.container import digest_file

from ..killing import KilledError, killed_after
from .test_package import digest_of, files_of

FORMS = {"folder": ("p", False), "zip": ("p.zip", False), "packed": ("p", True)}


@pytest.fixture(params=FORMS)
def package(request, lab, tmp_path):
    name, packed = FORMS[request.param]
    export(["words", "animals-contrast"], tmp_path / name, catalog=lab.folder / "catalog.yaml", packed=packed)
    return tmp_path / name


def test_receive__enters_the_same_bytes(package, lab, tmp_path):
    received = receive(package, tmp_path / "archive")
    assert [(r.name, r.is_new) for r in received] == [("words", True), ("animals-contrast", True)]
    assert files_of(tmp_path / "archive" / "words.zarr") == files_of(lab.recording)
    assert files_of(tmp_path / "archive" / "animals-contrast.zarr") == files_of(lab.result)
    catalog = open_catalog(tmp_path / "archive" / "catalog.yaml")
    before = open_catalog(lab.folder / "catalog.yaml")["words"]
    entry = catalog["words"]
    assert entry.args.urlpath == "{{ CATALOG_DIR }}/words.zarr"
    assert (entry.description, entry.metadata.licence) == (before.description, "CC0-1.0")
    assert (entry.metadata.citation, entry.metadata.digest) == (
        before.metadata.citation,
        digest_of(lab.recording),
    )
    assert catalog.open("words", site="mlp").load().equals(open_entry(lab.recording, site="mlp").load())
    about = {p.name for p in (tmp_path / "archive" / "about" / "words").iterdir()}
    assert about == {"LICENSE.txt", "CITATION.cff", "README.md"}
    assert not list((tmp_path / "archive").glob(".*"))


def test_receive__leaves_what_is_there_alone(package, tmp_path):
    receive(package, tmp_path / "archive")
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "archive").rglob("*.zarr/**/*")}
    text = (tmp_path / "archive" / "catalog.yaml").read_text()
    assert [r.is_new for r in receive(package, tmp_path / "archive")] == [False, False]
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "archive").rglob("*.zarr/**/*")} == before
    assert (tmp_path / "archive" / "catalog.yaml").read_text() == text
    (tmp_path / "archive" / "catalog.yaml").unlink()
    receive(package, tmp_path / "archive")
    assert list(open_catalog(tmp_path / "archive" / "catalog.yaml")) == ["words", "animals-contrast"]


def test_receive__a_name_that_is_taken(lab, tmp_path):
    export(lab.recording, tmp_path / "whole")
    export(lab.recording, tmp_path / "part", layers=[4])
    archive = tmp_path / "archive"
    receive(tmp_path / "whole", archive)
    before = files_of(archive)
    with pytest.raises(InputError, match="has an entry 'words' already, with other content"):
        receive(tmp_path / "part", archive)
    assert files_of(archive) == before
    receive(tmp_path / "part", archive, rename={"words": "words-4"})
    assert list(open_catalog(archive / "catalog.yaml")) == ["words", "words-4"]
    receive(tmp_path / "part", archive, overwrite=True)
    assert digest_of(archive / "words.zarr") == digest_of(archive / "words-4.zarr")
    catalog = open_catalog(archive / "catalog.yaml")
    assert catalog["words"].metadata.digest == digest_of(archive / "words.zarr")
    assert verify(archive / "words.zarr") == [] and not list(archive.glob(".*"))


def test_receive__a_folder_in_the_way_that_the_catalog_does_not_know(lab, tmp_path):
    export(lab.recording, tmp_path / "p")
    (tmp_path / "archive" / "words.zarr").mkdir(parents=True)
    (tmp_path / "archive" / "words.zarr" / "mine").write_text("x")
    with pytest.raises(InputError, match="has an entry 'words' already"):
        receive(tmp_path / "p", tmp_path / "archive")
    assert (tmp_path / "archive" / "words.zarr" / "mine").read_text() == "x"


def test_receive__into_another_catalog(lab, tmp_path):
    export(lab.recording, tmp_path / "p")
    (tmp_path / "mine.yaml").write_text("# of the lab\nversion: 1\nsources: {}\n")
    receive(tmp_path / "p", tmp_path / "data", catalog=tmp_path / "mine.yaml")
    text = (tmp_path / "mine.yaml").read_text()
    assert text.startswith("# of the lab\n") and "data/words.zarr" in text
    assert open_catalog(tmp_path / "mine.yaml").is_built("words")


def test_receive__removes_what_a_killed_import_left(lab, tmp_path):
    export(lab.recording, tmp_path / "p")
    with pytest.raises(KilledError), killed_after(40, tmp_path / "archive"):
        receive(tmp_path / "p", tmp_path / "archive")
    (left,) = (tmp_path / "archive").glob(".*")
    receive(tmp_path / "p", tmp_path / "archive")
    assert not left.exists()
    assert verify(tmp_path / "archive/words.zarr") == []


# --- packages that are not what was exported


def refused(package, archive: Path, message: str) -> None:
    with pytest.raises(ActomeError, match=message):
        receive(package, archive)
    assert not archive.exists() or not any(p.is_file() for p in archive.rglob("*"))


def resum(folder: Path, *names: str) -> None:
    """Write the checksums that a forger would."""
    sums = read_sums((folder / "SHA256SUMS").read_text(), "p")
    sums |= {name: digest_file(folder / name) for name in names}
    (folder / "SHA256SUMS").write_text("".join(f"{d}  {n}\n" for n, d in sums.items()))


@pytest.fixture
def folder(lab, tmp_path):
    export(lab.recording, tmp_path / "p")
    return tmp_path / "p"


def test_receive__refuses_a_file_that_is_damaged_missing_or_foreign(folder, tmp_path):
    shard = next(p for p in folder.glob("words.zarr/mlp/activation/c/**/*") if p.is_file())
    content = shard.read_bytes()
    shard.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    refused(folder, tmp_path / "a", "damaged: words.zarr/mlp/activation/c/.*; copy it again")
    shard.unlink()
    refused(folder, tmp_path / "a", "missing: words.zarr/mlp/activation/c/")
    shard.write_bytes(content)
    (folder / "words.zarr" / "more").write_text("x")
    refused(folder, tmp_path / "a", "not in SHA256SUMS: words.zarr/more")


def test_receive__refuses_forged_checksums_by_the_manifest(folder, tmp_path):
    shard = next(p for p in folder.glob("words.zarr/mlp/activation/c/**/*") if p.is_file())
    shard.write_bytes(b"forged")
    resum(folder, shard.relative_to(folder).as_posix())
    refused(folder, tmp_path / "a", "entry 'words' .* is not as it was recorded: damaged: mlp/activation/c/")


def test_receive__refuses_an_entry_that_is_not_the_one_of_the_catalog(lab, folder, tmp_path):
    export(lab.recording, tmp_path / "other", layers=[4])
    shutil.rmtree(folder / "words.zarr")
    shutil.copytree(tmp_path / "other" / "words.zarr", folder / "words.zarr")
    shutil.copy(tmp_path / "other" / "SHA256SUMS", folder / "SHA256SUMS")
    for name in ("README.md", "catalog.yaml", "croissant.json", "ro-crate-metadata.json"):
        resum(folder, name)
    refused(folder, tmp_path / "a", "its digest is sha256:.*, the catalog's sha256:")


@pytest.mark.parametrize(
    "urlpath", ["/etc", "https://example.org/words.zarr", "{{ CATALOG_DIR }}/../words.zarr"]
)
def test_receive__refuses_a_location_outside_the_package(folder, tmp_path, urlpath):
    text = (folder / "catalog.yaml").read_text().replace("{{ CATALOG_DIR }}/words.zarr", urlpath)
    (folder / "catalog.yaml").write_text(text)
    resum(folder, "catalog.yaml")
    refused(folder, tmp_path / "a", "lies elsewhere|leads out")


@pytest.mark.parametrize("name", ["../out", "/out", "a/../../out", "a//b", "a\\..\\out", "C:/out", "./a", ""])
def test_check_names__refuses_what_leads_out(name):
    with pytest.raises(InputError, match="leads out of the package"):
        check_names(["fine/a", name], "p")


@pytest.mark.parametrize("name", ["../out", "/tmp/out", "words.zarr/../../out"])
def test_receive__refuses_a_zip_with_a_member_that_leads_out(folder, tmp_path, name):
    sums = (folder / "SHA256SUMS").read_text()
    with zipfile.ZipFile(tmp_path / "bad.zip", "w") as file:
        for key, content in files_of(folder).items():
            file.writestr(key, content if key != "SHA256SUMS" else sums)
        file.writestr(name, b"x")
    refused(tmp_path / "bad.zip", tmp_path / "a", "is refused: its member .* leads out of it")
    assert not (tmp_path / "out").exists()


def test_receive__refuses_links(folder, tmp_path):
    with zipfile.ZipFile(tmp_path / "bad.zip", "w") as file:
        for key, content in files_of(folder).items():
            file.writestr(key, content)
        link = zipfile.ZipInfo("words.zarr/link")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        file.writestr(link, "/etc/passwd")
    refused(tmp_path / "bad.zip", tmp_path / "a", "its member 'words.zarr/link' is a symbolic link")
    os.symlink("/etc", folder / "words.zarr" / "etc")
    refused(folder, tmp_path / "a", "'words.zarr/etc' is a link")


def test_receive__refuses_an_inner_zip_with_a_member_that_leads_out(lab, tmp_path):
    export(lab.recording, tmp_path / "p", packed=True)
    with zipfile.ZipFile(tmp_path / "p" / "words.zip", "a") as file:
        file.writestr("../../out", b"x")
    resum(tmp_path / "p", "words.zip")
    refused(tmp_path / "p", tmp_path / "a", "is refused: its member .* leads out of it")
    assert not (tmp_path / "out").exists()


def test_receive__refuses_a_name_that_stands_twice(folder, tmp_path):
    with (
        zipfile.ZipFile(tmp_path / "bad.zip", "w") as file,
        pytest.warns(UserWarning, match="Duplicate name"),
    ):
        for key, content in [*files_of(folder).items(), ("README.md", b"other")]:
            file.writestr(key, content)
    refused(tmp_path / "bad.zip", tmp_path / "a", "its member 'README.md' is there twice")


def test_receive__says_what_is_no_package(lab, tmp_path):
    with pytest.raises(MissingFileError, match="there is no package at"):
        receive(tmp_path / "nowhere", tmp_path / "a")
    refused(lab.folder, tmp_path / "a", "is no package: it needs catalog.yaml and SHA256SUMS")
    (tmp_path / "text").write_text("x")
    refused(tmp_path / "text", tmp_path / "a", "is no folder and no ZIP file")
    export(lab.recording, tmp_path / "p")
    with pytest.raises(InputError, match="has no entry 'x' to rename; it has"):
        receive(tmp_path / "p", tmp_path / "a", rename={"x": "y"})
    with pytest.raises(InputError, match="cannot be the name of an entry"):
        receive(tmp_path / "p", tmp_path / "a", rename={"words": "../y"})
    (tmp_path / "p" / "SHA256SUMS").write_text("abc  README.md\n")
    refused(tmp_path / "p", tmp_path / "a", "line 1 is no digest of another file")
