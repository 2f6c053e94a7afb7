"""A recording in another type: every number as near as the type allows, and its losses counted."""

import warnings
from pathlib import Path

import numpy as np
import pytest

from actome.store.archive import open as open_recording
from actome.store.errors import InputError
from actome.store.housekeeping import cast, merge, rechunk
from actome.store.integrity import verify
from actome.store.location import Location
from actome.store.moments import masked_moments
from actome.store.validation import validate
from actome.store.writer import RecordingWriter

from .conftest import assert_same_numbers, provenance_of


def test_cast__narrower_is_rounded_as_numpy_does_and_its_moments_too(recorded, tmp_path):
    source = recorded("a", [f"p{i}" for i in range(9)], n_tokens=5, seed=3)
    out = cast(source, tmp_path / "c.zarr", "float16")
    assert verify(out) == validate(out) == []
    before, after = open_recording(source), open_recording(out)
    expected = before.activation.to_numpy().astype(np.float16)
    assert after.activation.dtype == np.float16
    np.testing.assert_array_equal(after.activation, expected)
    moments, valid = open_recording(out, level="prompt"), before.token_id.to_numpy() != -1
    for name, values in masked_moments(expected, valid).items():
        np.testing.assert_allclose(moments[name], values, rtol=1e-12)
    provenance = provenance_of(tmp_path / "c.zarr")
    assert (provenance["storage_dtype"], provenance["inputs"]["dtype"]) == ("float16", "float16")
    assert provenance_of(source)["inputs"]["dtype"] == "automatic"
    np.testing.assert_array_equal(after.logprob, before.logprob)


@pytest.mark.parametrize(("narrow", "wide"), [("float16", "float32"), ("float32", "float64")])
def test_cast__wider_is_exact_and_comes_back_the_same(recorded, tmp_path, narrow, wide):
    source = recorded("a", list("abcde"), dtype=narrow, seed=3)
    there = cast(source, tmp_path / "wide.zarr", wide)
    assert open_recording(there).activation.dtype == wide
    np.testing.assert_array_equal(open_recording(there).activation, open_recording(source).activation)
    back = cast(there, tmp_path / "back.zarr", narrow)
    assert_same_numbers(back, source)


@pytest.mark.parametrize("value", [1e5, -7e4])
def test_cast__refuses_what_float16_does_not_hold_unless_it_is_clipped(recorded, tmp_path, value):
    values = np.ones((6, 3, 2, 3))
    values[4, 0, 1, 2] = value
    source = recorded("a", list("abcdef"), values=values, counts={"clipped": 0, "nonfinite": 0})
    out = tmp_path / "c.zarr"
    message = rf"holds {value} at prompt 'e', site 'mlp', layer 1; float16 ends at 65504: keep .* clip=True"
    with pytest.raises(InputError, match=message):
        cast(source, out, "float16")
    assert not out.exists()
    with pytest.warns(UserWarning, match=r"1 activations of .*c\.zarr are beyond what float16 holds"):
        cast(source, out, "float16", clip=True)
    assert open_recording(out).activation.to_numpy()[4, 0, 1, 2] == np.sign(value) * 65504
    assert RecordingWriter(Location.of(out)).counts() == {"clipped": 1, "nonfinite": 0}


def test_cast__values_that_are_not_finite_stay_and_are_counted(recorded, tmp_path):
    values = np.ones((3, 3, 2, 3))
    values[:, 0, 0, 0], values[1, 0, 1, 1] = np.inf, np.nan
    with np.errstate(invalid="ignore"):
        source = recorded("a", list("abc"), values=values, counts={"clipped": 0})  # as `save` leaves them
    out = tmp_path / "c.zarr"
    cast(source, out, "float16")
    stored = open_recording(out).activation.to_numpy()
    valid = open_recording(out).token_id.to_numpy() != -1
    n_odd = int((~np.isfinite(stored[valid])).sum())
    assert n_odd > 3
    assert RecordingWriter(Location.of(out)).counts() == {"clipped": 0, "nonfinite": n_odd}
    np.testing.assert_array_equal(open_recording(out).activation, open_recording(source).activation)


def test_cast__keeps_what_was_counted_of_the_sites_that_it_does_not_narrow(recorded, tmp_path):
    source = recorded("a", [f"p{i}" for i in range(11)], counts={"clipped": 0, "nonfinite": 2})
    cast(source, tmp_path / "c.zarr", "float16")
    counts = [RecordingWriter(Location.of(path)).counts() for path in (source, tmp_path / "c.zarr")]
    assert counts[0] == counts[1]
    assert counts[1]["nonfinite"] > 2


def test_cast__warns_in_the_words_of_its_type(recorded, tmp_path):
    source = recorded("a", ["x"], dtype="float64", values=np.float64(1e300), counts={"clipped": 0})
    with pytest.warns(UserWarning, match=r"what float32 holds and are kept as 3\.40282e\+38.*a wider type"):
        cast(source, tmp_path / "c.zarr", "float32", clip=True)


@pytest.mark.parametrize("n", [2, 11])
def test_cast__of_a_merged_recording_keeps_the_order_of_its_paradigms(recorded, tmp_path, n):
    parts = [recorded(f"r{i}", [f"p{i}"], paradigm=f"name: q{i}\n") for i in range(n)]
    merged = merge(parts, tmp_path / "m.zarr")
    names = ["paradigm.yaml", *(f"paradigm-{i}.yaml" for i in range(2, n + 1))]
    for path in (merged, cast(merged, tmp_path / "c.zarr", "float16"), rechunk(merged, tmp_path / "r.zarr")):
        kept = [(Path(path) / "actome" / name).read_text() for name in names]
        assert kept == [f"name: q{i}\n" for i in range(n)]


def test_cast__refuses(recorded, tmp_path):
    out = tmp_path / "c.zarr"
    for source, dtype, message in (
        (
            recorded("a", ["x"]),
            "int8",
            r"dtype must be one of \['float16', 'float32', 'float64'\], got 'int8'",
        ),
        (recorded("b", ["x"]), "float32", r"b\.zarr is float32 already"),
        (recorded("c0", ["x"], cube=False), "float16", "holds the moments of each prompt, no activations"),
    ):
        with pytest.raises(InputError, match=message):
            cast(source, out, dtype)
    assert not out.exists()


def test_cast__without_warning_where_nothing_is_lost(recorded, tmp_path):
    source = recorded("a", list("abc"), counts={"clipped": 0, "nonfinite": 0})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cast(source, tmp_path / "c.zarr", "float16")
