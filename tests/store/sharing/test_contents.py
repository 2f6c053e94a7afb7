"""A package that unpacks to more than it should is refused before it is unpacked, whoever reads it."""

import shutil
import zipfile
from collections import namedtuple
from pathlib import Path

import pytest

from actome.store.errors import DamagedError, InputError
from actome.store.sharing import checksums, contents, export, push, receive
from actome.store.sharing.container import digest_file
from actome.store.sharing.contents import Contents, is_package, open_contents
from actome.store.sharing.transfer import forecast_push

BOMB = bytes(2**25)


@pytest.fixture
def package(lab, tmp_path) -> Path:
    export(lab.recording, tmp_path / "p")
    return tmp_path / "p"


def pack(folder: Path, file: Path, method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(file, "w", method) as archive:
        for path in sorted(p for p in folder.rglob("*") if p.is_file()):
            archive.write(path, path.relative_to(folder))
    return file


def enter(folder: Path, name: str, content: bytes) -> None:
    """Add a member as a forger would."""
    (folder / name).write_bytes(content)
    with (folder / "SHA256SUMS").open("a") as sums:
        sums.write(f"{digest_file(folder / name)}  {name}\n")


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_open_contents__a_bomb_is_refused_by_all_that_read_packages(package, tmp_path, monkeypatch, method):
    enter(package, "words.zarr/bomb", BOMB)
    file = pack(package, tmp_path / "p.zip", method)
    monkeypatch.setattr(zipfile.ZipFile, "open", None)  # nothing is unpacked
    for read in (
        lambda: receive(file, tmp_path / "archive"),
        lambda: is_package(file),
        lambda: push(file, "s3://lab/x"),
        lambda: forecast_push(file, "s3://lab/x"),
    ):
        with pytest.raises(InputError, match=r"p\.zip is refused: its member .* (far larger|compressed by)"):
            read()
    assert not (tmp_path / "archive").exists()


def test_receive__refuses_an_entry_that_is_a_bomb(lab, tmp_path):
    export(lab.recording, tmp_path / "p", packed=True)
    with zipfile.ZipFile(tmp_path / "p" / "words.zip", "a", zipfile.ZIP_DEFLATED) as file:
        file.writestr("bomb", BOMB)
    sums = (tmp_path / "p" / "SHA256SUMS").read_text().splitlines()
    sums = [line for line in sums if not line.endswith("words.zip")]
    (tmp_path / "p" / "SHA256SUMS").write_text("\n".join(sums) + "\n")
    enter(tmp_path / "p", "words.zip", (tmp_path / "p" / "words.zip").read_bytes())
    with pytest.raises(InputError, match="its member 'bomb' is far larger than what it is packed in"):
        receive(tmp_path / "p", tmp_path / "archive")


def test_copy_below__refuses_what_the_disk_has_no_room_for(package, tmp_path, monkeypatch):
    n_bytes = sum(p.stat().st_size for p in package.rglob("words.zarr/**/*") if p.is_file())
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(0, 0, n_bytes - 1))
    for place in (package, pack(package, tmp_path / "p.zip")):
        with open_contents(place) as found:
            with pytest.raises(
                InputError, match=f"would take {n_bytes:,} bytes, and {n_bytes - 1:,} are free"
            ):
                found.copy_below("words.zarr/", tmp_path / "new" / "x")
    assert not (tmp_path / "new").exists()
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(0, 0, n_bytes))
    Contents(package).copy_below("words.zarr/", tmp_path / "new" / "x")


def test_read__of_a_member_that_is_too_long(package, tmp_path, monkeypatch):
    size = (package / "README.md").stat().st_size
    for place in (package, pack(package, tmp_path / "p.zip")):
        with open_contents(place) as found:
            assert len(found.read("README.md", most=size)) == size == found.size("README.md")
            with pytest.raises(InputError, match=f"README.md has {size:,} bytes, and {size - 1:,} are read"):
                found.read("README.md", most=size - 1)
    monkeypatch.setattr(checksums, "MOST_BYTES", 100)
    with pytest.raises(InputError, match=r"SHA256SUMS has .* and 100 are read at most"):
        receive(package, tmp_path / "archive")


def test_pieces__of_a_member_that_cannot_be_unpacked(package, tmp_path):
    file = pack(package, tmp_path / "p.zip")
    with zipfile.ZipFile(file) as archive:
        place = archive.getinfo("README.md").header_offset + 60
    content = bytearray(file.read_bytes())
    content[place : place + 20] = b"\xff" * 20
    file.write_bytes(content)
    with pytest.raises(DamagedError, match=r"README\.md cannot be unpacked"):
        receive(file, tmp_path / "archive")


@pytest.mark.parametrize("zipped", [False, True])
def test_forecast_push__reads_no_member(package, tmp_path, monkeypatch, zipped):
    sizes = {p.relative_to(package).as_posix(): p.stat().st_size for p in package.rglob("*") if p.is_file()}
    del sizes["SHA256SUMS"]
    place = pack(package, tmp_path / "p.zip") if zipped else package
    read = []
    for kind in (contents.Contents, contents.ZipContents):
        inner = kind.pieces
        monkeypatch.setattr(
            kind, "pieces", lambda self, name, inner=inner: read.append(name) or inner(self, name)
        )
    assert forecast_push(place, "s3://lab/x") == sizes
    assert read == ["SHA256SUMS"]


def test_forecast_push__names_what_is_missing(package):
    (package / "README.md").unlink()
    with pytest.raises(DamagedError, match=r"is not as it was exported: missing: README\.md"):
        forecast_push(package, "s3://lab/x")
