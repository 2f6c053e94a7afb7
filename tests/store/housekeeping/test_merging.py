"""Joined recordings hold the numbers of their sources, or are refused with what keeps them apart."""

import numpy as np
import pytest
import xarray as xr

from actome.store.archive import open as open_recording
from actome.store.archive import open_so_far
from actome.store.errors import InputError, InputTypeError, MissingFileError
from actome.store.housekeeping import merge
from actome.store.integrity import verify
from actome.store.location import Location
from actome.store.validation import validate
from actome.store.writer import RecordingWriter

from ..killing import KilledError, killed_after
from .conftest import files, provenance_of

MOMENTS = ("count", "mean", "m2", "mean_abs")


def test_merge__cube_moments_and_labels_are_those_of_the_sources(recorded, tmp_path):
    a = recorded("a", list("abcde"), n_tokens=3, seed=1, sites=("mlp", "residual"))
    b = recorded("b", list("fghijklmn"), n_tokens=7, seed=2, sites=("mlp", "residual"))
    out = merge([a, b], tmp_path / "m.zarr")
    assert out == str(tmp_path / "m.zarr")
    assert verify(out) == validate(out) == []
    for site in ("mlp", "residual"):
        parts = [open_recording(p, site=site) for p in (a, b)]
        padded = [part.pad(token=(0, 7 - part.sizes["token"])).activation.to_numpy() for part in parts]
        merged = open_recording(out, site=site)
        np.testing.assert_array_equal(merged.activation.to_numpy(), np.concatenate(padded))
        assert merged.activation.dtype == np.float32
        for name in ("prompt", "text", "n_tokens"):
            assert merged[name].to_numpy().tolist() == [v for p in parts for v in p[name].to_numpy()]
        token_id = [p.token_id.pad(token=(0, 7 - p.sizes["token"]), constant_values=-1) for p in parts]
        np.testing.assert_array_equal(merged.token_id, np.concatenate(token_id))
        summaries = [open_recording(p, site=site, level="prompt") for p in (a, b)]
        joined = open_recording(out, site=site, level="prompt")
        for name in MOMENTS:
            np.testing.assert_array_equal(joined[name], np.concatenate([s[name] for s in summaries]))


def test_merge__says_where_it_comes_from(recorded, tmp_path):
    a = recorded("a", ["x"], provenance={"licence": "MIT", "environment": {"zarr": "1", "dask": "2"}})
    b = recorded(
        "b", ["y"], seed=1, inputs={"paradigm": "q", "paradigm_digest": "sha256:q"}, paradigm="name: q\n",
        provenance={"licence": "CC0-1.0 OR MIT", "environment": {"zarr": "1", "dask": "3"}},
    )  # fmt: skip
    out = merge([a, b], tmp_path / "m.zarr", duplicates="skip")
    provenance = provenance_of(tmp_path / "m.zarr")
    digests = [open_recording(p).attrs["manifest_digest"] for p in (a, b)]
    assert provenance["derived_from"] == digests
    step = provenance["operations"][-1]
    assert (step["name"], step["derived_from"], step["duplicates"]) == ("merge", digests, "skip")
    assert provenance["inputs"]["model"] == "m"
    assert provenance["inputs"]["paradigm"] == ["p", "q"]
    assert provenance["environment"] == {"zarr": "1", "dask": ["2", "3"]}
    assert provenance["licence"] == "MIT AND (CC0-1.0 OR MIT)"
    assert provenance["created"] == "2026-01-02"
    kept = [(tmp_path / "m.zarr/actome" / name).read_text() for name in ("paradigm.yaml", "paradigm-2.yaml")]
    assert kept == ["name: p\n", "name: q\n"]
    c = recorded("c", ["z"], inputs={"paradigm": "r"}, paradigm="name: q\n")
    again = tmp_path / "n.zarr"
    merge([out, c], again)
    assert provenance_of(again)["inputs"]["paradigm"] == ["p", "q", "r"]
    assert sorted(p.name for p in (again / "actome").glob("*.yaml")) == ["paradigm-2.yaml", "paradigm.yaml"]
    assert provenance_of(again)["licence"] is None  # one source says none


def test_merge__what_was_counted_adds_up(recorded, tmp_path):
    a = recorded("a", [f"a{i}" for i in range(20)], counts={"clipped": 2, "nonfinite": 1})
    b = recorded("b", [f"b{i}" for i in range(9)], counts={"clipped": 5})
    merge([a, b], tmp_path / "m.zarr")
    counted = [RecordingWriter(Location.of(p)).counts() for p in (a, b, tmp_path / "m.zarr")]
    assert counted[2] == {"clipped": counted[0]["clipped"] + counted[1]["clipped"], "nonfinite": 7}


def test_merge__columns_that_one_lacks_are_missing_there(recorded, tmp_path):
    columns = {"age": [3, 4], "x": [0.5, 1.5], "note": ["n", "o"], "ok": [True, True], "run": [1, 2]}
    a = recorded("a", ["a", "b"], columns=columns)
    b = recorded("b", ["c"])
    ds = open_recording(merge([b, a], tmp_path / "m.zarr"))
    assert ds["age"].to_numpy().tolist() == [-1, 3, 4]
    assert np.isnan(ds["x"].to_numpy()[0]) and ds["x"].to_numpy()[1:].tolist() == [0.5, 1.5]
    assert ds["note"].to_numpy().tolist() == ["", "n", "o"]
    assert ds["ok"].to_numpy().tolist() == [False, True, True]
    assert ds["run"].to_numpy().tolist() == [-1, 1, 2]


def test_merge__renumbers_runs_and_blocks_on_request(recorded, tmp_path):
    a = recorded("a", list("abc"), columns={"run": [0, 2, 1], "block": [-1, -1, 0]})
    b = recorded("b", list("def"), columns={"run": [5, -1, 6], "block": [0, 1, 1]})
    kept = open_recording(merge([a, b], tmp_path / "k.zarr"))
    assert kept["run"].to_numpy().tolist() == [0, 2, 1, 5, -1, 6]
    renumbered = open_recording(merge([a, b], tmp_path / "r.zarr", runs="renumber"))
    assert renumbered["run"].to_numpy().tolist() == [0, 2, 1, 3, -1, 4]
    assert renumbered["block"].to_numpy().tolist() == [-1, -1, 0, 1, 2, 2]


def test_merge__of_moments_alone(recorded, tmp_path):
    a, b = recorded("a", list("abc"), cube=False), recorded("b", list("de"), cube=False, seed=1)
    out = merge([a, b], tmp_path / "m.zarr")
    assert verify(out) == validate(out) == []
    parts = [open_recording(p) for p in (a, b)]
    for name in MOMENTS:
        np.testing.assert_array_equal(open_recording(out)[name], np.concatenate([p[name] for p in parts]))


def test_merge__without_token_ids_and_inputs(tmp_path, tiny):
    from actome.store.archive import save

    bare = tiny.drop_vars(["token_id"])
    ids = [f"{p}-2" for p in bare["prompt"].to_numpy()]
    paths = [save(bare, tmp_path / "a.zarr"), save(bare.assign_coords(prompt=ids), tmp_path / "b.zarr")]
    ds = open_recording(merge(paths, tmp_path / "m.zarr"))
    expected = xr.concat([open_recording(p).activation.drop_vars("n_tokens") for p in paths], "prompt")
    np.testing.assert_array_equal(ds.activation, expected)


def test_merge__equal_prompts_are_skipped_on_request_and_others_never(recorded, tmp_path):
    a = recorded("a", list("abcd"), seed=1)
    merged = merge([a, recorded("b", list("ef"), seed=2)], tmp_path / "ab.zarr")
    with pytest.raises(
        InputError, match=r"4 prompts stand in two recordings, such as \['a', 'b', 'c'\]; give"
    ):
        merge([merged, a], tmp_path / "m.zarr")
    ds = open_recording(merge([a, merged], tmp_path / "m.zarr", duplicates="skip"))
    assert ds["prompt"].to_numpy().tolist() == list("abcdef")
    np.testing.assert_array_equal(ds.activation, open_recording(merged).activation)
    other = recorded("o", list("xd"), seed=3)
    with pytest.raises(InputError, match=r"1 prompts .* \['d'\]; their labels or tokens differ"):
        merge([a, other], tmp_path / "n.zarr", duplicates="skip")
    assert not (tmp_path / "n.zarr").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"inputs": {"weights_digest": "sha256:v"}}, "weights_digest: 'sha256:w' against 'sha256:v'"),
        ({"sites": ("mlp", "residual")}, r"sites \['mlp'\] against \['mlp', 'residual'\]"),
        ({"layers": (0, 1)}, r"layers of site 'mlp' are \(0, 2\) against \(0, 1\)"),
        ({"dtype": "float16"}, "dtype of site 'mlp' are 'float32' against 'float16'; cast one"),
        ({"cube": False, "dtype": "float64"}, "of site 'mlp' are"),
        ({"token_ids": False}, "one of them has no token_id"),
        ({"columns": {"age": ["old"]}}, "column 'age' is int64 in one recording, text in another"),
    ],
)
def test_merge__refuses_what_does_not_fit(recorded, tmp_path, changes, message):
    a, b = recorded("a", ["a"], columns={"age": [1]}), recorded("b", ["b"], **changes)
    with pytest.raises(InputError, match=message):
        merge([a, b], tmp_path / "m.zarr")
    assert not (tmp_path / "m.zarr").exists()


def test_merge__refuses_wrong_arguments(recorded, tmp_path):
    a, b = recorded("a", ["a"]), recorded("b", ["b"])
    out = tmp_path / "m.zarr"
    unfinished = recorded("u", list("cdefghijk"), final=False)
    for paths, options, error, message in (
        (a, {}, InputTypeError, "takes a sequence of paths"),
        ([a], {}, InputError, "two recordings or more, got 1"),
        ([a, b], {"runs": "new"}, InputError, "runs must be 'keep' or 'renumber', got 'new'"),
        ([a, b], {"duplicates": "drop"}, InputError, "duplicates must be 'refuse' or 'skip', got 'drop'"),
        ([a, unfinished], {}, InputError, r"u\.zarr is not complete; record it to its end first"),
        ([a, tmp_path / "no.zarr"], {}, MissingFileError, "there is no recording or result"),
    ):
        with pytest.raises(error, match=message):
            merge(paths, out, **options)
    with pytest.raises(InputError, match=r"b\.zarr holds a recording already"):
        merge([a, recorded("c", ["c"])], b)
    assert not out.exists()


def test_merge__killed_goes_on_to_the_same_bytes(recorded, tmp_path):
    paths = [recorded("a", list("abc"), seed=1), recorded("b", list("de"), seed=2)]
    whole = tmp_path / "whole.zarr"
    merge(paths, whole)
    out = tmp_path / "m.zarr"
    kills = 0
    for step in range(20, 2000, 97):
        try:
            with killed_after(step, tmp_path):
                merge(paths, out)
            break
        except KilledError:
            kills += 1
            if (out / "zarr.json").exists() and (out / "recorded/zarr.json").exists():
                shown = _shown(out)
                assert shown == list("abcde")[: len(shown)]
    assert kills > 2
    mine, theirs = files(out), files(whole)
    arrays = [key for key in mine if key.rpartition("/")[2] != "zarr.json" and key != "actome/manifest.json"]
    assert {k: mine[k] for k in arrays} == {k: theirs[k] for k in arrays}
    assert verify(out) == []


def _shown(path):
    try:
        return open_so_far(path)["prompt"].to_numpy().tolist()
    except InputError:
        return []


def test_merge__does_not_go_on_with_something_else(recorded, tmp_path):
    a, b, c = (recorded(name, [name], seed=i) for i, name in enumerate("abc"))
    out = tmp_path / "m.zarr"
    for step in range(150, 400, 10):  # until it is allocated
        with pytest.raises(KilledError), killed_after(step, tmp_path):
            merge([a, b], out)
        if "provenance" in (out / "zarr.json").read_text():
            break
    with pytest.raises(InputError, match="unfinished recording of something else; choose another path"):
        merge([a, c], out)
    merge([a, b], out)
    assert verify(out) == []


@pytest.mark.slow
def test_merge__of_two_halves_is_what_is_recorded_at_once(tmp_path):
    pytest.importorskip("torch")
    import actome

    table = actome.Paradigm.read("languages").table.iloc[::30]
    parts = {"a": table.iloc[:5], "b": table.iloc[5:], "whole": table}
    for name, rows in parts.items():
        actome.record("demo", actome.Paradigm(rows, name=name), tmp_path / f"{name}.zarr", progress=False)
    merged = open_recording(merge([tmp_path / "a.zarr", tmp_path / "b.zarr"], tmp_path / "m.zarr"))
    whole = open_recording(tmp_path / "whole.zarr")
    for name in set(whole.coords) - {"prompt"}:
        np.testing.assert_array_equal(merged[name].to_numpy(), whole[name].to_numpy(), err_msg=name)
    rounding = {"rtol": 2**-10, "atol": 1e-4}  # of float16: batches are others
    np.testing.assert_allclose(merged.activation, whole.activation, **rounding)
    np.testing.assert_allclose(merged.logprob, whole.logprob, atol=1e-4)
