"""A fault at every change of a file: what is recorded stays sound, and going on makes it good."""

import errno
import math
import re
import resource
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from zarr.storage import LocalStore

import actome
from actome.ingest.models import load_model
from actome.ingest.phantom import phantom_model
from actome.ingest.writing import Threads
from actome.store.archive import open_so_far
from actome.store.errors import InputError, MissingFileError
from actome.store.location import Location

from .resuming import TINY, assert_finished, assert_sound, files, whole


class Faults:
    """Counts the changes of files in a store; from change number `at` on, each one fails.

    With `torn`, the one at `at` leaves half of its content where it is being written.
    """

    def __init__(self):
        self.start()

    def start(self, at=math.inf, *, torn=False):
        self.at, self.torn, self.changes = at, torn, []

    def check(self, change, path, content=b""):
        with _LOCK:
            self.changes.append(change)
            if len(self.changes) <= self.at:
                return
            if self.torn and change == "write" and len(self.changes) == self.at + 1:
                path.parent.mkdir(parents=True, exist_ok=True)
                partial = path.with_name(f".{path.name}.0.partial")
                partial.write_bytes(bytes(content)[: len(content) // 2])
        raise OSError(errno.ENOSPC, "No space left on device", str(path))


_LOCK = threading.Lock()


@pytest.fixture
def faults(monkeypatch):
    """Sit between the recorder and the disk: our own writes and removals, and those of zarr."""
    faults = Faults()
    write, remove = Location.write, Location.remove

    def write_(self, key, content):
        faults.check("write", Path(self.root, key), content)
        write(self, key, content)

    def remove_(self, key):
        faults.check("remove", Path(self.root, key))
        remove(self, key)

    def changing(name):
        change = getattr(LocalStore, name)

        async def change_(self, key, *args, **options):
            content = args[0].to_bytes() if args else b""
            faults.check("write" if args else "remove", self.root / key, content)
            return await change(self, key, *args, **options)

        return change_

    monkeypatch.setattr(Location, "write", write_)
    monkeypatch.setattr(Location, "remove", remove_)
    for name in ("set", "set_if_not_exists", "delete", "delete_dir"):
        monkeypatch.setattr(LocalStore, name, changing(name))
    monkeypatch.setattr(Threads, "beside", lambda device: Threads(0, 1))  # one order of the changes
    return faults


def fail_and_go_on(faults, run, path, reference, at, *, torn):
    """Fail at one change, look, go on, compare."""
    faults.start(at, torn=torn)
    with pytest.raises(OSError, match="No space left"):
        run(path)
    faults.start()
    seen = assert_sound(path, reference)
    run(path)
    assert_finished(path, reference)
    return seen


@pytest.mark.parametrize(
    ("torn", "step"),
    [
        (True, 24),
        pytest.param(True, 1, marks=pytest.mark.slow),
        pytest.param(False, 1, marks=pytest.mark.slow),
    ],
)
def test_record__a_fault_at_any_change_of_a_file_is_made_good(
    loaded, few, reference, faults, tmp_path, torn, step
):
    def run(path):
        actome.record(loaded, few, path, **TINY)

    faults.start()
    run(tmp_path / "counted.zarr")
    n = len(faults.changes)
    assert n >= 45
    seen = set()
    for at in sorted({*range(step // 2, n, step), n - 3, n - 2, n - 1}):  # the last three finalise
        path = tmp_path / f"{at}.zarr"
        seen.add(fail_and_go_on(faults, run, path, reference, at, torn=torn))
        shutil.rmtree(path)
    assert seen == {0, 1, 2, 3, 4}


@pytest.mark.parametrize("first", [20, 75])
@pytest.mark.parametrize("step", [9, pytest.param(1, marks=pytest.mark.slow)])
def test_record__a_fault_while_going_on_is_made_good_too(
    loaded, few, reference, faults, tmp_path, first, step
):
    """The first fault strikes while arrays are allocated, or in a unit."""

    def run(path):
        actome.record(loaded, few, path, **TINY)

    def broken(path):
        faults.start(first, torn=True)
        with pytest.raises(OSError, match="No space left"):
            run(path)

    broken(tmp_path / "counted.zarr")
    faults.start()
    run(tmp_path / "counted.zarr")
    removals = [at for at, change in enumerate(faults.changes) if change == "remove"]
    assert removals
    for at in range(min(removals), max(removals) + 3, step):
        path = tmp_path / f"{at}.zarr"
        broken(path)
        fail_and_go_on(faults, run, path, reference, at, torn=True)
        shutil.rmtree(path)


def test_record__a_fault_in_a_background_writer_is_made_good(
    loaded, few, reference, faults, tmp_path, monkeypatch
):
    monkeypatch.setattr(Threads, "beside", lambda device: Threads(2, 2))

    def run(path):
        actome.record(loaded, few, path, **TINY)

    for at in (40, 60, 80, 100):
        fail_and_go_on(faults, run, tmp_path / f"{at}.zarr", reference, at, torn=True)


def loud_phantom():
    """A model that goes beyond float16 in the last of five prompts, which the probe does not look at."""
    phantom = phantom_model()
    with torch.no_grad():
        word = phantom.tokenizer("b3")["input_ids"][0]
        phantom.module.model.layers[2].mlp.up_proj.weight[:, word] = 3e4
    texts = ("a1 a2 a3 a4", "a2 a3 a4", "a5", "a6 a7", "b3 b3 b3")
    return load_model((phantom.module, phantom.tokenizer), device="cpu"), actome.Paradigm(
        [{"text": text} for text in texts], name="loud"
    )


def sound_in_either_type(path, expected):
    """Let a reader look while float16 gives way to float32. Return how many prompts it sees."""
    try:
        ds = open_so_far(path).load()
    except (InputError, MissingFileError) as error:
        assert re.search("has no recorded prompts yet|there is no recording", str(error))
        return 0
    np.testing.assert_allclose(ds.activation, expected.activation.sel(prompt=ds.prompt), 1e-3, 1e-3)
    return ds.sizes["prompt"]


@pytest.mark.parametrize("step", [45, pytest.param(1, marks=pytest.mark.slow)])
@pytest.mark.filterwarnings("ignore:an activation is larger than float16 holds")
def test_record__a_fault_while_it_begins_again_in_float32_is_made_good(tmp_path, faults, step):
    model, paradigm = loud_phantom()

    def run(path):
        actome.record(model, paradigm, path, layers=[2], batch_size=1)

    run(tmp_path / "whole.zarr")
    n, changes = len(faults.changes), faults.changes
    expected = actome.open(tmp_path / "whole.zarr").load()
    assert expected.activation.dtype == np.float32
    seen = set()
    last = n - changes[::-1].index("remove")
    for at in range(changes.index("remove") - 1, last + 2, step):
        path = tmp_path / f"{at}.zarr"
        faults.start(at, torn=True)
        with pytest.raises(OSError, match="No space left"):
            run(path)
        faults.start()
        seen.add(sound_in_either_type(path, expected))
        run(path)
        assert_finished(path, tmp_path / "whole.zarr")
        shutil.rmtree(path)
    assert {0, 4} <= seen


@pytest.mark.parametrize(
    "options",
    [
        {"tokens": "generated", "max_new_tokens": 4},
        {"tokens": "generated", "max_new_tokens": 4, "temperature": 0.8, "seed": 3},
        {"keep": "summary"},
        {"tokens": "last", "sites": ("mlp", "residual")},
    ],
    ids=["generated", "drawn", "summary", "last"],
)
def test_record__whatever_is_kept_comes_out_the_same(loaded, few, faults, tmp_path, options):
    def run(path):
        actome.record(loaded, few, path, layers=[1], dtype="float32", **options)

    run(tmp_path / "whole.zarr")
    n = len(faults.changes)
    for at in (n // 2, 3 * n // 4):
        faults.start(at, torn=True)
        with pytest.raises(OSError, match="No space left"):
            run(tmp_path / f"{at}.zarr")
        faults.start()
        run(tmp_path / f"{at}.zarr")
        assert_finished(tmp_path / f"{at}.zarr", tmp_path / "whole.zarr")


def test_record__a_limit_on_the_size_of_files_cuts_a_shard_off(loaded, few, tmp_path):
    reference = whole(loaded, few, tmp_path / "whole.zarr", dtype="float32")
    largest = max(len(content) for key, content in files(reference).items() if "activation/c/1" in key)
    path = tmp_path / "r.zarr"
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (largest - 1, hard))
    try:
        with pytest.raises(OSError, match="File too large"):
            actome.record(loaded, few, path, dtype="float32")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert assert_sound(path, reference) < 4
    assert not list(path.rglob("*.partial"))  # on a full disk, half a shard would be in the way
    actome.record(loaded, few, path, dtype="float32")
    assert_finished(path, reference)
