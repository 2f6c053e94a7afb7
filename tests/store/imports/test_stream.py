"""What all imports share: units, interruptions, labels."""

import numpy as np
import pandas as pd
import pytest

from actome.store.archive import open as open_recording
from actome.store.errors import InputError, InputTypeError, MissingFileError
from actome.store.imports import import_numpy
from actome.store.imports.labels import read_labels
from actome.store.integrity import verify
from actome.store.writer import RecordingWriter

from .sources import check_found, cube, table


@pytest.fixture
def interrupt(monkeypatch):
    """Stop an import after its second unit."""
    whole = RecordingWriter.write_unit

    def until_the_third(self, i, *args, **kwargs):
        if i == 2:
            raise KeyboardInterrupt
        whole(self, i, *args, **kwargs)

    monkeypatch.setattr(RecordingWriter, "write_unit", until_the_third)
    return lambda: monkeypatch.setattr(RecordingWriter, "write_unit", whole)


@pytest.fixture
def unfinished(tmp_path, interrupt):
    """An import that was interrupted."""
    with pytest.raises(KeyboardInterrupt):
        import_numpy(cube(), table(), tmp_path / "r.zarr", site="mlp")
    interrupt()
    return tmp_path / "r.zarr"


def test_import__an_interrupted_one_is_not_complete_and_goes_on(unfinished, monkeypatch):
    assert verify(unfinished) == ["unfinished: no manifest; only complete units are checked"]
    with pytest.warns(
        UserWarning, match="only 4 of 12 prompts of r are recorded; give the same command again"
    ):
        assert open_recording(unfinished).sizes["prompt"] == 4
    written = []
    whole = RecordingWriter.write_unit
    monkeypatch.setattr(
        RecordingWriter, "write_unit", lambda self, i, *a, **k: (written.append(i), whole(self, i, *a, **k))
    )
    ds = check_found(import_numpy(cube(), table(), unfinished, site="mlp"))
    assert written == [2, 3, 4, 5]
    np.testing.assert_array_equal(ds["activation"].to_numpy(), cube())


@pytest.mark.parametrize(
    ("array", "labels", "kwargs", "what"),
    [
        (cube() + 1, table(), {}, "source_digest"),
        (cube(), table(run=1), {}, "labels_digest"),
        (cube(), table(), {"layers": [4, 5]}, "sites"),
        (cube(), table(), {"dtype": "float16"}, "dtype"),
    ],
)
def test_import__goes_on_with_the_same_only(unfinished, array, labels, kwargs, what):
    with pytest.raises(InputError, match=rf"was recorded differently \({what}: "):
        import_numpy(array, labels, unfinished, **{"site": "mlp", **kwargs})
    check_found(import_numpy(cube(), table(), unfinished, site="mlp"))


def test_import__never_overwrites(tmp_path):
    path = import_numpy(cube(), table(), tmp_path / "r.zarr", site="mlp")
    with pytest.raises(InputError, match="holds a recording already; choose another path or remove it"):
        import_numpy(cube(), table(), path, site="mlp")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/mine.txt").touch()
    with pytest.raises(InputError, match="is a folder with other files"):
        import_numpy(cube(), table(), tmp_path / "folder", site="mlp")
    assert verify(path) == [] and (tmp_path / "folder/mine.txt").exists()


def test_import__a_wrong_source_found_while_going_on_leaves_what_was_there(tmp_path, interrupt):
    wrong = cube()
    wrong[11, 0] = np.nan
    with pytest.raises(KeyboardInterrupt):
        import_numpy(wrong, table(), tmp_path / "r.zarr", site="mlp")
    interrupt()
    with pytest.raises(InputError, match="prompt '11', site 'mlp': token 0 of 4 is NaN"):
        import_numpy(wrong, table(), tmp_path / "r.zarr", site="mlp")
    with pytest.warns(UserWarning, match="only 10 of 12 prompts of r are recorded"):
        assert open_recording(tmp_path / "r.zarr").sizes["prompt"] == 10


def test_import__a_remote_place(tmp_path):
    path = import_numpy(cube(), table(), "memory://test_import/r.zarr", site="mlp")
    np.testing.assert_array_equal(open_recording(path)["activation"].to_numpy(), cube())


def test_import__holds_one_unit_at_a_time(tmp_path, monkeypatch):
    np.save(tmp_path / "a.npy", cube())
    slabs = []
    whole = RecordingWriter.write_unit

    def watch(self, i, labels, activations, **kwargs):
        slabs.append(activations["mlp"].shape)
        whole(self, i, labels, activations, **kwargs)

    monkeypatch.setattr(RecordingWriter, "write_unit", watch)
    import_numpy(tmp_path / "a.npy", table(), tmp_path / "r.zarr", site="mlp")
    assert slabs == [(2, 4, 2, 6)] * 6


def test_read_labels__types(tmp_path):
    frame = pd.DataFrame(
        {
            "id": [1, 2],
            "block": [0.0, 1.0],
            "score": [0.5, None],
            "count": pd.array([1, 2], dtype="Int64"),
            "when": pd.to_datetime(["2026-01-01", None]),
        }
    ).rename(columns={"count": "number"})
    labels = read_labels(frame)
    assert labels.to_dict(orient="list") == {
        "prompt": ["1", "2"],
        "block": [0, 1],
        "score": ["0.5", ""],
        "number": [1, 2],
        "when": ["2026-01-01 00:00:00", ""],
    }
    assert [labels[c].dtype.kind for c in labels] == list("OiOiO")


def test_read_labels__csv_is_text_but_for_whole_numbers(tmp_path):
    (tmp_path / "l.csv").write_text("\ufeffid,condition,run,age\n01,no,1,07\n02,NA,0,\n", encoding="utf-8")
    labels = read_labels(tmp_path / "l.csv")
    assert labels.to_dict(orient="list") == {
        "prompt": ["01", "02"],
        "condition": ["no", "NA"],
        "run": [1, 0],
        "age": ["07", ""],
    }


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        ({"id": ["a", "a"]}, r"prompt ids must be unique; \['a'\] stand more than once"),
        ({"id": ["a", None]}, r"rows \[1\] have no 'prompt'"),
        ({"condition": ["a", ""]}, r"rows \[1\] have no 'condition'"),
        ({"run": ["x", "1"]}, "column 'run' must hold whole numbers"),
        ({"run": [0.5, 1]}, "column 'run' must hold whole numbers, got 0.5"),
        ({"id": ["a", "b"], "prompt": ["a", "b"]}, "a column stands twice"),
        ({"activation": [1, 2]}, r"columns \['activation'\] are reserved"),
        ({"mlp": [1, 2]}, r"columns \['mlp'\] are reserved"),
        ({"a/b": [1, 2]}, r"columns \['a/b'\] cannot name an array"),
    ],
)
def test_read_labels__bad_columns(frame, message):
    with pytest.raises(InputError, match=message):
        read_labels(pd.DataFrame(frame))


def test_read_labels__bad_files(tmp_path, monkeypatch):
    with pytest.raises(InputTypeError, match="labels must be a DataFrame or the path of a table, got list"):
        read_labels([1, 2])
    with pytest.raises(MissingFileError, match="there is no table of labels at"):
        read_labels(tmp_path / "none.csv")
    for name, content, message in (
        ("a.pkl", "x", r"must end in \.csv, \.jsonl, \.parquet, got '\.pkl'"),
        ("empty.csv", "", "is not csv: No columns"),
        ("long.csv", "a,b\n1,2,3\n", "is not csv: a row has more fields than the header names"),
        ("list.jsonl", "[1]\n", "is not jsonl: every line must be an object"),
        ("cut.jsonl", '{"a":', "is not jsonl"),
        ("bad.parquet", "PAR1", "is not parquet"),
    ):
        (tmp_path / name).write_text(content)
        with pytest.raises(InputError, match=message):
            read_labels(tmp_path / name)
