"""What happens to a history when processes meet, die, or files of it are damaged."""

import random
import shutil
import signal
import subprocess
import sys
import time
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from actome.store.archive import open as open_recording
from actome.store.archive import save
from actome.store.errors import ActomeError, DamagedError, InputError, MissingFileError
from actome.store.integrity import verify
from actome.store.location import Location
from actome.store.location.claim import claimed_folder
from actome.store.phantom import phantom
from actome.store.results import save_result
from actome.store.versions import commit, history, log, tag
from actome.store.writer import RecordingWriter
from tests.store.location.servers import s3_server

pytest.importorskip("icechunk")


@pytest.fixture
def two(tmp_path: Path) -> tuple[str, str]:
    """Two recordings of the same shape and other numbers."""
    made = [phantom(n_prompts=4, n_layers=2, n_neurons=40, seed=seed) for seed in (1, 2)]
    return save(made[0], tmp_path / "a.zarr"), save(made[1], tmp_path / "b.zarr")


def files(path) -> dict[str, bytes]:
    location = Location.of(path)
    return {key: location.read(key) for key in location.keys()}


COMMIT = """
import sys, time
from actome.store.versions import commit
source, history, message, start = sys.argv[1:]
while time.time() < float(start):
    time.sleep(0.001)
print("ready", flush=True)
commit(source, history, message=message, tag="of-" + message)
"""


def test_commit__two_processes_at_once_both_land(two, tmp_path):
    start, target = str(time.time() + 3), str(tmp_path / "x.icechunk")  # the history is not there either
    runs = [
        subprocess.Popen([sys.executable, "-c", COMMIT, path, target, name, start])
        for path, name in zip(two, "ab", strict=True)
    ]
    assert [run.wait() for run in runs] == [0, 0]
    assert sorted(v.message for v in log(target)) == ["a", "b"]
    for path, name in zip(two, "ab", strict=True):
        assert files(f"{target}@of-{name}") == files(path) and verify(f"{target}@of-{name}") == []


def test_commit__waits_for_the_process_that_writes(two, tmp_path):
    target = str(tmp_path / "x.icechunk")
    commit(two[0], target, message="first")
    with claimed_folder(target, shared=False, wait=False):
        args = [sys.executable, "-c", COMMIT, two[1], target, "second", "0"]
        run = subprocess.Popen(args, stdout=subprocess.PIPE)
        assert run.stdout.readline() == b"ready\n"
        time.sleep(2)  # it takes a tenth of that
        assert run.poll() is None and [v.message for v in log(target)] == ["first"]
    assert run.communicate() == (b"", None) and run.returncode == 0
    assert [v.message for v in log(target)] == ["second", "first"]


KILLED = """
import os, signal, sys
import icechunk
from actome.store.versions import commit, writing
source, history, n, stage = sys.argv[1:]
left, write, end = [int(n)], writing._set, icechunk.Session.commit
def dying(inner, when):
    def call(*args, **options):
        left[0] -= 1
        if left[0] < 0 and when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        result = inner(*args, **options)
        if left[0] < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return result
    return call
if stage == "writing":
    writing._set = dying(write, "before")
else:
    icechunk.Session.commit = dying(end, stage)
commit(source, history, message="killed", tag="v2")
"""


def kill(source: str, target: str, n: int, stage: str = "writing") -> None:
    """Commit in a process that dies at its n-th file, or before or after its last step."""
    run = subprocess.run([sys.executable, "-c", KILLED, source, target, str(n), stage], check=False)
    assert run.returncode == -signal.SIGKILL


def test_commit__killed_at_any_time_leaves_the_versions_before(two, tmp_path):
    target = str(tmp_path / "x.icechunk")
    commit(two[0], target, message="first", tag="v1")
    for n, stage in ((3, "writing"), (30, "writing"), (0, "before")):
        kill(two[1], target, n, stage)
        assert [(v.message, v.tags) for v in log(target)] == [("first", ("v1",))]
        assert files(target) == files(two[0]) and verify(target) == []
    kill(two[1], target, 0, "after")  # the version is there, its tag is not
    assert [(v.message, v.tags) for v in log(target)] == [("killed", ()), ("first", ("v1",))]
    commit(two[1], target, message="again", tag="v2")
    assert [(v.message, v.tags) for v in log(target)] == [("killed", ("v2",)), ("first", ("v1",))]
    assert files(f"{target}@v2") == files(two[1]) and files(f"{target}@v1") == files(two[0])


def test_commit__killed_in_the_first_version_can_be_made_again(two, tmp_path):
    target = str(tmp_path / "x.icechunk")
    kill(two[0], target, 9)
    assert log(target) == []
    with pytest.raises(InputError, match="has no version yet; commit one first"):
        tag(target, "v1")
    commit(two[0], target, message="again")
    assert files(target) == files(two[0])


def meet(monkeypatch, others) -> None:
    """Let another process commit each time that a version is written, where there is no lock."""
    inner, pending = history.write_files, list(others)

    def write_files(*args):
        inner(*args)
        if pending:
            source, target = pending.pop(0)
            with monkeypatch.context() as m:
                m.setattr(history, "write_files", inner)
                commit(source, target, message="other")

    monkeypatch.setattr(history, "single_writer", lambda folder: nullcontext())
    monkeypatch.setattr(history, "write_files", write_files)


def test_commit__is_made_again_when_another_was_faster(two, tmp_path, monkeypatch):
    target = tmp_path / "x.icechunk"
    commit(two[0], target, message="first")
    third = save(phantom(n_prompts=4, n_layers=2, n_neurons=40, seed=3), tmp_path / "c.zarr")
    meet(monkeypatch, [(third, target)])
    commit(two[1], target, message="second", tag="v2")
    assert [v.message for v in log(target)] == ["second", "other", "first"]
    assert files(target) == files(two[1])
    assert files(f"{target}@{log(target)[1].id}") == files(third)


def test_commit__gives_up_in_one_clear_line_when_others_always_are(two, tmp_path, monkeypatch):
    target = tmp_path / "x.icechunk"
    third = save(phantom(n_prompts=4, n_layers=2, n_neurons=40, seed=3), tmp_path / "c.zarr")
    meet(monkeypatch, [(path, target) for path in (two[0], third) * 3])
    monkeypatch.setattr(history.time, "sleep", lambda seconds: None)
    with pytest.raises(InputError, match="other processes moved the branch 'main' each of the 6 times"):
        commit(two[1], target, message="second", tag="v2")
    assert [v.message for v in log(target)] == ["other"] * 6
    assert files(target) == files(third) and verify(target) == []


def test_commit__refuses_before_it_writes(two, tmp_path):
    target = tmp_path / "x.icechunk"
    result = save_result(xr.Dataset({"stat": ("neuron", np.arange(3.0))}), tmp_path / "r.zarr")
    commit(two[0], target, message="first", tag="v1")
    wrong = [
        ((two[1], target), {"message": " "}, "needs a message"),
        ((two[1], target), {"tag": "a/b"}, "a tag is made of letters, digits, .* got 'a/b'"),
        ((two[1], target), {"branch": "@"}, "a branch is made of letters"),
        ((two[1], target), {"tag": "v1"}, "has a tag 'v1' for another version; tags never move"),
        ((two[1], target), {"tag": "main"}, "has a branch 'main'; choose another tag"),
        ((two[1], tmp_path / "b.zarr"), {}, r"a history is a folder NAME\.icechunk, without a version"),
        ((two[1], f"{target}@v1"), {}, r"a history is a folder NAME\.icechunk, without a version"),
        ((two[1], "memory://lab/x.icechunk"), {}, "a version history lives on a local disk or on S3"),
        ((result, target), {}, "is a result, the history holds versions of a recording"),
        ((tmp_path / "no.zarr", target), {}, r"there is no recording or result at .*no\.zarr"),
    ]
    for args, options, message in wrong:
        with pytest.raises(ActomeError, match=message):
            commit(*args, **{"message": "x", **options})
    (tmp_path / "full.icechunk").mkdir()
    (tmp_path / "full.icechunk" / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match=r"is a folder with other files, such as notes\.txt"):
        commit(two[1], tmp_path / "full.icechunk", message="x")
    assert [v.message for v in log(target)] == ["first"]


def test_commit__refuses_what_is_not_finished_or_damaged(two, tmp_path):
    target = tmp_path / "x.icechunk"
    chunk = Path(two[0], "mlp/activation/c/2/0/1/0")
    content = chunk.read_bytes()
    chunk.write_bytes(content[:-9] + bytes(9))
    with pytest.raises(DamagedError, match="mlp/activation/c/2/0/1/0 is not what was written, so nothing is"):
        commit(two[0], target, message="x")
    chunk.unlink()
    with pytest.raises(DamagedError, match="mlp/activation/c/2/0/1/0 is gone"):
        commit(two[0], target, message="x")
    chunk.write_bytes(content)
    manifest = Path(two[0], "actome/manifest.json")
    manifest.write_bytes(manifest.read_bytes().replace(b"a", b"b", 1))
    with pytest.raises(DamagedError, match=r"actome/manifest\.json is not what was written"):
        commit(two[0], target, message="x")
    assert log(target) == []
    unfinished = tmp_path / "unfinished.zarr"
    shutil.copytree(two[1], unfinished)
    writer = RecordingWriter(Location.of(unfinished))
    del writer.group.attrs["manifest_digest"]
    with pytest.raises(InputError, match="is not finished; a version is made of what has its manifest"):
        commit(unfinished, target, message="x")


def test_open__a_repository_in_a_later_format(tmp_path):
    import icechunk

    if int(icechunk.__version__.partition(".")[0]) > 1:
        pytest.skip("this Icechunk reads the later format")
    (tmp_path / "x.icechunk").mkdir()
    (tmp_path / "x.icechunk" / "repo").write_bytes(b"x")
    with pytest.raises(InputError, match="is in the second format of Icechunk, which the installed 1"):
        open_recording(tmp_path / "x.icechunk")


def test_open__lost_values_are_an_error_and_not_nan(two, tmp_path):
    target = tmp_path / "x.icechunk"
    commit(two[0], target, message="first")
    for chunk in (target / "chunks").iterdir():
        if b"sha256:" not in chunk.read_bytes():  # the manifest
            chunk.unlink()
    ds = open_recording(target)
    with pytest.raises(DamagedError, match=r"mlp/activation/c/\S+ of .*x\.icechunk cannot be read"):
        ds["activation"].load()
    with pytest.raises(DamagedError, match="cannot be read"):
        open_recording(target, level="prompt")["mean"].load()
    assert any(line.startswith("damaged: mlp/activation/c/0/0/0/0") for line in verify(target))


@pytest.fixture(scope="module")
def bucket():
    with s3_server():
        yield "s3://lab/versions"


def test_commit__on_s3(two, bucket):
    target = f"{bucket}/deep/x.icechunk"
    first = commit(two[0], target, message="first", tag="v1")
    commit(two[1], target, message="second")
    assert files(f"{target}@v1") == files(two[0]) and files(target) == files(two[1])
    assert verify(f"{target}@{first}") == [] and [v.message for v in log(target)] == ["second", "first"]
    cubes = (open_recording(place)["activation"].to_numpy() for place in (target, two[1]))
    np.testing.assert_array_equal(*cubes)
    with pytest.raises(
        MissingFileError, match=r"there is no version history at s3://lab/versions/y\.icechunk"
    ):
        open_recording(f"{bucket}/y.icechunk@v1")


def test_commit__on_s3_is_made_again_when_another_was_faster(two, bucket, tmp_path, monkeypatch):
    target = f"{bucket}/x.icechunk"
    commit(two[0], target, message="first")
    third = save(phantom(n_prompts=4, n_layers=2, n_neurons=40, seed=3), tmp_path / "c.zarr")
    meet(monkeypatch, [(third, target)])
    commit(two[1], target, message="second")
    assert [v.message for v in log(target)] == ["second", "other", "first"]
    assert files(target) == files(two[1])


def flip_and_check(target: Path, truth: dict[str, bytes], n: int, seed: int) -> set[str]:
    """Flip bits one at a time; each is reported, or changes nothing that this version holds."""
    rng, seen = random.Random(seed), set()
    paths = sorted(p for p in target.rglob("*") if p.is_file())
    for _ in range(n):
        path = rng.choice(paths)
        content = bytearray(path.read_bytes())
        sound = bytes(content)
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
        path.write_bytes(content)
        try:
            lines = verify(f"{target}@v1")
            assert lines or files(f"{target}@v1") == truth, path
            seen.add("named" if lines else "of no effect")
        except ActomeError:
            seen.add("unreadable")
        path.write_bytes(sound)
    assert verify(f"{target}@v1") == []
    return seen


@pytest.mark.parametrize("n", [25, pytest.param(500, marks=pytest.mark.slow)])
def test_verify__every_flipped_bit_of_a_history_is_found(two, tmp_path, n):
    target = tmp_path / "x.icechunk"
    commit(two[0], target, message="first", tag="v1")
    assert flip_and_check(target, files(two[0]), n, seed=n) == {"named", "of no effect", "unreadable"}
