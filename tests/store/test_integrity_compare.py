import json
import shutil
from pathlib import Path

import pytest

from actome.store.archive import save
from actome.store.errors import DamagedError, InputError, MissingFileError
from actome.store.integrity import compare
from actome.store.location import Location
from actome.store.manifest import MANIFEST, write_manifest

from .test_integrity import flip, unfinished


def test_compare__names_what_differs_without_reading_a_shard(tiny, tiny_path, tmp_path, monkeypatch):
    other = tiny.copy(deep=True)
    other["activation"][0, 0, 1, 2] += 1
    other = Path(save(other.drop_vars("run"), tmp_path / "other.zarr"))
    fetched = []
    fetch = Location.fetch

    def count(self, key, *place):
        fetched.append(key)
        return fetch(self, key, *place)

    monkeypatch.setattr(Location, "fetch", count)
    lines = compare(tiny_path, other)
    assert sorted(fetched) == sorted(["zarr.json", MANIFEST] * 2)
    assert "differs: mlp/activation/c/0/0/1/0" in lines
    assert f"only in {tiny_path}: run/c/0" in lines
    assert not [line for line in lines if "activation/c/0/0/0" in line or "text" in line]
    assert compare(tiny_path, tiny_path) == []


def test_compare__names_what_differs_in_the_provenance(tiny_path, tmp_path):
    copies = []
    for name, digest in (("a", "sha256:1"), ("b", "sha256:2")):
        copy = Path(shutil.copytree(tiny_path, tmp_path / f"{name}.zarr"))
        root = json.loads((copy / "zarr.json").read_text())
        root["attributes"]["provenance"]["inputs"] = {"weights": digest, "seed": 0}
        (copy / "zarr.json").write_text(json.dumps(root))
        write_manifest(Location.of(copy))
        copies.append(copy)
    a, b = copies
    assert compare(a, b) == [
        f"provenance differs: inputs.weights: sha256:1 in {a}, sha256:2 in {b}",
        "differs: zarr.json",
    ]


def test_compare__refuses_what_has_no_sound_manifest(tiny_path, tmp_path):
    with pytest.raises(MissingFileError, match="there is no recording or result at"):
        compare(tiny_path, tmp_path / "nowhere.zarr")
    copy = Path(shutil.copytree(tiny_path, tmp_path / "copy.zarr"))
    flip(copy / MANIFEST, 40)
    with pytest.raises(DamagedError, match=r"is not the one that zarr\.json names"):
        compare(tiny_path, copy)
    unfinished(copy)
    with pytest.raises(InputError, match="has no manifest to compare: it is not recorded to its end"):
        compare(copy, tiny_path)
