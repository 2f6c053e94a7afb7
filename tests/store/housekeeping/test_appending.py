"""Appending in place: a reader meets the old state or the new one, whatever happens in between."""

import os
import shutil
import subprocess
import sys

import numpy as np
import pytest

from actome.store.archive import open as open_recording
from actome.store.errors import InputError, MissingFileError
from actome.store.housekeeping import append, gc, merge, staging
from actome.store.integrity import verify
from actome.store.location import Location
from actome.store.validation import validate
from actome.store.writer import RecordingWriter

from ..killing import KilledError, killed_after
from .conftest import assert_same_numbers, files, provenance_of


@pytest.fixture
def pair(recorded):
    """Two recordings; the first has units of 2, the last of them half full, and shorter prompts."""
    ids = [f"a{i}" for i in range(11)]
    columns = {"run": [0] * 11, "age": [7] * 11}
    return recorded("a", ids, seed=1, columns=columns), recorded("b", list("xyz"), n_tokens=8, seed=2)


def without_exchange(monkeypatch):
    monkeypatch.setattr(staging, "_exchange", lambda a, b: False)


@pytest.mark.parametrize("exchanged", [True, False])
def test_append__gives_what_merge_gives(pair, tmp_path, monkeypatch, exchanged):
    if not exchanged:
        without_exchange(monkeypatch)
    a, b = pair
    digests = [open_recording(p).attrs["manifest_digest"] for p in (a, b)]
    counts = [RecordingWriter(Location.of(p)).counts() for p in (a, b)]
    merge([a, b], tmp_path / "m.zarr")
    before = files(b)
    assert append(a, b) == str(a)
    assert verify(a) == validate(a) == []
    assert_same_numbers(a, tmp_path / "m.zarr")
    assert files(b) == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.zarr", "b.zarr", "m.zarr"]
    assert provenance_of(a)["derived_from"] == digests
    assert provenance_of(a)["operations"][-1]["name"] == "append"
    clipped = RecordingWriter(Location.of(a)).counts()["clipped"]
    assert counts[0]["clipped"] + counts[1]["clipped"] - 1 <= clipped  # of the unit that was filled: once


def test_append__a_reader_of_before_reads_on(pair):
    a, b = pair
    lazy = [open_recording(a, level=level) for level in ("token", "prompt")]
    expected = [ds.copy(deep=True).compute() for ds in lazy]
    append(a, b)
    append(a, b, duplicates="skip")  # nothing new
    for ds, before in zip(lazy, expected, strict=True):
        for name in before.variables:
            np.testing.assert_array_equal(ds[name].to_numpy(), before[name].to_numpy(), err_msg=name)


def test_append__chunks_of_the_prompts_that_were_there_keep_their_bytes(pair):
    a, b = pair
    before = files(a)
    append(a, b)
    after = files(a)
    full = [k for k in before if "/c/" in k and k.partition("/c/")[2].split("/")[0] in "01234"]
    assert len(full) > 30
    assert all(after[k] == before[k] for k in full)


def test_append__twice_and_with_renumbered_runs(recorded, pair):
    a, b = pair
    append(a, b)
    c = recorded("c", ["c"], columns={"run": [0], "extra": ["e"]}, seed=4)
    append(a, c, runs="renumber")
    ds = open_recording(a)
    assert ds["run"].to_numpy().tolist() == [0] * 11 + [-1] * 3 + [1]
    assert ds["extra"].to_numpy().tolist() == [""] * 14 + ["e"]
    assert [step["name"] for step in provenance_of(a)["operations"]] == ["append", "append"]
    assert verify(a) == []


def test_append__keeps_the_order_of_paradigms(recorded):
    a, b, c = (recorded(name, [name], paradigm=f"name: {name}\n") for name in "abc")
    append(a, b)
    append(a, c)
    names = ("paradigm.yaml", "paradigm-2.yaml", "paradigm-3.yaml")
    assert [(a / "actome" / name).read_text() for name in names] == [f"name: {x}\n" for x in "abc"]


@pytest.mark.parametrize(
    ("there", "added"),
    [(np.int32([1]), np.array([2**40 + 5])), (np.float32([1]), np.array([0.1]))],
)
def test_append__refuses_labels_that_its_columns_do_not_hold(recorded, tmp_path, there, added):
    a = recorded("a", ["a"], columns={"age": there})
    b = recorded("b", ["b"], columns={"age": added})
    before = files(a)
    with pytest.raises(
        InputError, match=rf"'age' of .*a\.zarr is {there.dtype}, .*b\.zarr as they are; merge"
    ):
        append(a, b)
    assert files(a) == before
    merged = open_recording(merge([a, b], tmp_path / "m.zarr"))
    assert merged["age"].to_numpy().tolist() == [1, added[0]]


def test_append__labels_of_a_wider_type_that_come_through_are_taken(recorded):
    a = recorded("a", ["a"], columns={"age": np.int32([1])})
    append(a, recorded("b", ["b"], columns={"age": np.array([7])}))
    assert open_recording(a)["age"].to_numpy().tolist() == [1, 7]
    assert open_recording(a)["age"].dtype == np.int32


@pytest.mark.parametrize("exchanged", [True, False])
def test_append__syncs_files_and_folders_before_the_old_state_goes(pair, tmp_path, monkeypatch, exchanged):
    if not exchanged:
        without_exchange(monkeypatch)
    a, b = pair
    old = {p.stat().st_ino for p in (a, *a.rglob("*"))}
    synced, synced_after, fsync = set(), set(), os.fsync

    def noted(descriptor):
        fsync(descriptor)
        if a.stat().st_ino in old:
            synced.add(os.fstat(descriptor).st_ino)
        elif any(p.stat().st_ino in old for p in tmp_path.glob(".a.zarr.*")):
            synced_after.add(os.fstat(descriptor).st_ino)

    monkeypatch.setattr(os, "fsync", noted)
    append(a, b)
    new = {p.stat().st_ino: p for p in (a, *a.rglob("*"))}
    assert a.stat().st_ino not in old
    assert [str(p) for i, p in new.items() if i not in old | synced] == []
    assert any(p.is_file() for i, p in new.items() if i in old)
    assert synced_after == {tmp_path.stat().st_ino}  # its new name, once it has it


def test_append__drops_an_index(pair):
    a, b = pair
    (a / "actome/index").mkdir()
    (a / "actome/index/x.bin").write_bytes(b"old")
    append(a, b)
    assert not (a / "actome/index").exists()


@pytest.mark.parametrize("step", [None, pytest.param(200, marks=pytest.mark.slow)])
@pytest.mark.parametrize("exchanged", [True, False])
def test_append__killed_anywhere_leaves_one_of_the_two_states(pair, tmp_path, monkeypatch, exchanged, step):
    if not exchanged:
        without_exchange(monkeypatch)
    a, b = pair
    shutil.copytree(a, tmp_path / "old.zarr")
    merge([a, b], tmp_path / "new.zarr")
    path = shutil.copytree(a, tmp_path / "t.zarr")
    with killed_after(None, tmp_path) as life:
        append(path, b)
    moves = [
        i for i, change in enumerate(life.changes) if change.startswith("os.rename") and _is_folder(change)
    ]
    assert len(moves) == (1 if exchanged else 2)
    seen, n_changes = set(), len(life.changes)
    often = range(0, n_changes, step or n_changes // 2)
    for change in sorted({*often, *moves, *(i + 1 for i in moves), n_changes - 1}):
        shutil.rmtree(path)
        shutil.copytree(tmp_path / "old.zarr", path)
        with pytest.raises(KilledError), killed_after(change, tmp_path):
            append(path, b)
        gc(tmp_path, older_than=0)
        n = open_recording(path).sizes["prompt"]
        assert_same_numbers(path, tmp_path / ("old.zarr" if n == 11 else "new.zarr"))
        assert verify(path) == []
        assert not [p for p in tmp_path.iterdir() if p.name.startswith(".")]
        seen.add(n)
    assert seen == {11, 14}


def _is_folder(change: str) -> bool:
    """Say whether a rename is of a whole recording, and not of a file in one."""
    return change.endswith(("t.zarr", ".staging"))


def test_append__goes_on_after_a_cut_off_replacement(pair, tmp_path, monkeypatch):
    without_exchange(monkeypatch)
    a, b = pair
    path = shutil.copytree(a, tmp_path / "t.zarr")
    with killed_after(None, tmp_path) as life:
        append(path, b)
    shutil.rmtree(path)
    first, second = (i for i, c in enumerate(life.changes) if c.startswith("os.rename") and _is_folder(c))
    with pytest.raises(KilledError), killed_after(second, tmp_path):
        append(a, b)
    assert first < second
    assert not a.exists()  # put aside; what is to replace it is not there yet
    append(a, b)
    assert open_recording(a).sizes["prompt"] == 14
    assert verify(a) == []
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".")]


def test_append__an_error_leaves_nothing_behind(pair, tmp_path):
    a, b = pair
    shard = b / "mlp/activation/c/1/0/0/0"
    content = bytearray(shard.read_bytes())
    content[3] ^= 1
    shard.write_bytes(content)
    before = files(a)
    with pytest.raises(OSError, match="checksum does not match"):
        append(a, b)
    assert files(a) == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.zarr", "b.zarr"]


def test_append__refuses(pair, tmp_path, recorded):
    a, b = pair
    before = files(a)
    (tmp_path / "link.zarr").symlink_to(a)
    for path, source, error, message in (
        ("memory://x.zarr", b, InputError, "is not a folder of the local disk.*merge the two"),
        (tmp_path / "no.zarr", b, MissingFileError, "there is no recording or result"),
        (a, tmp_path / "no.zarr", MissingFileError, "there is no recording or result"),
        (tmp_path / "link.zarr", b, InputError, r"is a link to .*a\.zarr; append to that"),
        (a, a, InputError, "11 prompts stand in two recordings"),
        (a, recorded("other", ["o"], inputs={"model": "n"}), InputError, "model: 'm' against 'n'"),
        (recorded("u", list("cdefghijk"), final=False), b, InputError, "is not complete"),
    ):
        with pytest.raises(error, match=message):
            append(path, source)
    assert not (tmp_path / "no.zarr").exists()
    gone = "mlp/activation/c/1/0/0/0"
    (a / gone).unlink()
    with pytest.raises(InputError, match=f"lacks 1 of its files, such as {gone}"):
        append(a, b)
    before.pop(gone)
    assert files(a) == before


_CLAIM = """
import sys, time
from actome.store.location import Location
with Location.of(sys.argv[1]).claimed():
    print("claimed", flush=True)
    time.sleep(60)
"""


def test_append__refuses_a_claimed_recording(pair):
    a, b = pair
    other = subprocess.Popen([sys.executable, "-c", _CLAIM, str(a)], stdout=subprocess.PIPE, text=True)
    try:
        assert other.stdout.readline() == "claimed\n"
        with pytest.raises(InputError, match="being recorded by another process"):
            append(a, b)
    finally:
        other.kill()
        other.communicate()
    append(a, b)
    assert verify(a) == []
