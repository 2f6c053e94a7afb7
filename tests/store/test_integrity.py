import json
import re
import shutil
from pathlib import Path

import pytest
import xarray as xr

from actome.store import integrity
from actome.store.archive import save
from actome.store.errors import MissingFileError
from actome.store.integrity import verify
from actome.store.location import Location
from actome.store.manifest import MANIFEST, unit_file, write_manifest
from actome.store.provenance import digest_bytes
from actome.store.results import save_result


@pytest.fixture
def result_path(tmp_path) -> Path:
    ds = xr.Dataset({"stat": (("layer", "neuron"), [[1.0, 2.0]])}, attrs={"note": "é"})
    return Path(save_result(ds, tmp_path / "result.zarr"))


def every_file(path: Path) -> list[Path]:
    return sorted(p for p in path.rglob("*") if p.is_file())


def one_of_each(path: Path) -> list[Path]:
    """One chunk of every array, and all other files."""
    kinds = {re.sub(r"\d+", "", str(p.relative_to(path))): p for p in every_file(path)}
    return list(kinds.values())


def flip(path: Path, position: int) -> None:
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)


def test_verify__nothing_to_say_about_a_sound_one(tiny_path, result_path):
    assert verify(tiny_path) == []
    assert verify(result_path) == []


@pytest.mark.parametrize("kind", ["tiny_path", "result_path"])
def test_verify__finds_one_flipped_bit_in_any_file(kind, request, rng):
    path = request.getfixturevalue(kind)
    for file in one_of_each(path):
        key = str(file.relative_to(path))
        content = file.read_bytes()
        flip(file, int(rng.integers(len(content))))
        lines = verify(path)
        if key == MANIFEST:
            assert lines[0].startswith("damaged: ") and MANIFEST in lines[0]
        else:
            (line,) = lines
            assert line.startswith(f"damaged: {key}")
        file.write_bytes(content)
    assert verify(path) == []


@pytest.mark.parametrize("name", ["zarr.json", MANIFEST])
def test_verify__finds_a_flipped_bit_anywhere_in_the_root_and_the_manifest(result_path, name):
    file = result_path / name
    content = file.read_bytes()
    for position in range(0, len(content), 7):
        flip(file, position)
        assert any(name in line for line in verify(result_path)), position
        file.write_bytes(content)


def test_verify__finds_every_missing_file(tiny_path):
    for file in one_of_each(tiny_path):
        content = file.read_bytes()
        file.unlink()
        lines = verify(tiny_path)
        assert lines == [f"missing: {file.relative_to(tiny_path)}"]
        file.write_bytes(content)


def test_verify__finds_foreign_files(tiny_path):
    (tiny_path / "mlp/activation/c/9").mkdir(parents=True)
    (tiny_path / "mlp/activation/c/9/0").write_bytes(b"")
    (tiny_path / "notes.txt").write_text("mine")
    assert verify(tiny_path) == ["foreign: mlp/activation/c/9/0", "foreign: notes.txt"]


def test_verify__a_root_written_otherwise_is_damaged(tiny_path):
    with (tiny_path / "zarr.json").open("ab") as file:
        file.write(b"\n")
    assert verify(tiny_path) == ["damaged: zarr.json"]


def test_verify__two_exchanged_files_are_both_damaged(tiny_path):
    a, b = tiny_path / "token_id/c/0/0", tiny_path / "token_id/c/1/0"
    one, two = a.read_bytes(), b.read_bytes()
    assert one != two
    a.write_bytes(two)
    b.write_bytes(one)
    assert verify(tiny_path) == ["damaged: token_id/c/0/0", "damaged: token_id/c/1/0"]


def test_verify__a_manifest_made_to_fit_the_damage_is_found(tiny_path):
    manifest = json.loads((tiny_path / MANIFEST).read_text())
    (tiny_path / "notes.txt").write_text("mine")
    manifest["files"]["notes.txt"] = "sha256:" + "0" * 64
    (tiny_path / MANIFEST).write_text(json.dumps(manifest, indent=1))
    assert DOUBT in verify(tiny_path)


DOUBT = f"damaged: zarr.json or {MANIFEST}: the one does not name the other by its digest"


def test_verify__where_root_and_manifest_disagree_either_may_be_damaged(tiny_path):
    root, manifest = ((tiny_path / name).read_text() for name in ("zarr.json", MANIFEST))
    noted = json.loads(root)["attributes"]["manifest_digest"]
    (tiny_path / "zarr.json").write_text(root.replace(noted, "sha256:" + "0" * 64))
    assert verify(tiny_path) == [DOUBT]  # a note that is another throughout
    (tiny_path / "zarr.json").write_text(root)
    listed = json.loads(manifest)["files"]
    for key, said in (("text/c/1", []), ("text/zarr.json", ["damaged: text/zarr.json, or its line in"])):
        (tiny_path / MANIFEST).write_text(manifest.replace(listed[key], "sha256:" + "0" * 64))
        lines = verify(tiny_path)  # the units keep the digests of what is in /c/
        assert lines == [DOUBT, *(f"{line} {MANIFEST} is" for line in said)]


@pytest.mark.parametrize("content", [b"", b"[]", b"null", b"\xff", b'{"files": 3}', b'{"attributes": 3}'])
def test_verify__never_raises_on_damage(tiny_path, content):
    for name in ("zarr.json", MANIFEST):
        before = (tiny_path / name).read_bytes()
        (tiny_path / name).write_bytes(content)
        assert any(line.startswith(f"damaged: {name}") for line in verify(tiny_path))
        (tiny_path / name).write_bytes(before)


def unfinished(path: Path) -> None:
    (path / MANIFEST).unlink()
    root = json.loads((path / "zarr.json").read_text())
    del root["attributes"]["manifest_digest"]
    (path / "zarr.json").write_text(json.dumps(root))


def test_verify__checks_the_complete_units_of_an_unfinished_recording(tiny_path):
    unfinished(tiny_path)
    first = "unfinished: no manifest; only complete units are checked"
    assert verify(tiny_path) == [first]
    flip(tiny_path / "mlp/activation/c/2/0/1/0", 5)
    (tiny_path / "prompt/c/4").unlink()
    assert verify(tiny_path) == [first, "damaged: mlp/activation/c/2/0/1/0", "missing: prompt/c/4"]
    (tiny_path / unit_file(2)).write_bytes(b"{")
    assert verify(tiny_path)[1] == f"damaged: {unit_file(2)} is not readable"
    (tiny_path / "recorded/zarr.json").write_bytes(b"{}")
    assert verify(tiny_path) == [first, "damaged: recorded/zarr.json is not readable"]


def declare_units(path: Path, n: int) -> None:
    """Make a recording say that it will have so many units."""
    metadata = json.loads((path / "recorded/zarr.json").read_text())
    metadata["shape"] = [n * metadata["chunk_grid"]["configuration"]["chunk_shape"][0]]
    (path / "recorded/zarr.json").write_text(json.dumps(metadata))


def test_verify__a_recording_that_declares_any_number_of_units_comes_to_an_end(tiny_path, monkeypatch):
    unfinished(tiny_path)
    declare_units(tiny_path, 10**15)
    (tiny_path / "actome/units/notes.json").write_text("{}")
    left, inner = [50], integrity._optional

    def optional(location, key):
        left[0] -= 1
        assert left[0], "it goes through the units that are not there"
        return inner(location, key)

    monkeypatch.setattr(integrity, "_optional", optional)
    flip(tiny_path / "mlp/activation/c/2/0/1/0", 5)
    assert verify(tiny_path)[1:] == ["damaged: mlp/activation/c/2/0/1/0"]


def test_verify__damage_between_the_unit_and_the_manifest_is_found(tiny, tmp_path, monkeypatch):
    def damage_first(self):
        flip(tmp_path / "r.zarr/mlp/activation/c/0/0/0/0", 0)
        finalise(self)

    from actome.store.writer import RecordingWriter

    finalise = RecordingWriter.finalise
    monkeypatch.setattr(RecordingWriter, "finalise", damage_first)
    save(tiny, tmp_path / "r.zarr")
    assert verify(tmp_path / "r.zarr") == ["damaged: mlp/activation/c/0/0/0/0"]


def test_verify__a_copy_elsewhere_is_sound(tiny_path, tmp_path):
    shutil.copytree(tiny_path, tmp_path / "copy.zarr")
    assert verify(tmp_path / "copy.zarr") == []


def test_verify__reaches_other_file_systems(tiny):
    path = save(tiny, "memory://test_verify/a.zarr")
    assert verify(path) == []


def test_verify__says_that_there_is_nothing(tmp_path):
    with pytest.raises(MissingFileError, match="there is no recording or result at"):
        verify(tmp_path / "nowhere.zarr")
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(MissingFileError, match="there is no recording or result at"):
        verify(tmp_path)


def test_verify__a_link_out_of_the_recording_is_foreign(tiny_path, tmp_path):
    shard = tiny_path / "mlp/activation/c/0/0/0/0"
    shard.rename(tmp_path / "elsewhere")
    shard.symlink_to(tmp_path / "elsewhere")
    (tiny_path / "text/c/0").rename(tiny_path / "text/c/0.moved")
    (tiny_path / "text/c/0").symlink_to("0.moved")  # stays inside
    (tiny_path / "more").symlink_to(tmp_path, target_is_directory=True)
    assert verify(tiny_path) == [
        "foreign: text/c/0.moved",
        "foreign: mlp/activation/c/0/0/0/0 is a link out of the recording",
        "foreign: more is a link out of the recording",
    ]
    unfinished(tiny_path)
    assert verify(tiny_path)[1:] == [
        "foreign: mlp/activation/c/0/0/0/0 is a link out of the recording",
        "foreign: more is a link out of the recording",
    ]


def test_verify__a_link_that_leads_nowhere_is_a_missing_file(tiny_path):
    (tiny_path / "text/c/0").unlink()
    (tiny_path / "text/c/0").symlink_to("nowhere")
    assert verify(tiny_path) == ["missing: text/c/0"]


def test_verify__a_file_that_cannot_be_read_is_named(tiny_path, monkeypatch):
    pieces = Location.pieces

    def broken(self, key):
        if key == "text/c/1":
            raise OSError(5, "Input/output error")
        return pieces(self, key)

    monkeypatch.setattr(Location, "pieces", broken)
    assert verify(tiny_path) == ["damaged: text/c/1 cannot be read: Input/output error"]


def test_verify__large_files_are_read_in_pieces(tiny_path, monkeypatch):
    monkeypatch.setattr("actome.store.location.place._PIECE", 7)
    assert {len(piece) for piece in list(Location.of(tiny_path).pieces("zarr.json"))[:-1]} == {7}
    assert verify(tiny_path) == []


def indexed(path: Path, source: str | None = None) -> Path:
    """Add an index of one file."""
    root = json.loads((path / "zarr.json").read_text())
    digest = root["attributes"]["manifest_digest"] if source is None else source
    folder = path / "actome/index"
    folder.mkdir(parents=True)
    (folder / "top.parquet").write_bytes(b"values")
    content = {"source": digest, "files": {"actome/index/top.parquet": digest_bytes(b"values")}}
    (folder / "manifest.json").write_text(json.dumps(content))
    return folder


def test_verify__an_index_is_checked_against_its_own_manifest(tiny_path):
    folder = indexed(tiny_path)
    assert verify(tiny_path) == []
    (folder / "more.parquet").write_bytes(b"")
    flip(folder / "top.parquet", 0)
    assert verify(tiny_path) == ["damaged: actome/index/top.parquet", "foreign: actome/index/more.parquet"]
    (folder / "manifest.json").write_text("{")
    assert verify(tiny_path)[0] == "damaged: actome/index/manifest.json is not readable"


def test_verify__an_index_of_other_numbers_is_stale(tiny_path):
    indexed(tiny_path, "sha256:0")
    (line,) = verify(tiny_path)
    assert line.startswith("stale: actome/index/ was made of sha256:0, this is sha256:")


def test_write_manifest__leaves_the_index_out(tiny_path):
    indexed(tiny_path)
    before = (tiny_path / MANIFEST).read_bytes()
    write_manifest(Location.of(tiny_path))
    assert (tiny_path / MANIFEST).read_bytes() == before
