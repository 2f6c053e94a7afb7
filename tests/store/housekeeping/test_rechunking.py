"""A recording cut otherwise: every number as it was."""

import pytest

from actome.store.archive import open as open_recording
from actome.store.errors import InputError
from actome.store.housekeeping import rechunk, rechunking
from actome.store.integrity import verify
from actome.store.location import Location
from actome.store.validation import validate
from actome.store.writer import RecordingWriter

from .conftest import assert_same_numbers, files, provenance_of


@pytest.mark.parametrize(
    ("sizes", "shard", "chunk"),
    [
        ({}, (2, 5, 1, 3), (2, 5, 1, 3)),
        ({"unit": 1}, (1, 5, 1, 3), (1, 5, 1, 3)),
        ({"unit": 11, "tokens": 2}, (11, 6, 1, 3), (11, 2, 1, 3)),
        ({"unit": 4, "tokens": 3, "neurons": 2}, (4, 6, 1, 4), (4, 3, 1, 2)),
    ],
)
def test_rechunk__every_number_stays(recorded, tmp_path, sizes, shard, chunk):
    source = recorded("a", [f"p{i}" for i in range(11)], n_tokens=5, seed=3)
    before = files(source)
    out = rechunk(source, tmp_path / "r.zarr", **sizes)
    assert verify(out) == validate(out) == []
    assert_same_numbers(out, source)
    array = Location.of(out).group()["mlp/activation"]
    assert (array.shards, array.chunks) == (shard, chunk)
    assert files(source) == before
    assert RecordingWriter(Location.of(out)).counts() == RecordingWriter(Location.of(source)).counts()


def test_rechunk__says_where_it_comes_from(recorded, tmp_path):
    source = recorded("a", ["x", "y"])
    rechunk(source, tmp_path / "r.zarr", unit=2)
    provenance, before = provenance_of(tmp_path / "r.zarr"), provenance_of(source)
    assert provenance["inputs"] == before["inputs"]
    assert provenance["derived_from"] == [open_recording(source).attrs["manifest_digest"]]
    assert provenance["operations"][0]["name"] == "rechunk"
    assert provenance["operations"][0]["unit"] == 2
    assert (tmp_path / "r.zarr/actome/paradigm.yaml").read_text() == "name: p\n"


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"unit": 0}, "unit must be a whole number from 1 to 3 here, got 0"),
        ({"unit": 4}, "unit must be a whole number from 1 to 3 here, got 4"),
        ({"tokens": 1.5}, "tokens must be a whole number from 1 to 3 here, got 1.5"),
        ({"neurons": 9}, "neurons must be a whole number from 1 to 3 here, got 9"),
    ],
)
def test_rechunk__refuses_sizes_that_are_not_possible(recorded, tmp_path, sizes, message):
    with pytest.raises(InputError, match=message):
        rechunk(recorded("a", list("abc")), tmp_path / "r.zarr", **sizes)
    assert not (tmp_path / "r.zarr").exists()


@pytest.mark.parametrize("cube", [True, False])
def test_rechunk__refuses_a_unit_that_no_memory_holds(recorded, tmp_path, monkeypatch, cube):
    source = recorded("a", list("abc"), cube=cube)
    per_prompt = 2 * 3 * (24 + cube * 3 * 4)
    monkeypatch.setattr(rechunking, "_LARGEST_UNIT", 2 * per_prompt)
    with pytest.raises(InputError, match=r"a unit of 3 prompts would be .* GB, .* a unit of at most 2"):
        rechunk(source, tmp_path / "r.zarr", unit=3)
    assert not (tmp_path / "r.zarr").exists()
    assert verify(rechunk(source, tmp_path / "r.zarr", unit=2)) == []


def test_rechunk__refuses_a_shard_that_no_reader_could_hold(recorded, tmp_path, monkeypatch):
    monkeypatch.setattr(rechunking, "_LARGEST_SHARD", 100)
    with pytest.raises(InputError, match=r"a shard of site 'mlp' would be .* GB, of at most 1"):
        rechunk(recorded("a", list("abc")), tmp_path / "r.zarr", unit=3)
