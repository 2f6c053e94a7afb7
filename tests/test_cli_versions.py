"""`commit`, `log` and `tag` on the command line."""

import json

import pytest

from actome.store.archive import open as open_recording
from actome.store.archive import save
from actome.store.phantom import phantom

pytest.importorskip("icechunk")


@pytest.fixture
def call(call, monkeypatch, tmp_path):
    """Run a command in a folder with a catalog of one recording, `lab`."""
    save(phantom(n_prompts=2), tmp_path / "data" / "lab.zarr")
    (tmp_path / "catalog.yaml").write_text(
        "version: 1\nsources:\n  lab: {driver: zarr, args: {urlpath: '{{ CATALOG_DIR }}/data/lab.zarr'}}\n"
    )
    monkeypatch.chdir(tmp_path)
    return call


def test_commit_log_tag__make_list_and_name_versions(call):
    status, printed, _ = call("commit", "lab", "-m", "first release", "--tag", "v1")
    snapshot = printed.strip()
    assert status == 0 and len(snapshot) == 20
    status, printed, _ = call("log", "lab")
    assert (
        status == 0 and printed.startswith(f"{snapshot}  20") and printed.endswith("  first release  (v1)\n")
    )
    assert call("tag", "data/lab.icechunk", "published") == (0, f"{snapshot}\n", "")
    assert call("tag", "lab", "draft", "v1") == (0, f"{snapshot}\n", "")
    row = json.loads(call("log", "data/lab.zarr", "--json")[1])[0]
    assert row["tags"] == ["draft", "published", "v1"] and row["id"] == snapshot
    assert row["manifest_digest"] == open_recording("lab").attrs["manifest_digest"]


def test_commands__take_a_version_where_they_take_a_name(call):
    assert call("commit", "data/lab.zarr", "other.icechunk", "-m", "first", "--branch", "trial")[0] == 0
    assert call("commit", "lab", "-m", "first", "--tag", "v1")[0] == 0
    for name in ("lab@v1", "data/lab.zarr@v1", "data/lab.icechunk", "other.icechunk@trial"):
        assert call("verify", name) == (0, "every byte is as it was written\n", "")
        assert call("validate", name)[0] == 0
    status, printed, _ = call("info", "lab@v1", "--json")
    assert status == 0 and json.loads(printed)["kind"] == "recording"


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("commit", "lab", "-m", " "), "needs a message"),
        (("commit", "lab"), "--message"),
        (("commit", "lab", "-m", "x", "--tag", "a b"), "a tag is made of letters"),
        (("commit", "nothing", "-m", "x"), "has no entry 'nothing'"),
        (("log", "lab"), "there is no version history at"),
        (("info", "lab@v1"), "there is no version history at"),
        (("tag", "lab", "v1"), "there is no version history at"),
    ],
)
def test_commands__wrong_input_is_status_2_and_writes_nothing(call, tmp_path, args, message):
    status, printed, err = call(*args)
    assert (status, printed) == (2, "") and message in err
    assert [p.name for p in (tmp_path / "data").iterdir()] == ["lab.zarr"]
