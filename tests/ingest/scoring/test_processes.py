"""Processes that score: killed again and again, and two at once in one archive."""

import signal
import time

import numpy as np
import pytest
import xarray as xr

import actome
from actome.ingest.phantom import phantom_model
from actome.store.integrity import verify

from ..processes import saved, starting
from ..resuming import files

CONTROLS = 60


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    """Start a process that scores many lesions into a path."""
    made, folder = phantom_model(n_prompts=40), tmp_path_factory.mktemp("model")
    coords = {"network": ["a", "b"], "layer": range(3), "neuron": range(64)}
    dims = ("network", "layer", "neuron")
    masks = xr.DataArray(made.networks, dims=dims, coords=coords, attrs={"selected_on": []})
    settings = {"controls": CONTROLS, "progress": False, "device": "cpu"}
    with starting(actome.score, saved(made, folder), made.paradigm, after=(masks,), **settings) as start:
        yield start


@pytest.fixture(scope="module")
def whole(start, tmp_path_factory):
    path = tmp_path_factory.mktemp("whole") / "s.zarr"
    process = start(path)
    process.join()
    assert process.exitcode == 0
    return path


def n_complete(path):
    return len(list(path.glob("actome/units/*.json")))


@pytest.mark.slow
def test_score__killed_again_and_again_it_comes_to_the_same_bytes(start, whole, tmp_path):
    rng, path, seen = np.random.default_rng(0), tmp_path / "s.zarr", []
    assert n_complete(whole) >= 2
    for units in range(n_complete(whole)):
        process = start(path)
        while process.is_alive() and n_complete(path) < units:
            time.sleep(0.002)
        time.sleep(rng.uniform(0, 0.3))
        process.kill()
        process.join()
        assert process.exitcode in (-signal.SIGKILL, 0)
        seen.append(n_complete(path))
    assert seen == sorted(seen)
    last = start(path)
    last.join()
    assert last.exitcode == 0
    assert files(path) == files(whole) and verify(path) == []


@pytest.mark.slow
def test_score__two_processes_at_once_come_to_the_bytes_of_one(start, whole, tmp_path):
    path = tmp_path / "s.zarr"
    processes = [start(path, part=(k, 2)) for k in (1, 0)]
    for process in processes:
        process.join()
    assert [p.exitcode for p in processes] == [0, 0]
    assert files(path) == files(whole) and verify(path) == []
