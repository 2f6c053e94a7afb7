"""Recordings that were cast, rechunked, merged or cut are computed again where that means something."""

import numpy as np
import pytest
import torch
import zarr

import actome
from actome import Paradigm
from actome.ingest import recorder
from actome.ingest.recompute import recompute
from actome.store.errors import InputError
from actome.store.housekeeping import append, cast, merge, rechunk
from actome.store.provenance import library_versions
from actome.store.sharing import export

from .architectures import ARCHITECTURES, VOCABULARY, text_of, tokenizer

DRAWN = {"tokens": "generated", "max_new_tokens": 5, "temperature": 1.0}


@pytest.fixture
def llama():
    return next(a for a in ARCHITECTURES if a.name == "llama").build(), tokenizer()


@pytest.fixture
def make(llama, tmp_path):
    """Record random texts under a name of their own, with further labels: make(name, **options)."""

    def inner(name, labels=None, **options):
        rng = np.random.default_rng(sum(map(ord, name)))
        rows = [
            {
                "prompt": f"{name}-{i}",
                "condition": "ab"[i % 2],
                "text": text_of(rng.integers(3, VOCABULARY, n).tolist()),
                **(labels or {}),
            }
            for i, n in enumerate(rng.integers(3, 9, 12))
        ]
        actome.record(llama, Paradigm(rows, name=name), tmp_path / f"{name}.zarr", **options)
        return tmp_path / f"{name}.zarr"

    return inner


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("float32", "float16"),
        pytest.param("float16", "float32", marks=pytest.mark.slow),
        pytest.param("float32", "float64", marks=pytest.mark.slow),
    ],
)
def test_recompute__a_cast_recording_holds_within_the_rounding_of_its_types(
    make, llama, tmp_path, before, after
):
    cast(make("x", dtype=before, sites=("mlp", "residual")), tmp_path / "cast.zarr", after)
    result = recompute(tmp_path / "cast.zarr", model=llama)
    assert result.holds and result.changes == {} and result.tolerance.rounding == 2**-10
    values = [a for a in result.agreements if a.variable == "activation"]
    assert len(values) == 2 and all(a.n_values for a in values)
    rounded = before == "float16"  # what is computed now is then not rounded
    assert all((a.largest > 1e-5) == rounded for a in values)


def test_recompute__a_rechunked_recording_keeps_its_draws(make, llama, tmp_path):
    rechunk(make("x", **DRAWN), tmp_path / "r.zarr", unit=12)
    result = recompute(tmp_path / "r.zarr", model=llama)
    assert result.holds and result.changes == {} and len(result.prompts) == 12


@pytest.mark.slow
def test_recompute__a_merged_recording_holds_unless_its_tokens_were_drawn(make, llama, tmp_path):
    merge([make("x"), make("y")], tmp_path / "m.zarr")
    result = recompute(tmp_path / "m.zarr", model=llama, n_prompts=24)
    assert result.holds and result.changes == {}
    assert {p[0] for p in result.prompts} == {"x", "y"} and len(result.prompts) == 24
    merge([make("u", **DRAWN), make("v", **DRAWN)], tmp_path / "d.zarr")
    with pytest.raises(InputError, match=r"drawn at random.*compute its source again instead: sha256:"):
        recompute(tmp_path / "d.zarr", model=llama)


@pytest.mark.parametrize("join", ["append", pytest.param("merge", marks=pytest.mark.slow)])
def test_recompute__what_the_parts_of_a_recording_say_differently_is_a_list_and_holds(
    make, llama, tmp_path, monkeypatch, join
):
    first = make("x", {"level": 0.5, "language": "fr"})
    before = library_versions()
    monkeypatch.setattr(recorder, "library_versions", lambda: before | {"torch": "0.4"})
    second = make("y", {"rank": 3}, dtype="float16")
    joined = merge([first, second], tmp_path / "m.zarr") if join == "merge" else append(first, second)
    provenance = zarr.open_group(joined, mode="r").attrs["provenance"]
    lists = [name for name, value in provenance["inputs"].items() if isinstance(value, list)]
    assert {"paradigm", "paradigm_digest", "tokens_digest", "dtype"} <= {*lists}
    result = recompute(joined, model=llama, n_prompts=24)
    assert result.holds and {p[0] for p in result.prompts} == {"x", "y"}
    assert result.changes == {"torch": ([before["torch"], "0.4"], before["torch"])}
    module = llama[0]
    with torch.no_grad():
        module.model.layers[1].mlp.up_proj.weight[4, 7] += 0.5
    result = recompute(joined, model=llama, n_prompts=24)
    assert not result.holds and result.cause.startswith("the weights")
    assert result.to_json()["changes"]["torch"]["then"] == [before["torch"], "0.4"]


def test_recompute__an_exported_part_holds_and_hidden_text_is_refused(make, llama, tmp_path):
    source = make("x", sites=("mlp", "residual"), layers=[2, 0])
    cuts = {
        "part": {"layers": [0], "conditions": ["b"]},
        "wide": {"dtype": "float32"},
        "hidden": {"text": "digest"},
    }
    paths = {}
    for name, options in cuts.items():
        export(str(source), tmp_path / name, licence="CC0-1.0", **options)
        paths[name] = next((tmp_path / name).rglob("recorded")).parent
    result = recompute(paths["part"], model=llama)
    assert result.holds and result.changes == {} and len(result.prompts) == 6
    means = [a.n_values for a in result.agreements if (a.site, a.variable) == ("residual", "mean")]
    assert means == [6 * 16]  # one layer of six prompts
    assert recompute(paths["wide"], model=llama).holds
    with pytest.raises(InputError, match=r"the texts of .* are hidden"):
        recompute(paths["hidden"], model=llama)
