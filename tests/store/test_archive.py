import json
from pathlib import Path

import dask.array as da
import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from actome.store import schema
from actome.store.archive import open as open_recording
from actome.store.archive import open_so_far, save
from actome.store.errors import InputError, InputTypeError, MissingFileError
from actome.store.integrity import verify
from actome.store.location import Location
from actome.store.results import save_result
from actome.store.validation import validate
from actome.store.writer import RecordingWriter

from ..strategies import chunkings, recordings


def same_bits(a: xr.DataArray, b: xr.DataArray) -> bool:
    a, b = a.to_numpy(), b.to_numpy()
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


def drop_consolidated(path: Path) -> None:
    """Make zarr look at the arrays themselves."""
    root = json.loads((path / "zarr.json").read_text())
    del root["consolidated_metadata"]
    (path / "zarr.json").write_text(json.dumps(root))


@settings(max_examples=10)
@given(st.data())
def test_save__round_trip_is_bit_exact(tmp_path_factory, data):
    ds = data.draw(recordings())
    path = save(ds.chunk(data.draw(chunkings(ds))), tmp_path_factory.mktemp("r") / "r.zarr")
    back = open_recording(path)
    assert back["activation"].dims == schema.ACTIVATION_DIMS
    assert same_bits(back["activation"], ds["activation"])
    for name in ds.coords:
        if ds[name].dtype.kind in "OUT":
            assert back[name].to_numpy().tolist() == ds[name].to_numpy().tolist()
        else:
            assert same_bits(back[name], ds[name]), name
    if "logprob" in ds:
        assert same_bits(back["logprob"], ds["logprob"])
    assert (
        back["n_tokens"].to_numpy().tolist()
        == (~np.isnan(ds.activation)).any(("layer", "neuron")).sum("token").to_numpy().tolist()
    )
    assert verify(path) == validate(path) == []


@settings(max_examples=3)
@given(recordings(labels=True))
def test_save__saved_again_holds_the_same(tmp_path_factory, ds):
    folder = tmp_path_factory.mktemp("r")
    first = open_recording(save(ds, folder / "a.zarr"))
    second = open_recording(save(first, folder / "b.zarr"))
    xr.testing.assert_identical(
        first.compute().drop_attrs(deep=False), second.compute().drop_attrs(deep=False)
    )
    assert second.attrs["provenance"]["derived_from"] == [first.attrs["manifest_digest"]]


def test_recording__opens_with_plain_xarray(tiny, tiny_path):
    tree = xr.open_datatree(tiny_path, engine="zarr")
    assert set(tree.children) == {"mlp"}
    for group, variables in (("/", schema.ROOT), ("mlp", schema.SITE), ("mlp/summary", schema.SUMMARY)):
        there = [v for v in variables if v.name in tree[group].variables]
        assert {v.name for v in variables if v.required} <= {v.name for v in there}
        for v in there:
            assert tree[group][v.name].dims == v.dims
            assert v.matches(tree[group][v.name].dtype)
    assert same_bits(tree["mlp/activation"], tiny["activation"])
    assert tree["condition"].to_numpy().tolist() == tiny["condition"].to_numpy().tolist()
    assert tree["mlp"]["prompt"].to_numpy().tolist() == tiny["prompt"].to_numpy().tolist()


@pytest.mark.parametrize("level", [None, "token", "prompt"])
def test_open__computes_nothing(tiny_path, raise_if_computes, level):
    with raise_if_computes():
        ds = open_recording(tiny_path, level=level)
    for name, array in ds.variables.items():
        assert (array.chunks is None) == (array.ndim == 1), name
    for name in ("prompt", "condition", "layer", "neuron", "hook_name"):
        assert isinstance(ds[name].variable._data, np.ndarray) or name in ds.indexes


def test_open__chunks_are_shards(tiny_path):
    ds = open_recording(tiny_path)
    assert ds["activation"].chunks == ((2,) * 6, (5,), (1, 1), (6,))
    assert ds["token_id"].chunks == ((2,) * 6, (5,))


def test_open__moments_come_in_chunks_of_several_units(tiny_path, monkeypatch):
    assert open_recording(tiny_path, level="prompt")["mean"].chunks == ((12,), (2,), (6,))
    for n_bytes, chunks in ((4 * 2 * 6 * 8, (4, 4, 4)), (1, (2,) * 6)):
        monkeypatch.setattr("actome.store.archive._MERGED_BYTES", n_bytes)
        assert open_recording(tiny_path, level="prompt")["mean"].chunks == (chunks, (2,), (6,))


def test_open__labels_are_coordinates(tiny_path):
    ds = open_recording(tiny_path)
    assert set(ds.data_vars) == {"activation"}
    assert {"prompt", "text", "condition", "run", "block", "n_tokens", "token_id", "hook_name"} <= set(
        ds.coords
    )
    assert "recorded" not in ds.variables
    assert (ds.attrs["name"], ds.attrs["site"]) == ("tiny", "mlp")


def test_open__prompt_level_has_no_token_axis(tiny_path):
    ds = open_recording(tiny_path, level="prompt")
    assert set(ds.data_vars) == {"count", "mean", "m2", "mean_abs"}
    assert dict(ds.sizes) == {"prompt": 12, "layer": 2, "neuron": 6}
    assert {"condition", "hook_name", "layer", "neuron"} <= set(ds.coords)


def test_open__only_recorded_prompts(tiny, tmp_path, monkeypatch):
    write_unit = RecordingWriter.write_unit

    def all_but_two(self, i, *args, **kwargs):
        if i not in (1, 4):
            write_unit(self, i, *args, **kwargs)

    monkeypatch.setattr(RecordingWriter, "write_unit", all_but_two)
    with pytest.raises(InputError, match=r"units \[1, 4\] are not recorded yet"):
        save(tiny, tmp_path / "r.zarr")
    kept = [0, 1, 4, 5, 6, 7, 10, 11]
    with pytest.warns(UserWarning, match="^only 8 of 12 prompts of r are recorded; remove it and save"):
        ds = open_recording(tmp_path / "r.zarr")
    assert ds.attrs["unfinished"] == "8 of 12 prompts of r"
    assert ds["prompt"].to_numpy().tolist() == tiny["prompt"].to_numpy()[kept].tolist()
    assert same_bits(ds["activation"], tiny["activation"].isel(prompt=kept))
    assert same_bits(ds["token_id"], tiny["token_id"].isel(prompt=kept))
    assert ds["activation"].chunks[0] == (2,) * 4
    means = open_so_far(tmp_path / "r.zarr", level="prompt")
    assert means["condition"].to_numpy().tolist() == tiny["condition"].to_numpy()[kept].tolist()
    assert not means["mean"].isnull().any()


def test_open__before_anything_is_recorded(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(RecordingWriter, "write_unit", lambda *args, **kwargs: None)
    with pytest.raises(InputError, match="are not recorded yet"):
        save(tiny, tmp_path / "early.zarr")
    with pytest.raises(ValueError, match=r"early.zarr has no recorded prompts yet"):
        open_recording(tmp_path / "early.zarr")


def test_open__bad_input(tiny_path, tmp_path):
    with pytest.raises(InputError, match="level must be 'token', 'prompt' or None, got 'neuron'"):
        open_recording(tiny_path, level="neuron")
    with pytest.raises(InputError, match=r"tiny\.zarr has no site 'residual'; name one of \['mlp'\]"):
        open_recording(tiny_path, site="residual")
    with pytest.raises(MissingFileError, match="there is no recording or result at"):
        open_recording(tmp_path / "nowhere.zarr")


def test_open__several_sites_must_be_named(tiny, tmp_path):
    save(tiny, tmp_path / "a.zarr")
    save(tiny, tmp_path / "b.zarr", site="residual")
    (tmp_path / "b.zarr/residual").rename(tmp_path / "a.zarr/residual")
    drop_consolidated(tmp_path / "a.zarr")
    with pytest.raises(InputError, match=r"a\.zarr has several sites; name one of \['mlp', 'residual'\]"):
        open_recording(tmp_path / "a.zarr")
    assert open_recording(tmp_path / "a.zarr", site="residual").attrs["site"] == "residual"


def test_open__token_axis_is_never_trimmed(tiny, tmp_path):
    padded = tiny[["activation"]].reset_coords(["token_id"], drop=True).pad(token=(0, 3))
    ds = open_recording(save(padded, tmp_path / "r.zarr"))
    assert ds.sizes["token"] == 8
    assert ds["n_tokens"].to_numpy().tolist() == tiny["n_tokens"].to_numpy().tolist()


def test_save__a_remote_recording_is_the_same(tiny):
    path = save(tiny, "memory://test_save/r.zarr")
    assert same_bits(open_recording(path)["activation"], tiny["activation"])


def test_save__counts_the_tokens_that_are_left(tiny, tmp_path):
    cut = open_recording(save(tiny.isel(token=slice(1, 3)), tmp_path / "cut.zarr"), level="prompt")
    expected = np.minimum(tiny["n_tokens"].to_numpy() - 1, 2)
    assert cut["n_tokens"].to_numpy().tolist() == cut["count"].to_numpy().tolist() == expected.tolist()
    means = tiny["activation"].isel(token=slice(1, 3)).astype(float).mean("token")
    np.testing.assert_allclose(cut["mean"].to_numpy(), means.to_numpy(), rtol=1e-12)


def test_save__tokens_taken_out_of_the_middle(tiny, tmp_path):
    keep = xr.DataArray([True, False, True, True, True], dims="token")
    masked = tiny.where(keep)[["activation"]].assign_coords(tiny.coords)
    with pytest.raises(
        InputError, match="NaN in every neuron; if it was masked on purpose, set its token_id to -1"
    ):
        save(masked, tmp_path / "a.zarr")
    masked["token_id"] = tiny["token_id"].where(keep, np.int32(-1))
    ds = open_recording(save(masked, tmp_path / "b.zarr"), level="prompt")
    assert ds["count"].to_numpy().tolist() == (tiny["n_tokens"].to_numpy() - 1).tolist()
    means = masked["activation"].astype(float).mean("token")
    np.testing.assert_allclose(ds["mean"].to_numpy(), means.to_numpy(), rtol=1e-12)


def test_save__without_labels_ids_are_numbers(tiny, tmp_path):
    bare = xr.Dataset({"activation": tiny["activation"].drop_vars(tiny["activation"].coords)})
    ds = open_recording(save(bare, tmp_path / "r.zarr"))
    assert ds["prompt"].to_numpy().tolist() == [str(i) for i in range(12)]
    assert ds["n_tokens"].to_numpy().tolist() == tiny["n_tokens"].to_numpy().tolist()
    assert ds["layer"].to_numpy().tolist() == [0, 1]


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda ds, p: save(ds["activation"], p), InputTypeError, "save takes a Dataset, got DataArray"),
        (lambda ds, p: save(ds, p, site="brain"), InputError, r"site must be one of \['mlp', .*got 'brain'"),
        (
            lambda ds, p: save(ds.transpose(), p),
            InputError,
            "does not fit the schema: activation must have dims",
        ),
        (lambda ds, p: save(ds.isel(prompt=[]), p), InputError, "there is nothing along 'prompt'"),
    ],
)
def test_save__bad_input_writes_nothing(tiny, tmp_path, call, error, message):
    with pytest.raises(error, match=message):
        call(tiny, tmp_path / "r.zarr")
    assert not (tmp_path / "r.zarr").exists()


def test_save__never_overwrites(tiny, tiny_path):
    with pytest.raises(InputError, match="holds a recording already; choose another path or remove it"):
        save(tiny, tiny_path)
    assert verify(tiny_path) == []


def test_save__the_input_stays_as_it_was(tiny, tmp_path):
    before = tiny.copy(deep=True)
    save(tiny, tmp_path / "r.zarr")
    xr.testing.assert_identical(tiny, before)


def test_save_result__round_trip(tmp_path, rng):
    ds = xr.Dataset(
        {
            "stat": (("contrast", "layer", "neuron"), rng.standard_normal((2, 3, 4))),
            "mask": (("layer", "neuron"), rng.random((3, 4)) < 0.5),
        },
        coords={
            "contrast": ["a - b", "b - a"],
            "role": ("contrast", np.array(["target", "control"], dtype=object)),
        },
        attrs={"kind": "contrast", "selected_on": ["p1", "p2"], "parameters": {"alpha": 0.05}},
    )
    path = save_result(ds, tmp_path / "r.zarr", derived_from="sha256:abc")
    back = open_recording(path)
    assert back["stat"].chunks is not None
    assert back["role"].chunks is None
    xr.testing.assert_equal(back.compute(), ds)
    assert {k: back.attrs[k] for k in ds.attrs} == ds.attrs
    assert back.attrs["derived_from"] == ["sha256:abc"]
    assert verify(path) == []
    assert validate(path) == []


def test_save_result__a_dataarray_keeps_its_name_and_attrs(tmp_path):
    mask = xr.DataArray([[True, False]], dims=("layer", "neuron"), name="mask", attrs={"selected_on": ["p1"]})
    back = open_recording(save_result(mask, tmp_path / "m.zarr"))
    assert back["mask"].to_numpy().tolist() == [[True, False]]
    assert back.attrs["selected_on"] == ["p1"]
    assert back.attrs["kind"] == "result"
    assert "value" in open_recording(save_result(mask.rename(None), tmp_path / "v.zarr"))


def test_save_result__made_from_a_recording_is_no_recording(tiny_path, tmp_path):
    with xr.set_options(keep_attrs=True):
        means = open_recording(tiny_path)[["activation"]].mean("prompt")
    assert means.attrs["kind"] == "recording"
    back = open_recording(save_result(means, tmp_path / "r.zarr", derived_from=["tiny"]))
    assert back.attrs["kind"] == "result"
    assert back.attrs["manifest_digest"] != means.attrs["manifest_digest"]


def test_save_result__takes_uneven_chunks(tmp_path):
    ds = xr.Dataset({"x": ("a", da.arange(10, chunks=((1, 5, 4),)))})
    assert open_recording(save_result(ds, tmp_path / "r.zarr"))["x"].to_numpy().tolist() == list(range(10))
    assert ds["x"].chunks == ((1, 5, 4),)


def test_save_result__bad_input(tiny_path, tmp_path):
    with pytest.raises(InputTypeError, match="save_result takes a Dataset, DataArray or DataTree, got int"):
        save_result(3, tmp_path / "r.zarr")
    with pytest.raises(InputError, match="holds a result already; choose another path or remove it"):
        save_result(xr.Dataset(), tiny_path)


def test_open__a_result_that_was_not_written_to_its_end(tmp_path, monkeypatch):
    monkeypatch.setattr("actome.store.results.write_manifest", lambda location: None)
    path = save_result(
        xr.Dataset({"x": 1.0}, attrs={"manifest_digest": "of the source"}), tmp_path / "r.zarr"
    )
    with pytest.raises(InputError, match="was not written to its end; remove it and save it again"):
        open_recording(path)


def test_open__a_result_has_no_site_and_no_level(tmp_path):
    path = save_result(xr.Dataset({"x": 1.0}), tmp_path / "r.zarr")
    with pytest.raises(InputError, match=r"r\.zarr is a result; only a recording has a site and a level"):
        open_recording(path, level="prompt")


def test_validate__a_sound_recording(tiny_path):
    assert validate(tiny_path) == []


def _remove(name):
    def change(group):
        del group[name]

    return change


def _replace(name, shape, dtype, dims):
    def change(group):
        group.create_array(name, shape=shape, dtype=dtype, dimension_names=dims, overwrite=True)

    return change


@pytest.mark.parametrize(
    ("change", "breach"),
    [
        (_remove("mlp/activation"), "mlp/activation is missing"),
        (_remove("mlp/summary/m2"), "mlp/summary/m2 is missing"),
        (
            _remove("mlp"),
            "there is no site; one of ['mlp', 'mlp_out', 'attention_out', 'residual'] is needed",
        ),
        (_replace("run", (12,), "float64", ("prompt",)), "run must be int64 or int32, got float64"),
        (_replace("token_id", (12, 5), "int64", ("prompt", "token")), "token_id must be int32, got int64"),
        (_replace("run", (5,), "int64", ("token",)), "run must have dims ('prompt',), got ('token',)"),
        (_replace("run", (11,), "int64", ("prompt",)), "run has 11 along 'prompt', prompt has 12"),
        (
            _replace("mlp/layer", (3,), "int64", ("layer",)),
            "mlp/layer has 3 along 'layer', mlp/activation has 2",
        ),
        (
            _replace("mlp/summary/mean", (12, 2, 5), "float64", ("prompt", "layer", "neuron")),
            "mlp/summary/mean has 5 along 'neuron', mlp/activation has 6",
        ),
        (_replace("run", (12,), "int64", None), "run has no dimension names"),
    ],
)
def test_validate__names_each_breach(tiny_path, change, breach):
    drop_consolidated(tiny_path)
    change(Location.of(tiny_path).group(read_only=False))
    lines = validate(tiny_path)
    assert any(breach in line for line in lines), lines


def test_validate__says_that_there_is_nothing(tmp_path):
    with pytest.raises(MissingFileError, match="there is no recording or result at"):
        validate(tmp_path / "nowhere.zarr")


def test_save_and_save_result__leave_a_folder_with_other_files_as_it_is(tiny, tmp_path):
    (tmp_path / "notes.txt").write_text("kept")
    for write in (save, save_result):
        with pytest.raises(InputError, match="a folder with other files"):
            write(tiny, tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["notes.txt"]
