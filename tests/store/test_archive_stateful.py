"""The archive against a simple model of it: whatever is killed when, nothing is lost and nothing wrong."""

import itertools
import shutil
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from actome.store.allocate import is_allocated
from actome.store.archive import open as open_recording
from actome.store.archive import open_so_far
from actome.store.errors import ActomeError, InputError, MissingFileError
from actome.store.housekeeping import append, cast, gc, merge, rechunk, remove
from actome.store.integrity import verify
from actome.store.location import Location
from actome.store.validation import validate

from .archive_model import (
    FLOAT16_MAX,
    N_LAYERS,
    N_NEURONS,
    Content,
    Prompt,
    assert_holds,
    assert_moments,
    joined,
    record,
)
from .killing import KilledError, killed_after

IN_MEMORY = Path("/dev/shm")  # thousands of small files, where there is such a disk
KILLS = st.one_of(st.none(), st.integers(0, 50), st.integers(0, 600))  # changes of the disk; None: lives


@dataclass(frozen=True, eq=False)
class Job:
    """How a recording is made or made on, what it will be, and of what."""

    run: Callable[[], Any]
    content: Content
    sources: dict[str, Content] = field(default_factory=dict)


class Archive(RuleBasedStateMachine):
    """Rules change the archive, and may be killed in it; the model says what must be there then."""

    names = tuple("abcde")

    def __init__(self) -> None:
        super().__init__()
        self.root = Path(tempfile.mkdtemp(prefix="archive", dir=IN_MEMORY if IN_MEMORY.is_dir() else None))
        self.complete: dict[str, Content] = {}
        self.begun: dict[str, Job] = {}
        self.leaving: dict[str, Content] = {}  # removal was cut off
        self.readers: list[tuple[str, xr.Dataset, Content]] = []  # opened lazily, some changes ago
        self.touched: set[str] = set()
        self.n_prompts = 0
        self.untidy = False  # something was killed since the last sweep

    @initialize(seeds=st.lists(st.integers(0, 9), min_size=2, max_size=3))
    def begin(self, seeds):
        for name, seed in zip(self.names, seeds, strict=False):
            size = {"n": 3, "n_tokens": 2, "unit": 2}  # the last unit is not full
            self.record_new(name, **size, dtype="float32", seed=seed, large=False, kill=None)

    def teardown(self) -> None:
        self.touched = set(self.names)
        try:
            self.everything_readable_is_right()
            assert [breach for name in self.complete for breach in validate(self.path(name))] == []
        finally:
            shutil.rmtree(self.root)

    def path(self, name: str) -> Path:
        return self.root / f"{name}.zarr"

    def free(self) -> list[str]:
        return [n for n in self.names if n not in (*self.complete, *self.begun, *self.leaving)]

    def make(self, name: str, job: Job, kill: int | None) -> None:
        """Begin or go on with a recording."""
        self.touched.add(name)
        self.begun[name] = job
        try:
            with killed_after(kill, self.root):
                job.run()
        except KilledError:
            self.untidy = True
            return
        del self.begun[name]
        self.complete[name] = job.content

    @precondition(lambda self: self.free())
    @rule(
        data=st.data(),
        n=st.integers(1, 6),
        n_tokens=st.integers(1, 4),
        unit=st.integers(1, 4),
        dtype=st.sampled_from(["float32", "float16", "float32"]),
        seed=st.integers(0, 9),
        large=st.booleans(),
        kill=KILLS,
    )
    def write(self, data, n, n_tokens, unit, dtype, seed, large, kill):
        self.record_new(data.draw(st.sampled_from(self.free())), n, n_tokens, unit, dtype, seed, large, kill)

    def record_new(self, name, n, n_tokens, unit, dtype, seed, large, kill):
        rng = np.random.default_rng(seed)
        prompts = []
        for _ in range(n):
            length = int(rng.integers(1, n_tokens + 1))
            values = rng.standard_normal((length, N_LAYERS, N_NEURONS)).astype(dtype)
            if large and dtype == "float32":
                values[0, 1, 2] = -1e5
            ids = tuple(rng.integers(0, 99, length).tolist())
            prompts.append(
                Prompt(f"p{self.n_prompts}", "ab"[int(rng.integers(2))], int(rng.integers(3)), ids, values)
            )
            self.n_prompts += 1
        content = Content(tuple(prompts), dtype)
        self.make(name, Job(lambda: record(self.path(name), content, n_tokens, unit), content), kill)

    @precondition(lambda self: self.begun)
    @rule(data=st.data(), kill=KILLS)
    def resume(self, data, kill):
        name = data.draw(st.sampled_from(sorted(self.begun)))
        job = self.begun[name]
        if all(self.complete.get(source) is content for source, content in job.sources.items()):
            self.make(name, job, kill)
        elif (self.path(name) / "zarr.json").exists() and is_allocated(Location.of(self.path(name))):
            with pytest.raises(ActomeError):  # a source is another now, or gone
                job.run()

    @precondition(lambda self: self.complete and self.free())
    @rule(
        data=st.data(),
        unit=st.integers(1, 9),
        tokens=st.integers(1, 4),
        neurons=st.integers(1, 3),
        kill=KILLS,
    )
    def rechunk(self, data, unit, tokens, neurons, kill):
        source, name = (
            data.draw(st.sampled_from(sorted(self.complete))),
            data.draw(st.sampled_from(self.free())),
        )
        content, sizes = self.complete[source], open_recording(self.path(source)).sizes
        size = {"unit": min(unit, sizes["prompt"]), "tokens": min(tokens, sizes["token"]), "neurons": neurons}
        job = lambda: rechunk(self.path(source), self.path(name), **size)  # noqa: E731
        self.make(name, Job(job, replace(content), {source: content}), kill)

    @precondition(lambda self: self.complete and self.free())
    @rule(data=st.data(), dtype=st.sampled_from(["float16", "float32"]), clip=st.booleans(), kill=KILLS)
    def cast(self, data, dtype, clip, kill):
        source, name = (
            data.draw(st.sampled_from(sorted(self.complete))),
            data.draw(st.sampled_from(self.free())),
        )
        content, out = self.complete[source], self.path(name)
        if content.dtype == dtype or (dtype == "float16" and content.largest > FLOAT16_MAX and not clip):
            with pytest.raises(InputError, match=r"already|clip=True"):
                cast(self.path(source), out, dtype, clip=clip)
            assert not is_there(out)
            return

        def job():
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", message=".*beyond what float16 holds")
                cast(self.path(source), out, dtype, clip=clip)

        self.make(name, Job(job, content.cast(dtype), {source: content}), kill)

    def joining(self, *, fits: bool) -> list[tuple[str, str, dict[str, str]]]:
        """Pairs of complete recordings, with options under which they can be joined, or cannot."""
        options = [{"runs": r, "duplicates": d} for r in ("keep", "renumber") for d in ("refuse", "skip")]
        return [
            (a, b, o)
            for a, b in itertools.permutations(sorted(self.complete), 2)
            for o in options
            if (joined([self.complete[a], self.complete[b]], **o) is not None) == fits
        ]

    @precondition(lambda self: self.joining(fits=True) and self.free())
    @rule(data=st.data(), kill=KILLS)
    def merge(self, data, kill):
        *sources, options = data.draw(st.sampled_from(self.joining(fits=True)))
        name = data.draw(st.sampled_from(self.free()))
        content = joined([self.complete[s] for s in sources], **options)
        paths, out = [self.path(s) for s in sources], self.path(name)
        job = Job(lambda: merge(paths, out, **options), content, {s: self.complete[s] for s in sources})
        self.make(name, job, kill)

    @precondition(lambda self: self.joining(fits=False) and self.free())
    @rule(data=st.data())
    def refuse_to_join(self, data):
        target, source, options = data.draw(st.sampled_from(self.joining(fits=False)))
        out = self.path(self.free()[0])
        for call in (
            lambda: merge([self.path(target), self.path(source)], out, **options),
            lambda: append(self.path(target), self.path(source), **options),
        ):
            with pytest.raises(InputError, match=r"do not join|stand in two recordings"):
                call()
        assert not is_there(out)
        self.touched |= {target, source}

    @precondition(lambda self: self.joining(fits=True))
    @rule(data=st.data(), kill=KILLS)
    def append(self, data, kill):
        self.append_one(*data.draw(st.sampled_from(self.joining(fits=True))), kill)

    def append_one(self, target, source, options, kill):
        before, after = self.complete[target], joined([self.complete[n] for n in (target, source)], **options)
        self.touched |= {target, source}
        try:
            with killed_after(kill, self.root):
                append(self.path(target), self.path(source), **options)
            self.complete[target] = after if len(after.prompts) > len(before.prompts) else before
        except KilledError:
            self.untidy = True
            n = open_recording(self.path(target)).sizes["prompt"]
            assert n in (len(before.prompts), len(after.prompts))
            self.complete[target] = after if n == len(after.prompts) else before

    @precondition(lambda self: self.joining(fits=True))
    @rule(data=st.data())
    def read_while_another_appends(self, data):
        target, *_ = pair = data.draw(st.sampled_from(self.joining(fits=True)))
        ds, before = open_recording(self.path(target)), self.complete[target]
        self.append_one(*pair, None)
        assert_holds(ds, list(before.prompts))

    @precondition(lambda self: self.complete or self.begun or self.leaving)
    @rule(data=st.data(), kill=KILLS)
    def rm(self, data, kill):
        name = data.draw(st.sampled_from(sorted({*self.complete, *self.begun, *self.leaving})))
        self.touched.add(name)
        contents = [c for c in (self.complete.get(name), self.leaving.get(name)) if c]
        content = contents[0] if contents else self.begun[name].content
        self.readers = [reader for reader in self.readers if reader[0] != name]
        for state in (self.complete, self.begun, self.leaving):
            state.pop(name, None)
        try:
            with killed_after(kill, self.root):
                if is_there(self.path(name)):
                    remove(self.path(name))
                    assert not self.path(name).exists()
        except KilledError:
            self.leaving[name], self.untidy = content, True
        except MissingFileError:  # a first write that was cut off; `gc` knows it
            assert not (self.path(name) / "zarr.json").exists()
            self.leaving[name] = content

    @precondition(lambda self: self.untidy)
    @rule(kill=KILLS)
    def gc(self, kill):
        self.touched |= set(self.names)
        try:
            with killed_after(kill, self.root):
                gc(self.root, older_than=0)
        except KilledError:
            return
        left = [p for p in self.root.rglob("*") if p.suffix in (".partial", ".staging", ".replaced")]
        assert not left
        for name in [name for name in self.leaving if not is_there(self.path(name))]:
            del self.leaving[name]
        assert all(is_allocated(Location.of(self.path(name))) for name in self.leaving)  # not begun yet
        assert gc(self.root, older_than=0) == []
        self.untidy = False

    @precondition(lambda self: self.complete)
    @rule(data=st.data())
    def open(self, data):
        name = data.draw(st.sampled_from(sorted(self.complete)))
        self.readers.append((name, open_recording(self.path(name)), self.complete[name]))

    @precondition(lambda self: self.readers)
    @rule()
    def read(self):
        _, ds, content = self.readers.pop(0)
        assert_holds(ds, list(content.prompts))

    @invariant()
    def everything_readable_is_right(self):
        for name in sorted(self.touched):
            path = self.path(name)
            if name in self.complete:
                prompts = list(self.complete[name].prompts)
                assert_holds(open_recording(path), prompts)
                assert_moments(open_recording(path, level="prompt"), prompts)
                assert verify(path) == []
            elif name in self.begun or name in self.leaving:
                content = self.begun[name].content if name in self.begun else self.leaving[name]
                self.holds_nothing_wrong(path, content)
            else:
                assert not is_there(path)
        self.touched = set()

    def holds_nothing_wrong(self, path: Path, content: Content) -> None:
        try:
            ds = open_so_far(path)
        except ActomeError:
            return
        shown = set(ds["prompt"].to_numpy().tolist())
        assert_holds(ds, [p for p in content.prompts if p.name in shown])


def is_there(path: Path) -> bool:
    return any(p.is_file() for p in path.rglob("*")) if path.exists() else False


def run(max_examples: int, steps: int) -> None:
    profile = settings(
        max_examples=max_examples,
        stateful_step_count=steps,
        suppress_health_check=list(HealthCheck),
        deadline=None,
    )
    run_state_machine_as_test(Archive, settings=profile)


def test_archive__agrees_with_its_model_whatever_is_killed():
    run(2, 10)


@pytest.mark.slow
def test_archive__agrees_with_its_model_whatever_is_killed__deep():
    run(60, 30)
