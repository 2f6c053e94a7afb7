import io
import pickle

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actome.store.archive import open as open_recording
from actome.store.errors import InputError, InputTypeError, MissingFileError
from actome.store.imports import import_numpy

from .sources import LENGTHS, check_found, cube, table


@pytest.fixture
def npy(tmp_path):
    np.save(tmp_path / "acts.npy", cube())
    return tmp_path / "acts.npy"


def test_import_numpy__a_planted_difference_is_found_and_values_are_exact(npy, tmp_path):
    labels = table(id=[f"p{i}" for i in range(12)], text="hello", score=np.arange(12) / 7)
    path = import_numpy(npy, labels, tmp_path / "r.zarr", site="residual", layers=[5, 9])
    ds = check_found(path)
    np.testing.assert_array_equal(ds["activation"].to_numpy(), cube())
    assert ds["activation"].dtype == np.float32
    assert ds["layer"].to_numpy().tolist() == [5, 9]
    assert ds["n_tokens"].to_numpy().tolist() == LENGTHS
    assert ds["prompt"].to_numpy().tolist() == labels["id"].tolist()
    assert ds["score"].to_numpy().tolist() == labels["score"].tolist()
    assert ds.attrs["site"] == "residual"


def test_import_numpy__an_array_in_memory_and_a_table_in_a_file(tmp_path):
    for kind in ("csv", "jsonl", "parquet"):
        file = tmp_path / f"labels.{kind}"
        frame = table()
        if kind == "csv":
            frame.to_csv(file, index=False)
        elif kind == "jsonl":
            frame.to_json(file, orient="records", lines=True)
        else:
            frame.to_parquet(file)
        ds = check_found(import_numpy(cube(), file, tmp_path / f"{kind}.zarr", site="mlp"))
        assert ds["run"].to_numpy().tolist() == frame["run"].tolist()
        assert ds["prompt"].to_numpy().tolist() == [str(i) for i in range(12)]


def test_import_numpy__one_token_a_prompt(tmp_path):
    ds = check_found(import_numpy(cube(full=True)[:, 0], table(), tmp_path / "r.zarr", site="mlp_out"))
    np.testing.assert_array_equal(ds["activation"].to_numpy()[:, 0], cube(full=True)[:, 0])
    assert ds["n_tokens"].to_numpy().tolist() == [1] * 12


@pytest.mark.parametrize("as_column", [True, False])
def test_import_numpy__given_token_counts_cut_the_padding(tmp_path, as_column):
    padded = cube(full=True)  # padded with numbers, as batches are
    labels = table(n_tokens=LENGTHS) if as_column else table()
    counts = None if as_column else LENGTHS
    ds = check_found(import_numpy(padded, labels, tmp_path / "r.zarr", site="mlp", n_tokens=counts))
    np.testing.assert_array_equal(ds["activation"].to_numpy(), cube())


@pytest.mark.parametrize("source", ["float16", ">f4", "float64"])
def test_import_numpy__the_type_stays_unless_another_is_asked(tmp_path, source):
    values = cube().astype(source)
    kept = open_recording(import_numpy(values, table(), tmp_path / "a.zarr", site="mlp"))
    assert kept["activation"].dtype == np.dtype(source).newbyteorder("=")
    np.testing.assert_array_equal(kept["activation"].to_numpy(), values)
    half = open_recording(import_numpy(values, table(), tmp_path / "b.zarr", site="mlp", dtype="float16"))
    np.testing.assert_array_equal(half["activation"].to_numpy(), values.astype(np.float16))


def test_import_numpy__what_float16_cannot_hold_is_clipped_and_counted(tmp_path):
    values = cube(full=True)
    values[0, 0, 0, :3] = 1e5, -1e5, np.inf
    with pytest.warns(UserWarning) as caught:
        path = import_numpy(values, table(), tmp_path / "r.zarr", site="mlp", dtype="float16")
    assert [str(w.message).split(" activations")[0] for w in caught] == ["2", "1"]
    assert caught[0].filename == __file__
    stored = open_recording(path)["activation"].to_numpy()[0, 0, 0, :3]
    assert stored.tolist() == [65504, -65504, np.inf]


@settings(max_examples=10)
@given(st.data())
def test_import_numpy__any_array_comes_back_exactly(tmp_path_factory, data):
    shape = [data.draw(st.integers(1, 6)) for _ in range(4)]
    values = np.random.default_rng(data.draw(st.integers(0, 99))).standard_normal(shape).astype(np.float32)
    values[np.arange(shape[1]) >= np.array(data.draw(_lengths(shape)))[:, None]] = np.nan
    values = np.asarray(values, order=data.draw(st.sampled_from("CF")))
    out = tmp_path_factory.mktemp("r")
    np.save(out / "a.npy", values)
    path = import_numpy(out / "a.npy", pd.DataFrame(index=range(shape[0])), out / "r.zarr", site="mlp")
    np.testing.assert_array_equal(open_recording(path)["activation"].to_numpy(), values)


def _lengths(shape):
    return st.lists(st.integers(0, shape[1]), min_size=shape[0], max_size=shape[0])


def test_import_numpy__names_its_source_without_its_place(npy, tmp_path):
    provenance = open_recording(import_numpy(npy, table(), tmp_path / "r.zarr", site="mlp")).attrs[
        "provenance"
    ]
    assert provenance["source"] == {"name": "acts.npy", "shape": [12, 4, 2, 6], "dtype": "float32"}
    assert provenance["inputs"]["format"] == "numpy"
    assert str(tmp_path) not in str(provenance)
    assert (tmp_path / "r.zarr/actome/sources.json").read_text().startswith('{\n "acts.npy": "sha256:')


def test_import_numpy__never_unpickles(tmp_path):
    class Bomb:
        def __reduce__(self):
            return exec, ("raise SystemExit",)

    np.save(tmp_path / "objects.npy", np.array([Bomb()], dtype=object), allow_pickle=True)
    (tmp_path / "pickle.npy").write_bytes(pickle.dumps(Bomb()))
    np.savez(tmp_path / "a.npz", cube())
    for name in ("objects.npy", "pickle.npy", "a.npz"):
        with pytest.raises(
            InputError, match=r"is no \.npy file of numbers, whole and without Python objects"
        ):
            import_numpy(tmp_path / name, table(), tmp_path / "r.zarr", site="mlp")


def _with_hole():
    values = cube()
    values[3, 1] = np.nan
    return values


@pytest.mark.parametrize(
    ("array", "kwargs", "message"),
    [
        (cube()[0, 0], {}, r"must have shape \(prompt, token, layer, neuron\) or .*got \(2, 6\)"),
        (
            cube(full=True).astype(np.int64),
            {},
            "must be float16 or float32 or float64, got int64; convert it",
        ),
        (cube()[:, :0], {}, r"the array holds nothing: its shape is \(12, 0, 2, 6\)"),
        (cube()[:11], {}, "the labels have 12 rows, the array 11 prompts; give one row a prompt"),
        (cube(), {"layers": [1]}, r"layers must give 2 different numbers from 0 up.*got \[1\]"),
        (cube(), {"layers": [1, 1]}, "layers must give 2 different numbers"),
        (cube(), {"neurons": [0, 1, 2, 3, 4, -5]}, "neurons must give 6 different numbers"),
        (cube(), {"site": "brain"}, r"site must be one of \['mlp', .*got 'brain'"),
        (
            cube(),
            {"dtype": "bfloat16"},
            r"dtype must be one of \['float16', 'float32'\] or None, got 'bfloat16'",
        ),
        (cube(), {"n_tokens": [4] * 11 + [5]}, "n_tokens must be 12 whole numbers from 0 to 4, one a prompt"),
        (cube(), {"n_tokens": [4] * 11}, "n_tokens must be 12 whole numbers.*got 11"),
        (cube(), {"n_tokens": [4] * 12}, "prompt '1', site 'mlp': token 2 of 4 is NaN in every neuron"),
        (_with_hole(), {}, "prompt '3', site 'mlp': token 1 of 4 is NaN in every neuron"),
    ],
)
def test_import_numpy__bad_input_writes_nothing(tmp_path, array, kwargs, message):
    with pytest.raises(InputError, match=message):
        import_numpy(array, table(), tmp_path / "r.zarr", **{"site": "mlp", **kwargs})
    assert not (tmp_path / "r.zarr").exists()


def test_import_numpy__a_file_that_is_cut_off_or_not_there(npy, tmp_path):
    npy.write_bytes(npy.read_bytes()[:-8])
    with pytest.raises(InputError, match=r"is no \.npy file of numbers, whole and"):
        import_numpy(npy, table(), tmp_path / "r.zarr", site="mlp")
    with pytest.raises(MissingFileError, match="there is no array file at"):
        import_numpy(tmp_path / "none.npy", table(), tmp_path / "r.zarr", site="mlp")
    with pytest.raises(
        InputTypeError, match=r"must be a NumPy array or the path of a \.npy file, got BytesIO"
    ):
        import_numpy(io.BytesIO(), table(), tmp_path / "r.zarr", site="mlp")


def test_import_numpy__token_counts_given_twice(tmp_path):
    with pytest.raises(InputError, match="n_tokens is given twice"):
        import_numpy(cube(), table(n_tokens=LENGTHS), tmp_path / "r.zarr", site="mlp", n_tokens=LENGTHS)
