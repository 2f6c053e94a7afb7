"""Small recordings of one model, as a recorder would write them."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from actome.store.allocate import SiteSpec, allocate
from actome.store.archive import open as open_recording
from actome.store.location import Location
from actome.store.moments import masked_moments
from actome.store.writer import RecordingWriter

INPUTS = {
    "model": "m",
    "weights_digest": "sha256:w",
    "paradigm": "p",
    "paradigm_digest": "sha256:p",
    "tokens_digest": "sha256:t",
    "dtype": "automatic",
}


@pytest.fixture
def recorded(tmp_path):
    """Make a recording under a name; return its path."""

    def make(name: str, ids: list[str], **changes) -> Path:
        path = tmp_path / f"{name}.zarr"
        write(path, ids, **changes)
        return path

    return make


def write(
    path: Path,
    ids: list[str],
    *,
    n_tokens: int = 3,
    dtype: str = "float32",
    seed: int = 0,
    columns: dict | None = None,
    sites: tuple[str, ...] = ("mlp",),
    layers: tuple[int, ...] = (0, 2),
    cube: bool = True,
    token_ids: bool = True,
    inputs: dict | None = None,
    provenance: dict | None = None,
    paradigm: str = "name: p\n",
    values: np.ndarray | None = None,
    counts: dict | None = None,
    final: bool = True,
) -> None:
    """Write a recording of so many prompts; 3 neurons, and random activations."""
    rng = np.random.default_rng(seed)
    labels = pd.DataFrame({"prompt": ids, **({"text": [f"text {i}" for i in ids]} | (columns or {}))})
    n = len(ids)
    length = rng.integers(1, n_tokens + 1, n)
    valid = np.arange(n_tokens) < length[:, None]
    specs = {site: SiteSpec(layers, (0, 1, 2), ("h",) * len(layers), dtype, cube=cube) for site in sites}
    variables = ("token_id", "logprob") if token_ids else ()
    allocate(
        Location.of(path),
        labels=labels,
        n_tokens=n_tokens,
        sites=specs,
        token_variables=variables,
        provenance={"inputs": INPUTS | (inputs or {}), "created": f"2026-01-0{seed + 1}"}
        | (provenance or {}),
        paradigm=paradigm,
    )
    writer = RecordingWriter(Location.of(path))
    content = {str(c): labels[c].to_numpy() for c in labels} | {"n_tokens": length}
    if token_ids:
        content["token_id"] = np.where(valid, rng.integers(0, 99, valid.shape), -1).astype(np.int32)
        content["logprob"] = np.where(valid, -rng.random(valid.shape), np.nan).astype(np.float32)
    cubes = {}
    for site in sites:
        cubes[site] = rng.standard_normal((n, n_tokens, len(layers), 3)).astype(dtype)
        if values is not None:
            cubes[site][:] = values
        cubes[site][~valid] = np.nan
    for i, unit in enumerate(writer.units if final else writer.units[:-1]):
        part = {name: value[unit] for name, value in content.items()}
        moments = None
        if not cube:
            moments = {site: masked_moments(cubes[site][unit], valid[unit]) for site in sites}
        given = {site: c[unit] for site, c in cubes.items()} if cube else {}
        writer.write_unit(i, part, given, moments=moments, counts=counts or {"clipped": 1, "nonfinite": 0})
    if final:
        writer.finalise()


def provenance_of(path: Path) -> dict:
    return json.loads((path / "zarr.json").read_text())["attributes"]["provenance"]


def files(path: Path) -> dict[str, bytes]:
    return {str(p.relative_to(path)): p.read_bytes() for p in sorted(path.rglob("*")) if p.is_file()}


def assert_same_numbers(path: Path, other: Path) -> None:
    """Two recordings read alike: variables, cube, moments."""
    for level in ("token", "prompt"):
        mine, theirs = (open_recording(p, level=level) for p in (path, other))
        assert set(mine.variables) == set(theirs.variables)
        for name in mine.variables:
            np.testing.assert_array_equal(mine[name].to_numpy(), theirs[name].to_numpy(), err_msg=name)
