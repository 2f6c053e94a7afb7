"""A laboratory's archive: a recording with texts and a provenance, and a result of it."""

import shutil
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from actome.analyze.contrasts import compute_contrast
from actome.analyze.glm import fit_glm
from actome.store.allocate import SiteSpec, allocate
from actome.store.archive import open as open_recording
from actome.store.location import Location
from actome.store.moments import masked_moments
from actome.store.phantom import phantom
from actome.store.results import save_result
from actome.store.writer import RecordingWriter

PARADIGM = """\
# shown to the model
name: animals
template: "Say: {text}"
prompts:
  - {text: the cat, condition: a, note: secret}
  - {text: the dog, condition: b}
"""


class Lab(NamedTuple):
    folder: Path
    recording: Path
    result: Path


def _write(path: Path) -> None:
    """Two sites, of which one holds moments only; 24 prompts of 3 conditions in several units."""
    ds = phantom(n_prompts=8, n_tokens=(3, 6), n_layers=2, n_neurons=8, seed=3)
    rng = np.random.default_rng(4)
    names = ("prompt", "text", "condition", "run", "block")
    labels = ds[list(names)].to_dataframe().reset_index()[list(names)]
    labels["language"] = ["el", "ru"] * 12
    labels["score"] = rng.standard_normal(24)
    specs = {
        "mlp": SiteSpec((1, 4), tuple(range(8)), ("h.1.mlp", "h.4.mlp"), "float32"),
        "residual": SiteSpec((4,), tuple(range(8)), ("h.4",), "float32", cube=False),
    }
    allocate(
        Location.of(path),
        labels=labels,
        n_tokens=6,
        sites=specs,
        token_variables=("token_id", "logprob"),
        provenance={
            "inputs": {"model": "demo", "seed": 0, "paradigm": "animals"},
            "licence": "CC0-1.0",
            "created": "2026-01-02T03:04:05+00:00",
            "environment": {"python": "3.12.1", "actome": "0.1.0"},
        },
        paradigm=PARADIGM,
    )
    writer = RecordingWriter(Location.of(path))
    cube = ds["activation"].to_numpy()
    valid = ~np.isnan(cube).all(axis=(2, 3))
    for i, unit in enumerate(writer.units):
        columns = {c: labels[c].to_numpy()[unit] for c in labels}
        columns["n_tokens"] = valid[unit].sum(axis=1)
        columns["token_id"] = np.where(valid[unit], rng.integers(5, 99, valid[unit].shape), -1).astype(
            np.int32
        )
        columns["logprob"] = np.where(valid[unit], -1.5, np.nan).astype(np.float32)
        n = unit.stop - unit.start
        moments = {name: rng.random((n, 1, 8)) for name in ("mean", "m2", "mean_abs")}
        of_cube = masked_moments(cube[unit], valid[unit])
        writer.write_unit(
            i,
            columns,
            {"mlp": cube[unit]},
            moments={"mlp": of_cube, "residual": {"count": valid[unit].sum(axis=1), **moments}},
        )
    writer.finalise()


@pytest.fixture(scope="session")
def _archive(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lab")
    _write(folder / "words.zarr")
    fit = fit_glm(open_recording(folder / "words.zarr", site="mlp", level="prompt"))
    save_result(compute_contrast(fit, "a - b"), folder / "contrast.zarr", derived_from="words")
    (folder / "catalog.yaml").write_text(
        "version: 1\nsources:\n"
        "  words:\n    driver: zarr\n    description: Words for animals\n"
        '    args: {urlpath: "{{ CATALOG_DIR }}/words.zarr"}\n'
        "    metadata: {licence: CC0-1.0, tags: [animals], citation: 'Lab (2026), Words.'}\n"
        "  animals-contrast:\n    driver: zarr\n"
        '    args: {urlpath: "{{ CATALOG_DIR }}/contrast.zarr"}\n    metadata: {licence: CC-BY-4.0}\n'
    )
    return folder


@pytest.fixture
def lab(_archive, tmp_path):
    """An archive of its own for each test."""
    folder = tmp_path / "lab"
    shutil.copytree(_archive, folder)
    return Lab(folder, folder / "words.zarr", folder / "contrast.zarr")
