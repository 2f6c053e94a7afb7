"""A recording that is interrupted, by whatever, stays sound and goes on to the same bytes."""

import errno
import json
import math
import multiprocessing
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr
from tokenizers.pre_tokenizers import Whitespace
from zarr.storage import LocalStore

import actome
from actome.ingest import recorder
from actome.ingest.models import load_model
from actome.ingest.phantom import phantom_model
from actome.ingest.writing import Threads
from actome.store.errors import InputError, MissingFileError
from actome.store.integrity import MANIFEST, verify
from actome.store.location import Location
from actome.store.writer import RecordingWriter

TINY = {"layers": [0, 2], "neurons": list(range(6)), "dtype": "float32"}
LARGE = {"sites": ("mlp", "residual"), "dtype": "float32"}


@pytest.fixture
def loaded(model):
    return load_model(model, device="cpu")


@pytest.fixture
def few(phantom):
    """Four prompts: four units."""
    return phantom.paradigm.select(run=0).select(condition="a")


@pytest.fixture
def reference(loaded, few, tmp_path):
    return whole(loaded, few, tmp_path / "whole.zarr", **TINY)


def whole(model, paradigm, path, **options):
    """Record without an interruption: what every interrupted recording must come to."""
    actome.record(model, paradigm, path, **options)
    return path


def files(folder):
    """Every file but the two that hold the time of creation."""
    found = {str(p.relative_to(folder)): p.read_bytes() for p in Path(folder).rglob("*") if p.is_file()}
    return {key: content for key, content in found.items() if key not in ("zarr.json", MANIFEST)}


def assert_finished(path, reference):
    assert files(path) == files(reference)
    assert verify(path) == []


def assert_sound(path, reference):
    """Let a reader look: it sees complete prompts alone. Return how many."""
    try:
        seen = {level: actome.open(path, site="mlp", level=level).load() for level in ("token", "prompt")}
    except (InputError, MissingFileError) as error:
        assert re.search("has no recorded prompts yet|there is no recording", str(error))
        return 0
    for level, ds in seen.items():
        expected = actome.open(reference, site="mlp", level=level).sel(prompt=ds.prompt).load()
        xr.testing.assert_identical(ds.drop_attrs(), expected.drop_attrs())
    unfinished = r"unfinished: no manifest|damaged: zarr\.json names no manifest|foreign: .*\.partial$"
    assert [line for line in verify(path) if not re.match(unfinished, line)] == []
    return seen["token"].sizes["prompt"]


def n_hooks(module):
    return sum(len(part._forward_hooks) + len(part._forward_pre_hooks) for part in module.modules())


# ---- a fault at every change of a file


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


@pytest.mark.parametrize("torn", [False, True])
@pytest.mark.parametrize("step", [18, pytest.param(1, marks=pytest.mark.slow)])
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
        ds = actome.open(path).load()
    except (InputError, MissingFileError) as error:
        assert re.search("has no recorded prompts yet|there is no recording", str(error))
        return 0
    np.testing.assert_allclose(ds.activation, expected.activation.sel(prompt=ds.prompt), 1e-3, 1e-3)
    return ds.sizes["prompt"]


@pytest.mark.parametrize("step", [20, pytest.param(1, marks=pytest.mark.slow)])
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


# ---- an error or Ctrl-C inside the model


@pytest.mark.parametrize("generated", [False, True])
@pytest.mark.parametrize(
    "error", [KeyboardInterrupt(), RuntimeError("CUDA error: device lost"), ValueError("in a hook")]
)
def test_record__an_error_in_the_model_leaves_no_hook_and_no_half_a_unit(
    loaded, few, tmp_path, monkeypatch, error, generated
):
    options = {**TINY, **({"tokens": "generated", "max_new_tokens": 3} if generated else {})}
    reference = whole(loaded, few, tmp_path / "whole.zarr", **options)
    layer = loaded.module.model.layers[1]
    forward, calls, before = layer.forward, [], n_hooks(loaded.module)

    def fail(*args, **kwargs):
        calls.append(1)
        if len(calls) == (9 if generated else 4):
            raise error
        return forward(*args, **kwargs)

    monkeypatch.setattr(layer, "forward", fail)
    with pytest.raises(type(error)):
        actome.record(loaded, few, tmp_path / "r.zarr", **options)
    assert n_hooks(loaded.module) == before
    assert 0 < assert_sound(tmp_path / "r.zarr", reference) < 4
    actome.record(loaded, few, tmp_path / "r.zarr", **options)
    assert_finished(tmp_path / "r.zarr", reference)


def out_of_memory_above(module, size):
    def refuse(module, args, kwargs):
        if len(kwargs["input_ids"]) > size:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB\nand much more")

    return module.register_forward_pre_hook(refuse, with_kwargs=True)


def test_record__a_batch_that_does_not_fit_is_halved(loaded, phantom, tmp_path):
    options = {"dtype": "float32", "batch_size": 3}
    reference = actome.record(loaded, phantom.paradigm, tmp_path / "whole.zarr", **options).load()
    handle = out_of_memory_above(loaded.module, 1)
    ds = actome.record(loaded, phantom.paradigm, tmp_path / "r.zarr", **options)
    handle.remove()
    np.testing.assert_allclose(ds.activation, reference.activation, atol=1e-5)
    np.testing.assert_allclose(ds.logprob, reference.logprob, atol=1e-5)
    writer = RecordingWriter(Location.of(tmp_path / "r.zarr"))
    assert writer.counts()["split_batches"] == len(writer.units)
    assert RecordingWriter(Location.of(tmp_path / "whole.zarr")).counts()["split_batches"] == 0


def test_record__a_prompt_that_does_not_fit_alone_is_one_clear_error(loaded, few, tmp_path):
    handle, before = out_of_memory_above(loaded.module, 0), n_hooks(loaded.module)
    message = r"one prompt alone does not fit into the memory of cpu: CUDA out of memory.*2 GiB; shorten it"
    with pytest.raises(InputError, match=message):
        actome.record(loaded, few, tmp_path / "r.zarr", **TINY)
    assert n_hooks(loaded.module) == before
    handle.remove()


# ---- something else than before


@pytest.mark.parametrize("done", [0, 1])
@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ("weights", "weights_digest"),
        ("tokenizer", "tokenizer_digest"),
        ("paradigm", "paradigm_digest"),
        ("setting", "layers|sites"),
        ("special_tokens", "special_tokens"),
        ("dtype", "dtype: 'float32' there, 'float16' now"),
    ],
)
def test_record__going_on_with_something_else_is_refused_by_name(
    loaded, few, phantom, tmp_path, monkeypatch, changed, named, done
):
    path, run_unit, calls = tmp_path / "r.zarr", recorder.run_unit, []

    def stop(*args):
        calls.append(1)
        if len(calls) > done:
            raise KeyboardInterrupt
        return run_unit(*args)

    monkeypatch.setattr(recorder, "run_unit", stop)
    with pytest.raises(KeyboardInterrupt):
        actome.record(loaded, few, path, **TINY)
    monkeypatch.undo()
    before = {p: (p.stat().st_mtime_ns, p.is_file() and p.read_bytes()) for p in path.rglob("*")}

    other, paradigm, options = phantom_model(seed=int(changed == "weights")), few, dict(TINY)
    if changed == "tokenizer":
        other.tokenizer.backend_tokenizer.pre_tokenizer = Whitespace()
    elif changed == "paradigm":
        paradigm = phantom.paradigm.select(run=0).select(condition="b")
    elif changed == "setting":
        options["layers"] = [0, 1]
    elif changed == "special_tokens":
        options["special_tokens"] = "none"
    elif changed == "dtype":
        options["dtype"] = "float16"
    with pytest.raises(InputError, match=rf"recorded differently \(.*({named})"):
        actome.record((other.module, other.tokenizer), paradigm, path, device="cpu", **options)
    after = {p: (p.stat().st_mtime_ns, p.is_file() and p.read_bytes()) for p in path.rglob("*")}
    assert after == before


def test_record__what_another_process_made_meanwhile_is_not_taken_for_this_one(loaded, few, tmp_path):
    settings = recorder.Settings(sites={"mlp": None}, dtype="float32")
    late = recorder.prepare(loaded, few, tmp_path / "r.zarr", settings)
    actome.record(loaded, few, tmp_path / "r.zarr", **TINY)
    with pytest.raises(InputError, match="recorded differently"):
        late.run()


# ---- processes: killed, and several at once


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Hold a model on disk, texts that take a second or two, and the recording of them."""
    phantom, folder = phantom_model(n_prompts=500), tmp_path_factory.mktemp("model")
    phantom.module.save_pretrained(folder / "model")
    phantom.tokenizer.save_pretrained(folder / "model")
    return folder, phantom.paradigm


@pytest.fixture(scope="module")
def start(folder):
    """Start a process that records the texts into a path; it is forked from one that has torch at hand."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["actome.ingest.record", "actome.ingest.phantom"])
    started = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")

        def start(path, **options):
            arguments = (str(folder[0] / "model"), folder[1], str(path))
            process = context.Process(target=actome.record, args=arguments, kwargs=LARGE | options)
            process.start()
            started.append(process)
            return process

        yield start
    for process in started:
        process.kill()
        process.join()


@pytest.fixture(scope="module")
def large(start, folder):
    process = start(folder[0] / "whole.zarr")
    process.join()
    assert process.exitcode == 0
    return folder[0] / "whole.zarr"


def wait_for(condition, process):
    """Wait until something is so, or the process has ended."""
    while process.is_alive() and not condition():
        time.sleep(0.002)


def n_complete(path):
    return len(list(path.glob("recorded/c/*")))


def test_record__killed_again_and_again_it_comes_to_the_same_bytes(start, large, tmp_path):
    rng, path, seen = np.random.default_rng(0), tmp_path / "r.zarr", []
    for units in (-1, 0, 2, 4, 6):
        process = start(path)
        wait_for(path.exists if units < 0 else lambda u=units: n_complete(path) > u, process)
        time.sleep(rng.uniform(0, 0.1))
        process.kill()
        process.join()
        assert process.exitcode in (-signal.SIGKILL, 0)
        seen.append(assert_sound(path, large))
    assert seen == sorted(seen)
    assert len({n for n in seen if 0 < n < 1000}) >= 2  # some and not all units
    last = start(path)
    last.join()
    assert last.exitcode == 0
    assert assert_sound(path, large) == 1000
    assert_finished(path, large)


def test_record__a_reader_beside_it_never_sees_half_a_prompt(start, large, tmp_path):
    path, seen = tmp_path / "r.zarr", []
    process = start(path)
    while process.is_alive():
        seen.append(assert_sound(path, large))
    assert process.exitcode == 0
    assert seen == sorted(seen)
    assert any(0 < n < 1000 for n in seen)


def test_record__ctrl_c_ends_a_process_between_two_units(start, large, tmp_path):
    path = tmp_path / "r.zarr"
    process = start(path)
    wait_for(lambda: n_complete(path) > 1, process)
    recorder.os.kill(process.pid, signal.SIGINT)
    process.join()
    assert process.exitcode == 1
    assert 0 < assert_sound(path, large) < 1000
    assert not list(path.rglob("*.partial"))
    last = start(path)
    last.join()
    assert_finished(path, large)


def test_record__two_processes_share_one_recording(start, large, tmp_path):
    path = tmp_path / "r.zarr"
    second = start(path, part=(1, 2))
    time.sleep(0.5)
    assert second.is_alive() and not (path / "zarr.json").exists()  # it waits for the first
    first = start(path, part=(0, 2))
    for process in (first, second):
        process.join()
        assert process.exitcode == 0
    assert_finished(path, large)


def test_record__a_part_that_was_killed_is_recorded_again(start, large, tmp_path):
    path = tmp_path / "r.zarr"
    parts = [start(path, part=(k, 2)) for k in range(2)]
    wait_for(lambda: (path / "recorded/c/1").exists(), parts[1])
    parts[1].kill()
    for process in parts:
        process.join()
    assert [p.exitcode for p in parts] == [0, -signal.SIGKILL]
    assert 500 < assert_sound(path, large) < 1000
    again = start(path, part=(1, 2))
    again.join()
    assert again.exitcode == 0
    assert_finished(path, large)


def test_record__a_second_process_is_refused(start, large, folder, tmp_path):
    path = tmp_path / "r.zarr"
    first = start(path)
    wait_for(lambda: n_complete(path) > 0, first)
    os.kill(first.pid, signal.SIGSTOP)  # it must not end before the others have tried
    for part in (None, (1, 2)):
        with pytest.raises(InputError, match="is being recorded by another process; wait for its end"):
            actome.record(str(folder[0] / "model"), folder[1], path, **LARGE, part=part)
    os.kill(first.pid, signal.SIGCONT)
    first.join()
    assert first.exitcode == 0
    assert_finished(path, large)


def test_record__parts_that_end_at_once_finalise_once(loaded, few, reference, tmp_path, monkeypatch):
    """Both see that all is recorded; neither may take the other's half-written files for its own."""
    path, finalise, inside = tmp_path / "r.zarr", RecordingWriter.finalise, []

    def slow(self):
        inside.append(1)
        assert len(inside) == 1
        time.sleep(0.2)
        finalise(self)
        inside.pop()

    ready = threading.Barrier(2)
    record_units = recorder.Recorder._record_units

    def record_units_(self, writer, progress):
        record_units(self, writer, progress)
        ready.wait()

    monkeypatch.setattr(RecordingWriter, "finalise", slow)
    monkeypatch.setattr(recorder.Recorder, "_record_units", record_units_)
    settings = recorder.Settings(sites={"mlp": None}, layers=(0, 2), neurons=tuple(range(6)), dtype="float32")
    ended = []

    def run(k):
        part = recorder.prepare(loaded, few, path, settings, part=(k, 2))
        ended.append(part.run().sizes["prompt"])

    threads = [threading.Thread(target=run, args=(k,)) for k in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert ended == [4, 4]
    assert_finished(path, reference)


# ---- memory


@pytest.mark.slow
def test_record__memory_does_not_grow_with_the_prompts():
    script = Path(__file__).parents[2] / "benchmarks" / "memory.py"
    command = [sys.executable, str(script), "--prompts", "256", "--shard", "2", "--json"]
    found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    assert len({one["unit"] for one in found}) == 1  # as large in all, so that only their number differs
    assert [one["prompts"] for one in found] == [256, 1024, 4096]
    assert found[-1]["peak"] < 1.1 * found[0]["peak"]
