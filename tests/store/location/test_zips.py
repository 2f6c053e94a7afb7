import io
import stat
import zipfile
from pathlib import Path

import numpy as np
import pytest

from actome.store.archive import open as open_recording
from actome.store.errors import InputError, StorageError
from actome.store.location import Location
from actome.store.location.zips import RemoteFile

from .servers import faulty_proxy, static_server
from .test_place import zipped


def with_member(file: Path, name: str, content: bytes = b"x", **attributes) -> Path:
    """Make a ZIP file of one member, as no honest program writes it."""
    info = zipfile.ZipInfo("placeholder")
    info.filename = name
    for attribute, value in attributes.items():
        setattr(info, attribute, value)
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(info, content)
    return file


@pytest.mark.parametrize(
    "name", ["../zarr.json", "a/../../zarr.json", "/etc/zarr.json", "C:/zarr.json", "a\\zarr.json"]
)
def test_open_zip__a_member_that_leads_out_is_refused(tmp_path, name):
    file = with_member(tmp_path / "x.zip", name)
    with pytest.raises(InputError, match=r"x\.zip is refused: its member .* leads out of it"):
        Location.of(file)


def test_open_zip__a_link_is_refused(tmp_path):
    file = with_member(
        tmp_path / "x.zip", "zarr.json", b"/etc/passwd", external_attr=(stat.S_IFLNK | 0o777) << 16
    )
    with pytest.raises(InputError, match=r"its member 'zarr\.json' is a symbolic link"):
        Location.of(file)


def test_open_zip__a_bomb_is_refused_before_it_is_unpacked(tmp_path):
    bomb = bytes(2**25)
    file = with_member(tmp_path / "x.zip", "zarr.json", bomb, compress_type=zipfile.ZIP_DEFLATED)
    assert file.stat().st_size < 2**16
    with pytest.raises(InputError, match="is far larger than what it is packed in"):
        Location.of(file)


def test_open_zip__a_member_that_is_there_twice_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("zarr.json", b"{}")
        with pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr("zarr.json", b"[]")
    with pytest.raises(InputError, match=r"its member 'zarr\.json' is there twice"):
        Location.of(tmp_path / "x.zip")


@pytest.mark.parametrize(
    ("offset", "value", "problem"),
    [(8, 1, "is encrypted"), (10, 97, "is compressed by a method that is not known")],
)
def test_open_zip__what_cannot_be_unpacked_is_refused(tmp_path, offset, value, problem):
    file = with_member(tmp_path / "x.zip", "zarr.json")
    content = bytearray(file.read_bytes())
    content[content.rindex(b"PK\x01\x02") + offset] = value
    file.write_bytes(content)
    with pytest.raises(InputError, match=problem):
        Location.of(file)


def test_open_zip__the_one_folder_in_it_is_the_recording(tiny, tiny_path, tmp_path):
    with zipfile.ZipFile(tmp_path / "tiny.zarr.zip", "w") as archive:
        for path in sorted(tiny_path.rglob("*")):
            archive.write(path, path.relative_to(tiny_path.parent))
    ds = open_recording(tmp_path / "tiny.zarr.zip")
    np.testing.assert_array_equal(ds["activation"], tiny["activation"])
    assert Location.of(tmp_path / "tiny.zarr.zip").keys() == Location.of(tiny_path).keys()


@pytest.mark.parametrize("ranges", [False, True])
def test_remote_file__reads_as_a_file_does(tmp_path, rng, ranges):
    content = rng.bytes(700_000)
    (tmp_path / "x.bin").write_bytes(content)
    with static_server(tmp_path, ranges=ranges) as url:
        location = Location.of(url)
        file, expected = RemoteFile(location.fs, f"{url}/x.bin"), io.BytesIO(content)
        for _ in range(100):
            place, whence = int(rng.integers(-700_000, 700_000)), int(rng.choice([0, 1, 2]))
            if whence == 0 or expected.tell() + place < 0 or (whence == 2 and place < -len(content)):
                place = abs(place)
            assert file.seek(place, whence) == expected.seek(place, whence)
            n = int(rng.choice([-1, 0, 1, 30, 5000, 300_000]))
            assert file.read(n) == expected.read(n)
        file.close()


def test_open_zip__a_remote_one_is_read_by_ranges(tiny_path, tmp_path, monkeypatch):
    monkeypatch.setattr("actome.store.location.retries._FIRST_WAIT", 0.001)
    (tmp_path / "web").mkdir()
    zipped(tiny_path, tmp_path / "web" / "tiny.zarr.zip")
    with static_server(tmp_path / "web", ranges=True) as url, faulty_proxy(url) as (proxy, faults):
        faults.set("slow", only="zip")  # counts the requests
        location = Location.of(f"{proxy}/tiny.zarr.zip")
        opened = faults.done["slow"]
        assert opened <= 4
        location.read("mlp/activation/c/0/0/0/0")
        assert faults.done["slow"] <= opened + 2
        faults.set("drop")
        with pytest.raises(
            StorageError, match=r"tiny\.zarr\.zip cannot be read, though it was tried several times"
        ):
            Location.of(f"{proxy}/tiny.zarr.zip")
