"""What the tests of interrupted recordings share."""

import re
from pathlib import Path

import xarray as xr

import actome
from actome.store.archive import open_so_far
from actome.store.errors import InputError, MissingFileError
from actome.store.integrity import verify
from actome.store.manifest import MANIFEST

DATED = ("zarr.json", MANIFEST, "actome/index/manifest.json")  # the time of creation, or a digest of it

TINY = {"layers": [0, 2], "neurons": list(range(6)), "dtype": "float32"}


def whole(model, paradigm, path, **options):
    """Record without an interruption: what every interrupted recording must come to."""
    actome.record(model, paradigm, path, **options)
    return path


def files(folder):
    """Every file but those that differ from one time to the next."""
    found = {str(p.relative_to(folder)): p.read_bytes() for p in Path(folder).rglob("*") if p.is_file()}
    return {key: content for key, content in found.items() if key not in DATED}


def assert_finished(path, reference):
    assert files(path) == files(reference)
    assert verify(path) == []


def assert_sound(path, reference):
    """Let a reader look: it sees complete prompts alone. Return how many."""
    try:
        seen = {level: open_so_far(path, site="mlp", level=level).load() for level in ("token", "prompt")}
    except (InputError, MissingFileError) as error:
        assert re.search("has no recorded prompts yet|there is no recording", str(error))
        return 0
    for level, ds in seen.items():
        expected = actome.open(reference, site="mlp", level=level).sel(prompt=ds.prompt).load()
        xr.testing.assert_identical(ds.drop_attrs(), expected.drop_attrs())
    unfinished = r"unfinished: |damaged: zarr\.json names no manifest|foreign: .*\.partial$"
    assert [line for line in verify(path) if not re.match(unfinished, line)] == []
    return seen["token"].sizes["prompt"]
