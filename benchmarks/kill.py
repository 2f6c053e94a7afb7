"""Kill a recording again and again, at random times, and compare what comes out in the end.

``python benchmarks/kill.py [--kills N] [--model demo --paradigm NAME] [--seconds S]``

A process records and is ended with SIGKILL after a random time, then another goes on, until the
recording is complete; then the next one begins. After every kill a reader looks: it may see complete
prompts alone, with the values of an undisturbed recording. In the end every file must hold the same
bytes, but for the two with the time of creation. POSIX systems only; a kill costs about a second.
"""

import argparse
import multiprocessing
import os
import re
import shutil
import sys
import tempfile
import time
from collections import Counter
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

import actome
from actome.ingest.phantom import phantom_model
from actome.store.errors import InputError, MissingFileError

SITES = ("mlp", "residual")
NO_DIGESTS = ("zarr.json", "actome/manifest.json", "actome/index/manifest.json")  # the time of creation
UNFINISHED = r"unfinished: |damaged: zarr\.json names no manifest|foreign: .*\.partial$"


class Recorder:
    """Starts processes that record the same prompts, each forked from one that has torch at hand."""

    def __init__(self, model: str, paradigm: Any) -> None:
        os.environ["OMP_NUM_THREADS"] = "1"
        self.context = multiprocessing.get_context("forkserver")
        self.context.set_forkserver_preload(["actome.ingest.record", "actome.ingest.pretrained"])
        self.model, self.paradigm = model, paradigm

    def start(self, path: Path) -> BaseProcess:
        """Begin to record, or go on."""
        process = self.context.Process(
            target=actome.record,
            args=(self.model, self.paradigm, str(path)),
            kwargs={"sites": SITES, "dtype": "float32", "device": "cpu", "progress": False},
        )
        process.start()
        return process

    def finish(self, path: Path) -> float:
        """Record to the end; return the seconds."""
        begun = time.monotonic()
        process = self.start(path)
        process.join()
        if process.exitcode != 0:
            sys.exit(f"a recording that nobody disturbed ended with status {process.exitcode}")
        return time.monotonic() - begun


def files(folder: Path) -> dict[str, bytes]:
    """Return the bytes of every file that must not depend on the time of creation."""
    found = {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    return {key: content for key, content in found.items() if key not in NO_DIGESTS}


def look(path: Path, reference: xr.Dataset) -> tuple[int, list[str]]:
    """Read what is there: the prompts seen, and what is wrong with them."""
    try:
        seen = actome.open(path, site="mlp").load()
    except (InputError, MissingFileError) as error:
        expected = re.search("has no recorded prompts yet|there is no recording", str(error))
        return 0, [] if expected else [str(error)]
    wrong = [line for line in actome.verify(path) if not re.match(UNFINISHED, line)]
    if not seen.drop_attrs().identical(reference.sel(prompt=seen["prompt"]).drop_attrs()):
        wrong.append("a reader sees other values than those of an undisturbed recording")
    return seen.sizes["prompt"], wrong


def main() -> None:
    """Kill, and print the counts."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=500)
    parser.add_argument("--model", help="a model and a paradigm; by default the phantom's 2,000 prompts")
    parser.add_argument("--paradigm")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="stop after this time")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model, paradigm = arguments.model, arguments.paradigm
        if model is None:
            phantom = phantom_model(n_prompts=1000)
            model, paradigm = str(folder / "model"), phantom.paradigm
            phantom.module.save_pretrained(model)
            phantom.tokenizer.save_pretrained(model)
        sys.exit(kill(Recorder(model, paradigm), folder, arguments))


def kill(recorder: Recorder, folder: Path, arguments: argparse.Namespace) -> int:
    """Kill as often as asked; return the exit status."""
    recorder.finish(folder / "warm.zarr")
    seconds = recorder.finish(folder / "whole.zarr")
    expected = files(folder / "whole.zarr")
    reference = actome.open(folder / "whole.zarr", site="mlp").load()
    n_prompts = reference.sizes["prompt"]
    print(f"{n_prompts} prompts, {seconds:.1f} s undisturbed, {len(expected)} files", flush=True)
    rng, path, count, begun = (
        np.random.default_rng(arguments.seed),
        folder / "r.zarr",
        Counter[str](),
        time.time(),
    )
    before = 0
    while count["kills"] < arguments.kills and time.time() - begun < arguments.seconds:
        process = recorder.start(path)
        process.join(rng.uniform(0, seconds))
        seconds *= 1.02 if process.is_alive() else 0.8  # where kills land, whatever else the machine does
        process.kill()
        process.join()
        if process.exitcode not in (0, -9):
            count["errors"] += 1
            print(f"a process ended with status {process.exitcode}", flush=True)
        count["kills"] += process.exitcode == -9
        existed = path.exists()
        n, wrong = look(path, reference)
        for line in wrong:
            print(f"after kill {count['kills']}: {line}", flush=True)
        count["reader sees something wrong"] += bool(wrong)
        if process.exitcode == -9:
            count[where(existed, n, before, n_prompts)] += 1
        count["with files cut off"] += any(path.rglob("*.partial"))
        before = n
        if n == n_prompts:
            recorder.finish(path)
            count["recordings completed"] += 1
            same = files(path) == expected and actome.verify(path) == []
            count["recordings that differ"] += not same
            shutil.rmtree(path)
            before = 0
    recorder.finish(path)
    count["recordings completed"] += 1
    count["recordings that differ"] += not (files(path) == expected and actome.verify(path) == [])
    for what in sorted({*count, "reader sees something wrong", "recordings that differ", "errors"}):
        print(f"{count[what]:6d}  {what}")
    return int(bool(count["reader sees something wrong"] + count["recordings that differ"] + count["errors"]))


def where(existed: bool, n: int, before: int, n_prompts: int) -> str:
    """Say in which stretch of the recording a kill landed."""
    if not existed:
        return "landed before anything was written"
    if n == n_prompts:
        return "landed with every unit complete"
    if n > before:
        return "landed after new units"
    return "landed before a new unit was complete"


if __name__ == "__main__":
    main()
