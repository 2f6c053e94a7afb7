"""A part of a recording: its values, its moments, what its provenance says, and what it no longer holds."""

import hashlib
import warnings

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from actome.store.archive import open as open_entry
from actome.store.archive import save
from actome.store.blocks import prompt_level
from actome.store.errors import InputError
from actome.store.housekeeping import merge
from actome.store.integrity import verify
from actome.store.location import Location
from actome.store.results import save_result
from actome.store.sharing import export
from actome.store.sharing.cut import Cut
from actome.store.sharing.subset import Part
from actome.store.validation import validate
from actome.store.yaml import parse_mapping

from ...strategies import recordings
from ..housekeeping.conftest import write


def part_of(lab, tmp_path, **options):
    export(lab.recording, tmp_path / "p", **options)
    path = tmp_path / "p" / "words.zarr"
    assert verify(path) == [] and validate(path) == []
    return path


def test_export__a_part_of_a_merged_recording_keeps_all_its_paradigms(tmp_path):
    for name in "ab":
        text = (
            f"name: {name}\nprompts:\n  - {{text: one of {name}, condition: x}}\n"
            f"  - {{text: two of {name}, condition: y}}\n"
        )
        ids, columns = [f"{name}1", f"{name}2"], {"condition": ["x", "y"]}
        write(tmp_path / f"{name}.zarr", ids, columns=columns, paradigm=text)
    merge([tmp_path / "a.zarr", tmp_path / "b.zarr"], tmp_path / "m.zarr")
    export(tmp_path / "m.zarr", tmp_path / "p", conditions=["x"])
    folder = tmp_path / "p/m.zarr/actome"
    for name, file in (("a", "paradigm.yaml"), ("b", "paradigm-2.yaml")):
        shared = parse_mapping((folder / file).read_text(), "paradigm", "of the part")
        assert shared == {"name": name, "prompts": [{"text": f"one of {name}", "condition": "x"}]}
    assert verify(tmp_path / "p/m.zarr") == []


def test_export__layers_and_conditions_are_those_of_the_source(lab, tmp_path):
    path = part_of(lab, tmp_path, layers=[4], conditions=["b", "rest"])
    source = open_entry(lab.recording, site="mlp")
    expected = source.isel(prompt=np.isin(source["condition"], ["b", "rest"])).sel(layer=[4])
    found = open_entry(path, site="mlp")
    xr.testing.assert_equal(found.load(), expected.load())
    assert found["hook_name"].to_numpy().tolist() == ["h.4.mlp"]


def test_export__a_site_without_its_cube_keeps_its_moments(lab, tmp_path):
    path = part_of(lab, tmp_path, conditions=["a"])
    source = open_entry(lab.recording, site="residual")
    xr.testing.assert_equal(
        open_entry(path, site="residual").load(), source.isel(prompt=source["condition"] == "a").load()
    )


def test_export__a_site_without_the_layer_is_left_out(lab, tmp_path):
    path = part_of(lab, tmp_path, layers=[1])
    assert sorted(name for name, _ in Location.of(path).group().groups()) == ["mlp"]


def test_export__moments_are_those_of_the_exported_values(lab, tmp_path):
    path = part_of(lab, tmp_path, dtype="float16")
    cube = open_entry(path, site="mlp")
    assert cube["activation"].dtype == np.float16
    stored, reduced = open_entry(path, site="mlp", level="prompt"), prompt_level(cube)
    for name in ("mean", "m2", "mean_abs"):
        np.testing.assert_array_equal(stored[name], reduced[name])
    source = open_entry(lab.recording, site="mlp")["activation"]
    np.testing.assert_array_equal(cube["activation"], source.astype(np.float16))


def test_export__provenance_names_the_source_and_the_cut(lab, tmp_path):
    path = part_of(lab, tmp_path, layers=[4], conditions=["a"], dtype="float16")
    before, after = Location.of(lab.recording).group().attrs, Location.of(path).group().attrs
    known = after["provenance"]
    assert known["derived_from"] == [before["manifest_digest"]]
    cut = known["inputs"].pop("cut")
    assert cut == {"layers": [4], "conditions": ["a"], "dtype": "float16", "actome": cut["actome"]}
    assert known["inputs"] == before["provenance"]["inputs"]
    assert (known["licence"], known["created"]) == ("CC0-1.0", "2026-01-02T03:04:05+00:00")
    assert after["manifest_digest"] != before["manifest_digest"]
    export(path, tmp_path / "again", conditions=["a"], text="digest")
    again = Location.of(tmp_path / "again" / "words.zarr").group().attrs["provenance"]
    assert again["inputs"]["cut"]["before"] == cut


def test_export__says_what_float16_cannot_hold(tmp_path, tiny):
    tiny["activation"][0, 0, 0, 0] = 1e6
    save(tiny, tmp_path / "tiny.zarr")
    with pytest.warns(UserWarning, match="1 activations of .* are kept as 65504"):
        export(tmp_path / "tiny.zarr", tmp_path / "p", dtype="float16")
    value = open_entry(tmp_path / "p" / "tiny.zarr")["activation"][0, 0, 0, 0]
    assert float(value) == 65504


def test_part__holds_a_unit_and_never_the_cube(lab, tmp_path, monkeypatch):
    sizes = []
    cube = Part._cube

    def seen(self, *args):
        out = cube(self, *args)
        sizes.append(len(out))
        return out

    monkeypatch.setattr(Part, "_cube", seen)
    Part(Location.of(lab.recording), Cut(conditions=("a", "b"))).write(Location.of(tmp_path / "part.zarr"))
    assert sum(sizes) == 16 and max(sizes) < 16 // 2


@settings(max_examples=5)
@given(ds=recordings(), data=st.data())
def test_part__of_any_recording_holds_its_values(tmp_path_factory, ds, data):
    folder = tmp_path_factory.mktemp("any")
    try:
        save(ds, folder / "r.zarr")
    except InputError:  # a real token that is NaN in every neuron, which no recording may hold
        return
    source = open_entry(folder / "r.zarr")
    layers = data.draw(st.sets(st.sampled_from(source["layer"].to_numpy().tolist()), min_size=1))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        Part(Location.of(folder / "r.zarr"), Cut(layers=tuple(layers))).write(Location.of(folder / "p.zarr"))
    found = open_entry(folder / "p.zarr")
    expected = source.isel(layer=np.isin(source["layer"], list(layers)))
    xr.testing.assert_equal(found.load(), expected.load())


# --- text that may not be shared


def texts_in(path) -> list[str]:
    """Words of the source that stand anywhere in the package, also inside compressed chunks."""
    ds = open_entry(path, site="mlp")
    content = " ".join(str(ds[v].to_numpy().tolist()) for v in ds.variables if ds[v].dtype == object)
    paradigm = (path / "actome" / "paradigm.yaml").read_text()
    words = ("a 0", "b 1", "el", "the cat", "secret", "Say:")
    return [w for w in words if f"'{w}'" in content or w in paradigm]


def test_export__text_becomes_its_digest(lab, tmp_path):
    assert texts_in(lab.recording)
    path = part_of(lab, tmp_path, text="digest")
    source, found = open_entry(lab.recording, site="mlp"), open_entry(path, site="mlp")
    texts = source["text"].to_numpy().tolist()
    assert found["text"].to_numpy().tolist() == [
        f"sha256:{hashlib.sha256(t.encode()).hexdigest()}" for t in texts
    ]
    assert len(set(found["language"].to_numpy())) == 2 and texts_in(path) == []
    np.testing.assert_array_equal(found["token_id"], np.where(source["token_id"] == -1, -1, 0))
    for name in ("activation", "logprob", "condition", "prompt", "score", "n_tokens", "run"):
        xr.testing.assert_equal(found[name].variable.load(), source[name].variable.load())
    content = b"".join(p.read_bytes() for p in (tmp_path / "p").rglob("*") if p.is_file())
    stored = b"".join(p.read_bytes() for p in lab.recording.rglob("*") if p.is_file())
    words = [t.encode() for t in (*texts, "the cat", "secret", "Say:")]
    assert b"the cat" in stored and not [w for w in words if w in content and len(w) > 4]
    assert "## Text that is not shared" in (tmp_path / "p" / "README.md").read_text()


def test_export__names_of_source_files_are_not_shared_where_text_is_not(lab, tmp_path):
    (lab.recording / "actome/sources.json").write_text('{"the cat.npy": "sha256:0"}')
    (tmp_path / "told").mkdir()
    assert (part_of(lab, tmp_path / "told", layers=[4]) / "actome/sources.json").is_file()
    assert not (part_of(lab, tmp_path, text="digest") / "actome/sources.json").exists()


def test_export__labels_that_are_named_stay_readable(lab, tmp_path):
    path = part_of(lab, tmp_path, text="digest", keep_labels=["language"])
    assert set(open_entry(path, site="mlp")["language"].to_numpy()) == {"el", "ru"}


def test_export__the_paradigm_loses_the_prompts_that_are_not_exported(lab, tmp_path):
    part_of(lab, tmp_path, conditions=["b"])
    text = (tmp_path / "p" / "words.zarr" / "actome" / "paradigm.yaml").read_text()
    assert "the dog" in text and "the cat" not in text


def test_export__text_of_a_result_becomes_its_digest(lab, tmp_path):
    ds = xr.Dataset(
        {"logprob": (("prompt", "token"), [[-1.0, -2.0]])},
        coords={
            "text": ("prompt", ["the cat"]),
            "prompt": ["p0"],
            "condition": ("prompt", ["a"]),
            "item": ["who purrs?"],
        },
        attrs={"kind": "scores"},
    )
    save_result(ds.assign(token_id=(("prompt", "token"), [[7, -1]])), tmp_path / "scores.zarr")
    export([tmp_path / "scores.zarr", lab.result], tmp_path / "p", text="digest")
    found = open_entry(tmp_path / "p" / "scores.zarr")
    assert found["text"].item() == f"sha256:{hashlib.sha256(b'the cat').hexdigest()}"
    assert found["token_id"].to_numpy().tolist() == [[0, -1]]
    assert found["item"].item() == f"sha256:{hashlib.sha256(b'who purrs?').hexdigest()}"
    assert "text" in found.coords and found.attrs["kind"] == "scores"
    xr.testing.assert_equal(found["logprob"].load().drop_vars("text"), ds["logprob"].drop_vars("text"))
    digest = Location.of(tmp_path / "scores.zarr").group().attrs["manifest_digest"]
    assert found.attrs["derived_from"] == [digest] and found.attrs["cut"]["text"] == "digest"
    untouched = Location.of(tmp_path / "p" / "contrast.zarr").group().attrs["manifest_digest"]
    assert untouched == Location.of(lab.result).group().attrs["manifest_digest"]
