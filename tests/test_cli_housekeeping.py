"""The commands that keep an archive in order."""

import json
import zipfile

import numpy as np
import pytest

from actome.store.archive import open as open_recording
from actome.store.archive import save
from actome.store.catalog import open_catalog
from actome.store.phantom import phantom
from actome.store.results import save_result


@pytest.fixture
def archive(tmp_path, monkeypatch):
    """Two recordings with prompts of their own, a result of the first, and a catalog of all."""
    monkeypatch.chdir(tmp_path)
    for name, seed in (("one", 1), ("two", 2)):
        ds = phantom(n_prompts=2, n_tokens=(2, 4), n_layers=2, n_neurons=4, seed=seed)
        save(ds.assign_coords(prompt=[f"{name}-{p}" for p in ds["prompt"].values]), f"{name}.zarr")
    save_result(open_recording("one.zarr", level="prompt")[["mean"]], "mean.zarr", derived_from="one")
    (tmp_path / "catalog.yaml").write_text("version: 1\nsources: {}\n")
    catalog = open_catalog()
    catalog.add("one", "one.zarr")
    catalog.add("two", "two.zarr")
    catalog.add("mean", "mean.zarr", derived_from=["one"])
    catalog.save()
    return tmp_path


def test_merge_append_rechunk_cast__by_name_and_by_path(call, archive):
    assert call("merge", "one", "two", "-o", "both.zarr") == (0, f"{archive}/both.zarr: 12 prompts\n", "")
    status, printed, _ = call("append", "two", "./one.zarr", "--runs", "renumber")
    assert status == 0 and printed.splitlines()[0].endswith("two.zarr: 12 prompts")
    assert call("rechunk", "one", "-o", "cut.zarr", "--unit", 6)[0] == 0
    assert open_recording("cut.zarr").chunks["prompt"] == (6,)
    assert call("cast", "one", "-o", "half.zarr", "--dtype", "float16")[0] == 0
    expected = open_recording("one.zarr").activation.values.astype(np.float16)
    np.testing.assert_array_equal(open_recording("half.zarr").activation, expected)
    status, printed, err = call("append", "one", "one")
    assert (status, printed) == (2, "")
    assert err.startswith("actome: 6 prompts stand in two recordings") and err.count("\n") == 1


def test_append__brings_the_entry_of_the_catalog_up_to_date(call, archive):
    entries = open_catalog()
    entries.tag("one", "pilot")
    entries.save()
    (archive / "other.yaml").write_text("version: 1\nsources: {}\n")
    status, printed, _ = call("append", "one", "two", "--catalog", "other.yaml", "--catalog", "catalog.yaml")
    assert (status, printed.splitlines()[1:]) == (0, ["one: brought up to date in catalog.yaml"])
    after, stored = open_catalog()["one"].metadata, open_recording("one.zarr")
    assert after.digest == stored.attrs["manifest_digest"] != entries["one"].metadata.digest
    assert after.shape == {**(entries["one"].metadata.shape or {}), "prompt": 12}
    assert (after.tags, open_catalog()["two"]) == (("pilot",), entries["two"])


def test_rm__takes_the_entry_out_and_names_what_was_derived(call, archive):
    status, printed, err = call("rm", "one")
    assert (status, printed) == (2, "") and (archive / "one.zarr").exists()
    assert "--yes is needed" in err and "of which mean was made" in err
    status, printed, _ = call("rm", "one", "--yes")
    assert status == 0 and printed == f"{archive}/one.zarr: removed\none: taken out of catalog.yaml\n"
    assert not (archive / "one.zarr").exists() and list(open_catalog()) == ["two", "mean"]
    assert call("rm", "two", "-y", "--keep-entry")[1] == f"{archive}/two.zarr: removed\n"
    assert list(open_catalog()) == ["two", "mean"]
    assert call("rm", "./mean.zarr", "--yes")[0] == 0
    assert sorted(p.name for p in archive.iterdir()) == ["catalog.yaml"]
    assert list(open_catalog()) == ["two"]


def test_rm__finds_the_entries_by_what_they_lead_to(call, archive):
    text = (archive / "catalog.yaml").read_text()
    urlpaths = {"one.zarr": "one.zarr/", "two.zarr": "./two.zarr", "mean.zarr": "mean.zarr//"}
    for before, after in urlpaths.items():
        assert f"/{before}" in text
        text = text.replace(f"/{before}", f"/{after}")
    (archive / "catalog.yaml").write_text(text)
    catalog = open_catalog()
    catalog.add("one-again", f"file://{archive}/one.zarr/", look=False)
    catalog.add("elsewhere", "s3://lab/one.zarr", look=False)
    catalog.save()
    (archive / "below").mkdir()
    (archive / "link").symlink_to(archive, target_is_directory=True)
    status, printed, err = call("rm", "./one.zarr")
    assert status == 2 and "of which mean was made" in err and (archive / "one.zarr").exists()
    status, printed, _ = call("rm", "one", "below/../one.zarr", "--yes")
    assert (status, printed.count("removed\n")) == (0, 1)
    assert "one: taken out of catalog.yaml\none-again: taken out of catalog.yaml\n" in printed
    assert call("rm", "link/two.zarr", archive / "mean.zarr", "--yes")[0] == 0
    assert list(open_catalog()) == ["elsewhere"]
    assert sorted(p.name for p in archive.iterdir()) == ["below", "catalog.yaml", "link"]


def test_rm__refuses_a_zip_file_before_anything_is_removed(call, archive):
    with zipfile.ZipFile("two.zip", "w") as file:
        for path in (archive / "two.zarr").rglob("*"):
            file.write(path, path.relative_to(archive / "two.zarr"))
    status, printed, err = call("rm", "one", "./two.zip", "--yes")
    assert (status, printed) == (2, "") and "two.zip is a ZIP file; remove the file itself" in err
    assert (archive / "one.zarr").exists()


def test_rm__asks_on_a_terminal(call, archive, monkeypatch):
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    asked = []
    monkeypatch.setattr("typer.confirm", lambda text, abort: asked.append((text, abort)))
    assert call("rm", "one", "two")[0] == 0
    ((text, abort),) = asked
    assert abort and f"{archive}/one.zarr (" in text and f"{archive}/two.zarr (" in text
    assert list(open_catalog()) == ["mean"]


def test_rm__removes_nothing_where_one_name_is_wrong(call, archive):
    (archive / "mine").mkdir()
    for wrong in ("./mine", "three"):
        status, printed, err = call("rm", "one", wrong, "--yes")
        assert (status, printed) == (2, "") and err.count("\n") == 1
    assert (archive / "one.zarr").exists() and (archive / "mine").exists()


def test_gc__prints_what_and_how_much(call, archive):
    (archive / "one.zarr/prompt/c/.0.7.partial").write_bytes(b"x" * 2_000_000)
    assert call("gc")[1].splitlines()[0].endswith("changed less than 1 h ago, left")
    status, printed, _ = call("gc", "--older-than", 0, "--dry-run", "--json")
    (found,) = json.loads(printed)
    assert (status, found["n_bytes"], found["done"]) == (0, 2_000_000, "found")
    status, printed, _ = call("gc", ".", "--older-than", 0)
    where = f"{archive}/one.zarr: files that were not written to their end, 2.0 MB: removed"
    assert (status, printed.splitlines()) == (0, [where, "2.0 MB removed"])
    assert call("gc", "--older-than", 0)[1] == "0.0 MB removed\n"
