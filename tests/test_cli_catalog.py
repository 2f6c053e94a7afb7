"""`ls`, `add` and `info`."""

import json
import subprocess
import sys
import warnings

import numpy as np
import pytest
import xarray as xr

import actome
from actome.store.archive import open as open_recording
from actome.store.archive import save
from actome.store.errors import InputError
from actome.store.phantom import phantom
from actome.store.results import save_result
from actome.store.writer import RecordingWriter


@pytest.fixture
def call(call, monkeypatch, tmp_path):
    """Run a command in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    return call


@pytest.fixture
def lab(call, tmp_path):
    """A catalog of a recording, a result and a remote entry."""
    ds = phantom(n_prompts=4, n_tokens=(2, 5), n_layers=2, n_neurons=6, fraction=0.1)
    save(ds, tmp_path / "r.zarr")
    source = open_recording(tmp_path / "r.zarr").attrs["manifest_digest"]
    save_result(ds["activation"].mean(("prompt", "token")), tmp_path / "mean.zarr", derived_from=source)
    assert (
        call(
            "add", "r", "r.zarr", "--tag", "demo", "--licence", "CC0-1.0", "--description", "it's a: phantom"
        )[0]
        == 0
    )
    assert call("add", "mean", tmp_path / "mean.zarr", "--citation", "Doe 2026")[0] == 0
    assert call("add", "far", "s3://lab/far.zarr", "--no-look", "--tag", "demo", "--tag", "far")[0] == 0
    return tmp_path


def test_add__writes_a_catalog_that_lists(call, lab):
    text = (lab / "catalog.yaml").read_text()
    assert "urlpath: '{{ CATALOG_DIR }}/mean.zarr'" in text  # it lies in the folder of the catalog
    status, printed, _ = call("ls")
    assert status == 0
    assert printed.splitlines() == ["r     built      it's a: phantom", "mean  built", "far   remote"]


def test_add__goes_into_the_catalog_that_is_named(call, lab):
    status, printed, _ = call("add", "x", "r.zarr", "--catalog", lab / "sub/other.yaml")
    assert status == 0 and printed == f"{lab}/sub/other.yaml: x -> {lab}/r.zarr\n"
    assert call("ls", "--catalog", "sub/other.yaml")[1].split()[:2] == ["x", "built"]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("add", "r", "r.zarr"), "has an entry 'r' already"),
        (("add", "x", "python://os"), "entry 'x': a URL is of abfs"),
        (("add", "a/b", "r.zarr"), "a name must not be a path"),
        (("add", "x", "r.zarr", "--catalog", "a.yaml", "--catalog", "b.yaml"), "added to one catalog, got 2"),
        (("add", "x", "r.zarr", "--catalog", "s3:://lab/catalog.yaml"), "a URL is of abfs"),
        (("info", "nothing"), "has no entry 'nothing'"),
        (
            ("info", "r.zarr/mlp"),
            "is a site of a recording, not an entry of its own; open the recording with site='mlp'",
        ),
        (("ls", "--catalog", "nowhere.yaml"), "there is no catalog file at nowhere.yaml"),
    ],
)
def test_catalog__a_wrong_input_is_one_line_and_changes_nothing(call, lab, args, message):
    before = (lab / "catalog.yaml").read_text()
    status, printed, err = call(*args)
    assert status == 2 and printed == ""
    assert message in err and err.count("\n") == 1
    assert (lab / "catalog.yaml").read_text() == before
    assert not list(lab.glob("[ab].yaml"))


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ((), ["r", "mean", "far"]),
        (("--tag", "demo"), ["r", "far"]),
        (("--tag", "demo", "--tag", "far"), ["far"]),
        (("--condition", "rest"), ["r"]),
        (("--site", "mlp"), ["r"]),
        (("--licence", "CC0*"), ["r"]),
        (("--kind", "rec*"), ["r"]),
        (("--search", "doe"), ["mean"]),
        (("--model", "*"), []),
    ],
)
def test_ls__finds_what_is_searched_for(call, lab, options, names):
    status, printed, _ = call("ls", *options, "--json")
    rows = json.loads(printed)
    assert status == 0 and [row["name"] for row in rows] == names
    assert all(row["built"] is {"far": None}.get(row["name"], True) for row in rows)


def test_ls__json_says_what_the_catalog_knows(call, lab):
    row = json.loads(call("ls", "--json", "--search", "phantom")[1])[0]
    assert row["location"] == f"{lab}/r.zarr"
    assert row["description"] == "it's a: phantom"
    assert row["metadata"]["licence"] == "CC0-1.0"
    assert row["metadata"]["shape"] == {"prompt": 12, "token": 5, "layer": 2, "neuron": 6}


def test_ls__takes_several_catalogs(call, lab):
    call("add", "x", "r.zarr", "--catalog", "other.yaml")
    both = ("--catalog", "catalog.yaml", "--catalog", "other.yaml")
    assert [line.split()[0] for line in call("ls", *both)[1].splitlines()] == ["r", "mean", "far", "x"]
    assert call("info", "x", *both)[0] == 0
    assert call("verify", "x", *both)[0] == 0


def test_ls__no_escape_sequence_reaches_the_terminal(call, lab):
    call("add", "odd", "r.zarr", "--description", "a\x1b[2J\nb")
    printed = call("ls")[1]
    assert "\x1b" not in printed and "a?[2J b" in printed


def test_ls__neither_imports_zarr_nor_opens_a_store(lab):
    code = (
        "import sys; from actome.cli import catalog; catalog.list_entries(search='a'); "
        "print([m for m in ('zarr', 'xarray', 'numpy', 'fsspec', 'ruamel.yaml', 'yaml') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], cwd=lab, capture_output=True, text=True, check=True)
    assert out.stdout.splitlines()[-1] == "[]"


def test_info__of_an_entry_a_path_and_a_result(call, lab):
    status, printed, _ = call("info", "r", "--json")
    content = json.loads(printed)
    assert status == 0 and content["kind"] == "recording" and content["sites"] == ["mlp"]
    assert content["conditions"] == {"a": 4, "b": 4, "rest": 4}
    assert content["entry"]["metadata"]["tags"] == ["demo"]
    cube = content["layout"]["mlp/activation"]
    assert cube["shape"] == [12, 5, 2, 6] and cube["chunk"] == [2, 5, 1, 6]
    assert cube["reads"]["one layer"] == {"files": 6, "bytes": 6 * 2 * 5 * 6 * 4}
    files = [p for p in (lab / "r.zarr").rglob("*") if p.is_file()]
    assert content["stored"] == {"files": len(files), "bytes": sum(p.stat().st_size for p in files)}
    content = json.loads(call("info", lab / "r.zarr", "--json")[1])
    assert "entry" not in content
    assert json.loads(call("info", "mean", "--json")[1])["sizes"] == {"layer": 2, "neuron": 6}


def test_info__explains_the_layout(call, lab):
    lines = call("info", "r")[1].splitlines()
    start = lines.index("layout, in bytes before compression:")
    assert lines[start + 1 : start + 8] == [
        "  6 units of 2 prompts: what is written, resumed and read at once",
        "  mlp/activation: float32, 12 prompts, 5 tokens, 2 layers, 6 neurons, 2.88 kB",
        "    12 files of 240 B: (2, 5, 1, 6)",
        "    in chunks of 240 B: (2, 5, 1, 6)",
        "    one prompt takes 2 of the files, 480 B",
        "    one layer takes 6 of the files, 1.44 kB",
        "    3 neurons of a layer takes 6 of the files, 1.44 kB",
    ]


def test_info__of_a_tree_counts_its_tensors_and_shows_no_empty_heading(call, tmp_path):
    masks = xr.Dataset({"mask": (("region", "row", "column"), np.ones((1, 2, 3), dtype=bool))})
    root = xr.Dataset(coords={"region": ["core"]}, attrs={"kind": "regions"})
    actome.save_result(xr.DataTree.from_dict({"/": root, "/a.weight": masks, "/b.weight": masks}), "g.zarr")
    status, printed, error = call("info", "g.zarr")
    assert (status, error) == (0, "") and "\ntensors: 2\n" in printed
    assert "layout" not in printed and "sites" not in printed
    status, _, error = call("report", "g.zarr", "-o", "r.html")
    assert status == 2 and error.count("\n") == 1
    assert "g.zarr holds regions, which have no section; score them with `actome.score_regions`" in error


def test_commands__say_that_a_recording_is_not_finished(call, tmp_path, monkeypatch):
    write_unit = RecordingWriter.write_unit
    monkeypatch.setattr(
        RecordingWriter, "write_unit", lambda self, i, *a, **k: i == 4 or write_unit(self, i, *a, **k)
    )
    with pytest.raises(InputError, match="are not recorded yet"):
        save(phantom(n_prompts=4, n_tokens=(2, 5), n_layers=2, n_neurons=6, fraction=0.1), "p.zarr")
    assert call("validate", "p.zarr")[:2] == (0, "it fits the schema; only 10 of 12 prompts are recorded\n")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        status, printed, error = call("info", "p.zarr")
        assert status == 0 and "\nunfinished: 10 of 12 prompts of p\n" in printed
        said = "actome: warning: only 10 of 12 prompts of p are recorded; remove it and save it again\n"
        assert error == said
        status, _, error = call("glm", "p.zarr", "-c", "a - b", "-o", "c.zarr")
        assert status == 0 and error.count(said) == 1
        assert actome.open("c.zarr").attrs["unfinished"] == "10 of 12 prompts of p"
        status, _, error = call("report", "p.zarr", "c.zarr", "-o", "r.html")
        assert status == 0 and (tmp_path / "r.html").read_text().count("10 of 12 prompts of p") == 3
