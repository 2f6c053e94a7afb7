"""A recording stays sound whatever interrupts its writing."""

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from zarr.storage import LocalStore

from actome.store.allocate import SiteSpec, allocate
from actome.store.archive import open as open_recording
from actome.store.archive import open_so_far
from actome.store.errors import InputError, MissingFileError
from actome.store.integrity import verify
from actome.store.location import Location
from actome.store.manifest import unit_file
from actome.store.validation import validate
from actome.store.writer import RecordingWriter

N_PROMPTS, N_TOKENS, N_LAYERS, N_NEURONS = 10, 3, 2, 4  # units of 2 prompts


class CutOffError(Exception):
    """The process ends here."""


@pytest.fixture
def cut_off_at(monkeypatch) -> Callable[[float], list[str]]:
    """Let so many files be written, then end; return the keys written, in order."""

    def arm(step: float) -> list[str]:
        keys: list[str] = []

        def count(key: str) -> None:
            if len(keys) >= step:
                raise CutOffError(key)
            keys.append(key)

        async def set_(self, key, value, byte_range=None, exclusive=False):
            count(key)
            await self._set(key, value, exclusive=exclusive)

        def write(self, key, content):
            count(key)
            original_write(self, key, content)

        monkeypatch.setattr(LocalStore, "set", set_)
        monkeypatch.setattr(Location, "write", write)
        return keys

    original_write = Location.write
    return arm


def created(path: Path, **changes) -> RecordingWriter:
    options = {
        "labels": pd.DataFrame({"prompt": [f"p{i}" for i in range(N_PROMPTS)], "condition": "a"}),
        "n_tokens": N_TOKENS,
        "sites": {"mlp": SiteSpec(tuple(range(N_LAYERS)), tuple(range(N_NEURONS)), ("h0", "h1"), "float16")},
        "token_variables": ("token_id", "logprob"),
        "provenance": {"model": "m"},
        "paradigm": "name: x\n",
    }
    allocate(Location.of(path), **(options | changes))
    return RecordingWriter(Location.of(path))


def write_unit(writer: RecordingWriter, i: int, **changes) -> None:
    unit = writer.units[i]
    rng = np.random.default_rng(i)
    n = unit.stop - unit.start
    valid = np.arange(N_TOKENS) < rng.integers(1, N_TOKENS + 1, n)[:, None]
    cube = rng.standard_normal((n, N_TOKENS, N_LAYERS, N_NEURONS)).astype(np.float16)
    cube[~valid] = np.nan
    labels = {
        "prompt": np.array([f"p{p}" for p in range(unit.start, unit.stop)], dtype=object),
        "condition": np.array(["a"] * n, dtype=object),
        "n_tokens": valid.sum(axis=1),
        "token_id": np.where(valid, 7, -1).astype(np.int32),
        "logprob": np.where(valid, -1.0, np.nan).astype(np.float32),
    }
    writer.write_unit(
        i, labels | changes.get("labels", {}), {"mlp": changes.get("cube", cube)}, counts={"clipped": i}
    )


def written(path: Path) -> RecordingWriter:
    writer = created(path)
    for i in writer.pending():
        write_unit(writer, i)
    writer.finalise()
    return writer


def files(path: Path) -> dict[str, bytes]:
    return {str(p.relative_to(path)): p.read_bytes() for p in sorted(path.rglob("*")) if p.is_file()}


def test_create__allocates_without_a_value(tmp_path):
    writer = created(tmp_path / "r.zarr")
    assert writer.sites == ["mlp"]
    assert writer.pending() == [0, 1, 2, 3, 4]
    assert not writer.is_final
    assert writer.attrs["provenance"] == {"model": "m"}
    assert (tmp_path / "r.zarr/actome/paradigm.yaml").read_text() == "name: x\n"
    assert not [key for key in files(tmp_path / "r.zarr") if key.startswith("mlp/activation/c/")]


def test_create__chunks_every_array_by_unit(tmp_path):
    group = created(tmp_path / "r.zarr").group
    for name in ("prompt", "condition", "n_tokens", "token_id", "logprob", "recorded", "mlp/summary/count"):
        assert group[name].chunks[0] == 2, name
    assert group["mlp/activation"].shards == (2, N_TOKENS, 1, N_NEURONS)
    assert group["mlp/summary/mean"].chunks == (2, 2, N_NEURONS)


def test_create__further_columns_keep_their_type(tmp_path):
    columns = {"age": np.uint8([1] * 10), "x": np.float32([1] * 10), "ok": [True] * 10, "when": ["now"] * 10}
    group = created(tmp_path / "r.zarr", labels=pd.DataFrame({"prompt": list("abcdefghij"), **columns})).group
    assert [group[c].dtype.name for c in ("age", "x", "ok")] == ["uint8", "float32", "bool"]
    assert group["when"][:].tolist() == [""] * 10


def test_create__refuses_a_taken_place_and_no_prompts(tmp_path):
    written(tmp_path / "r.zarr")
    with pytest.raises(InputError, match=r"r\.zarr holds a recording already; choose another path"):
        created(tmp_path / "r.zarr")
    with pytest.raises(InputError, match="at least one prompt, got none"):
        created(tmp_path / "s.zarr", labels=pd.DataFrame({"prompt": []}))


def test_create__a_reader_meets_one_clear_error_at_every_step(tmp_path, cut_off_at, monkeypatch):
    keys = cut_off_at(math.inf)
    created(tmp_path / "whole.zarr")
    for step in range(len(keys) + 1):
        path = tmp_path / f"{step}.zarr"
        cut_off_at(step)
        if step < len(keys):
            with pytest.raises(CutOffError):
                created(path)
        else:
            created(path)
        error = InputError if (path / "zarr.json").exists() else MissingFileError
        with pytest.raises(error, match=r"has no recorded prompts yet|there is no recording"):
            open_recording(path)
    assert error is InputError


def test_write_unit__commits_in_order(tmp_path, cut_off_at):
    writer = created(tmp_path / "r.zarr")
    keys = cut_off_at(math.inf)
    write_unit(writer, 1)
    stage = {"mlp/activation": 0, "mlp/summary": 1, "actome/units": 3, "recorded/c": 4}
    stages = [stage.get("/".join(key.split("/")[:2]), 2) for key in keys]
    assert stages == sorted(stages)
    assert set(stages) == {0, 1, 2, 3, 4}
    assert keys[-2:] == [unit_file(1), "recorded/c/1"]
    assert len(keys) == len(set(keys))


@pytest.mark.parametrize("step", [3, pytest.param(1, marks=pytest.mark.slow)])
def test_write_unit__cut_off_anywhere_is_invisible_and_resumes_to_the_same_bytes(tmp_path, cut_off_at, step):
    written(tmp_path / "whole.zarr")
    expected = files(tmp_path / "whole.zarr")
    counted = created(tmp_path / "counted.zarr")
    keys = cut_off_at(math.inf)
    write_unit(counted, 1)
    for at in {*range(0, len(keys), step), len(keys) - 1}:
        path = tmp_path / f"{at}.zarr"
        cut_off_at(math.inf)  # the keys written for unit 1 are counted; from here on another list grows
        writer = created(path)
        for i in (0, 2, 3, 4):
            write_unit(writer, i)
        cut_off_at(at)
        with pytest.raises(CutOffError):
            write_unit(writer, 1)

        for level in ("token", "prompt"):
            seen = open_so_far(path, level=level)
            assert seen["prompt"].to_numpy().tolist() == [f"p{i}" for i in (0, 1, 4, 5, 6, 7, 8, 9)]
        cut_off_at(math.inf)
        resumed = RecordingWriter(Location.of(path))
        assert resumed.pending() == [1]
        with pytest.raises(InputError, match=r"units \[1\] are not recorded yet"):
            resumed.finalise()
        resumed.clear_units([1])
        assert not [key for key in files(path) if "/c/1" in key or key == unit_file(1)]
        write_unit(resumed, 1)
        resumed.finalise()
        assert files(path) == expected, keys[at]
        assert resumed.pending() == []


def test_finalise__cut_off_anywhere_can_be_repeated(tmp_path, cut_off_at):
    written(tmp_path / "whole.zarr")
    for step in range(3):  # consolidated metadata, manifest, root
        path = tmp_path / f"{step}.zarr"
        cut_off_at(math.inf)
        writer = created(path)
        for i in writer.pending():
            write_unit(writer, i)
        cut_off_at(step)
        with pytest.raises(CutOffError):
            writer.finalise()
        assert open_recording(path).sizes["prompt"] == N_PROMPTS
        assert verify(path) != []
        cut_off_at(math.inf)
        RecordingWriter(Location.of(path)).finalise()
        assert verify(path) == []
        assert files(path) == files(tmp_path / "whole.zarr")


def test_finalise__removes_what_a_cut_off_write_left(tmp_path):
    writer = created(tmp_path / "r.zarr")
    for i in writer.pending():
        write_unit(writer, i)
    (tmp_path / "r.zarr/prompt/c/1.0123.partial").write_bytes(b"torn")
    writer.finalise()
    assert not list((tmp_path / "r.zarr").rglob("*.partial"))


def test_finalise__twice_changes_nothing(tmp_path):
    writer = written(tmp_path / "r.zarr")
    before = files(tmp_path / "r.zarr")
    writer.finalise()
    again = RecordingWriter(Location.of(tmp_path / "r.zarr"))
    assert again.is_final
    assert again.pending() == []
    again.finalise()
    assert files(tmp_path / "r.zarr") == before


def test_write_unit__order_of_units_and_number_of_writers_do_not_matter(tmp_path):
    written(tmp_path / "a.zarr")
    writers = [created(tmp_path / "b.zarr"), RecordingWriter(Location.of(tmp_path / "b.zarr"))]
    for n, i in enumerate((3, 0, 4, 2, 1)):
        write_unit(writers[n % 2], i)
    writers[0].finalise()
    assert files(tmp_path / "a.zarr") == files(tmp_path / "b.zarr")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"cube": np.zeros((1, 3, 2, 4))},
            r"unit 0: mlp/activation must have shape \(2, 3, 2, 4\), got \(1, 3",
        ),
        ({"cube": np.zeros((2, 3, 2, 1))}, r"must have shape \(2, 3, 2, 4\), got \(2, 3, 2, 1\)"),
        ({"labels": {"n_tokens": np.array([3])}}, r"n_tokens must have shape \(2,\), got \(1,\)"),
        ({"labels": {"token_id": np.zeros((2, 2))}}, r"token_id must have shape \(2, 3\), got \(2, 2\)"),
    ],
)
def test_write_unit__refuses_what_does_not_fit(tmp_path, changes, message):
    writer = created(tmp_path / "r.zarr")
    with pytest.raises(InputError, match=message):
        write_unit(writer, 0, **changes)
    assert writer.pending() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        (
            "token_id",
            np.full((2, 3), 2**40 + 5),
            "token_id is stored as int32, .* its int64 values as",
        ),
        ("n_tokens", np.array([1.5, 1]), "n_tokens is stored as int64, .* its float64 values"),
        ("logprob", np.full((2, 3), -0.1), "logprob is stored as float32, .* its float64 values"),
    ],
)
def test_write_unit__refuses_labels_that_their_array_would_change(tmp_path, name, values, message):
    writer = created(tmp_path / "r.zarr")
    before = files(tmp_path / "r.zarr")
    with pytest.raises(InputError, match=f"unit 0: {message}"):
        write_unit(writer, 0, labels={name: values})
    assert files(tmp_path / "r.zarr") == before


def test_write_unit__takes_labels_of_another_type_that_come_through(tmp_path):
    writer = created(tmp_path / "r.zarr")
    write_unit(writer, 0, labels={"n_tokens": np.array([1.0, 3.0]), "logprob": np.full((2, 3), -0.5)})
    assert writer.group["n_tokens"][:2].tolist() == [1, 3]
    assert (writer.group["logprob"][:2] == -0.5).all()


@pytest.mark.parametrize(
    ("dtypes", "message"),
    [
        (("float16",), "beyond what float16 holds and are kept as 65504, the largest; do"),
        (("float32",), r"beyond what float32 holds and are kept as 3\.40282e\+38, the largest"),
        (("float32", "float16"), r"beyond what float16 or float32 holds and are kept as 65504 or 3\.4"),
    ],
)
def test_warn_of_losses__names_the_types_that_are_stored(tmp_path, dtypes, message):
    sites = {
        name: SiteSpec((0, 1), tuple(range(N_NEURONS)), ("h0", "h1"), dtype)
        for name, dtype in zip(("mlp", "residual"), dtypes, strict=False)
    }
    writer = created(tmp_path / "r.zarr", sites=sites)
    writer.location.write(unit_file(0), b'{"files": {}, "counts": {"clipped": 3}}')
    with pytest.warns(UserWarning, match=f"3 activations of .* are {message}"):
        writer.warn_of_losses(remedy="do", cause="")


def test_write_unit__keeps_the_counts(tmp_path):
    written(tmp_path / "r.zarr")
    assert '"clipped": 3' in (tmp_path / "r.zarr" / unit_file(3)).read_text()


def test_recording__is_sound_and_opens_with_plain_xarray(tmp_path):
    written(tmp_path / "r.zarr")
    assert validate(tmp_path / "r.zarr") == verify(tmp_path / "r.zarr") == []
    tree = xr.open_datatree(tmp_path / "r.zarr", engine="zarr")
    assert tree["mlp"]["hook_name"].to_numpy().tolist() == ["h0", "h1"]
    assert tree["mlp/activation"].dtype == np.float16
    assert tree["logprob"].attrs["long_name"].startswith("natural logarithm")
    assert tree["recorded"].to_numpy().all()
