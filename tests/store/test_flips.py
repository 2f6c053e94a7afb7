"""Any flipped byte is found, and named in the file where it is."""

import shutil
import zipfile
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from actome.store.errors import ActomeError
from actome.store.integrity import verify
from actome.store.location import Location
from actome.store.manifest import MANIFEST
from actome.store.results import save_result

from .location.servers import BUCKET, s3_server
from .location.test_place import zipped
from .test_writer import written

KINDS = (
    "mlp/activation/c/", "mlp/summary/mean/c/", "condition/c/", "mlp/layer/c/", "recorded/c/",
    "zarr.json", "mlp/zarr.json", "mlp/activation/zarr.json",
    "actome/manifest.json", "actome/units/", "actome/paradigm.yaml",
)  # fmt: skip


@pytest.fixture(scope="module")
def recording(tmp_path_factory) -> Path:
    """With a paradigm, in 5 units."""
    path = tmp_path_factory.mktemp("flips") / "r.zarr"
    written(path)
    return path


@pytest.fixture(scope="module")
def result(tmp_path_factory) -> Path:
    ds = xr.Dataset({"stat": (("layer", "neuron"), np.random.default_rng(0).random((3, 50)))})
    return Path(save_result(ds, tmp_path_factory.mktemp("flips") / "result.zarr"))


def keys(path: Path) -> list[str]:
    return sorted(p.relative_to(path).as_posix() for p in path.rglob("*") if p.is_file())


@contextmanager
def flipped(file: Path, position: int, mask: int):
    """Change one byte of a file for a while."""
    content = file.read_bytes()
    damaged = bytearray(content)
    damaged[position % len(content)] ^= mask
    file.write_bytes(damaged)
    try:
        yield
    finally:
        file.write_bytes(content)


def is_named(key: str, lines: list[str]) -> bool:
    """Say whether one line names the file; of root and manifest, either may be named with the other."""
    doubt = lines[0].startswith(f"damaged: zarr.json or {MANIFEST}: ")
    if key == MANIFEST:  # its lines then say nothing sure of others
        sure = lines == [f"damaged: {MANIFEST} is not readable"]
        return sure or (doubt and all(MANIFEST in x for x in lines if "foreign" not in x))
    return len(lines) == 1 and (
        lines[0].split(" ")[:2] == ["damaged:", key] or (doubt and key == "zarr.json")
    )


def test_verify__finds_a_hundred_flipped_bytes_each_in_its_file(recording):
    rng = np.random.default_rng(0)
    files = keys(recording)
    assert all(any(key.startswith(kind) for key in files) for kind in KINDS)
    for i in range(100):
        kind = KINDS[i % len(KINDS)]
        key = str(rng.choice([key for key in files if key.startswith(kind)]))
        with flipped(recording / key, int(rng.integers(2**31)), int(rng.integers(1, 256))):
            assert is_named(key, lines := verify(recording)), (key, lines)
    assert verify(recording) == []


@settings(max_examples=30)
@given(data=st.data())
@pytest.mark.parametrize("kind", ["recording", "result"])
def test_verify__finds_any_flipped_byte(kind, data, request):
    path = request.getfixturevalue(kind)
    key = data.draw(st.sampled_from(keys(path)))
    position = data.draw(st.integers(0, (path / key).stat().st_size - 1))
    with flipped(path / key, position, data.draw(st.integers(1, 255))):
        assert is_named(key, lines := verify(path)), lines


@pytest.mark.slow
@pytest.mark.parametrize("name", ["zarr.json", MANIFEST])
def test_verify__finds_every_flipped_bit_of_the_root_and_the_manifest(result, name):
    for position in range((result / name).stat().st_size):
        for bit in range(8):
            with flipped(result / name, position, 1 << bit):
                assert is_named(name, lines := verify(result)), (position, bit, lines)


@pytest.mark.slow
def test_verify__finds_flipped_bytes_on_s3(recording):
    rng = np.random.default_rng(1)
    with s3_server():
        location = Location.of(f"s3://{BUCKET}/r.zarr")
        location.fs.put(str(recording), f"{BUCKET}/", recursive=True)
        assert verify(str(location)) == []
        for key in rng.choice(keys(recording), 4, replace=False):
            content = location.read(key)
            damaged = bytearray(content)
            damaged[int(rng.integers(len(content)))] ^= int(rng.integers(1, 256))
            location.write(key, bytes(damaged))
            assert is_named(key, lines := verify(str(location))), (key, lines)
            location.write(key, content)


@settings(max_examples=150)
@given(data=st.data())
def test_verify__a_flipped_byte_of_a_zip_file_changes_nothing_or_is_found(result, tmp_path_factory, data):
    file = zipped(result, tmp_path_factory.mktemp("zip") / "r.zarr.zip")
    position = data.draw(st.integers(0, file.stat().st_size - 1) | st.integers(-2000, -1))
    with flipped(file, position, data.draw(st.integers(1, 255))):
        try:
            sound = verify(file) == []
        except ActomeError:
            sound = False
        if sound:
            location = Location.of(file)
            assert {k: location.read(k) for k in location.keys()} == {
                k: (result / k).read_bytes() for k in keys(result)
            }


def test_verify__a_zip_file_cut_off_is_refused_or_damaged(result, tmp_path):
    whole = zipped(result, tmp_path / "r.zarr.zip").read_bytes()
    for size in (0, 1, 100, len(whole) // 2, len(whole) - 1):
        (tmp_path / "cut.zarr.zip").write_bytes(whole[:size])
        with pytest.raises(ActomeError, match=r"no path and no URL that can be read|is refused"):
            verify(tmp_path / "cut.zarr.zip")


def test_verify__names_the_damaged_member_of_a_zip_file(recording, tmp_path):
    copy = Path(shutil.copytree(recording, tmp_path / "copy.zarr"))
    file = zipped(copy, tmp_path / "copy.zarr.zip")
    with zipfile.ZipFile(file) as archive:
        member = archive.getinfo("mlp/activation/c/1/0/0/0")
    with flipped(file, member.header_offset + 30 + len(member.filename) + 5, 1):
        assert verify(file) == ["damaged: mlp/activation/c/1/0/0/0"]
