"""How long a catalog of thousands of entries takes to list, to search and to change.

    python benchmarks/catalog.py --entries 5000

Every entry says all that `Catalog.add` finds out about a recording, and has its folder on disk; none
is opened. The times of the command line include the start of the process.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from actome.store.catalog import open_catalog
from actome.store.yaml import dump

_REPEATS = 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--entries", type=int, default=5000)
    n = parser.parse_args().entries
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "catalog.yaml")
        build(path, n)
        print(
            f"{n} entries, {path.stat().st_size / 1e6:.1f} MB; seconds, median of {_REPEATS} (least to most)"
        )
        for options in ([], ["--json"], ["--tag", "demo", "--model", "lab/*-3"]):
            report(f"actome ls {' '.join(options)}", lambda options=options: run(path, *options))
        report("open_catalog", lambda: open_catalog(path))
        catalog = open_catalog(path)
        report("search", lambda: catalog.search(condition="fr", text="recording"))
        report("add and save", lambda: change(path))


def build(path: Path, n: int) -> None:
    """Write a catalog of `n` recordings, each with a folder of its own."""
    sources = {}
    for i in range(n):
        store = f"data/{i % 100:02d}/{i:05d}.zarr"
        Path(path.parent, store).mkdir(parents=True)
        Path(path.parent, store, "zarr.json").touch()
        sources[f"recording-{i:05d}"] = {
            "driver": "zarr",
            "description": f"Recording {i} of the lab, all prompts",
            "args": {"urlpath": "{{ CATALOG_DIR }}/" + store},
            "metadata": {
                "kind": "recording",
                "model": f"lab/model-{i % 7}",
                "sites": ["mlp", "residual"],
                "conditions": ["fr", "de", "en", "no"],
                "shape": {"prompt": 100 + i, "token": 131, "layer": 6, "neuron": 512},
                "licence": "CC0-1.0",
                "digest": f"sha256:{i:064x}",
                "created": "2026-01-01T00:00:00+00:00",
                "tags": ["demo", f"batch-{i % 50}"],
            },
        }
    path.write_text(dump({"version": 1, "sources": sources}), encoding="utf-8")


def run(path: Path, *options: str) -> None:
    command = [sys.executable, "-m", "actome", "ls", "--catalog", str(path), *options]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def change(path: Path) -> None:
    catalog = open_catalog(path)
    catalog.add(f"new-{len(catalog)}", "new.zarr", look=False)
    catalog.save()


def report(what: str, call: Callable[[], Any]) -> None:
    """Time some calls; processor time, too, which others on the machine slow down less."""
    times, used = [], []
    for _ in range(_REPEATS):
        start, before = time.perf_counter(), processor_time()
        call()
        times.append(time.perf_counter() - start)
        used.append(processor_time() - before)
    print(
        f"{what:<44} {statistics.median(times):.3f} ({min(times):.3f} to {max(times):.3f})  {min(used):.3f}"
    )


def processor_time() -> float:
    """Return the seconds that this process and those it has started spent on a processor."""
    t = os.times()
    return t.user + t.system + t.children_user + t.children_system


if __name__ == "__main__":
    main()
