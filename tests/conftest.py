"""What every room's tests share."""

import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import dask
import numpy as np
import pytest
import xarray as xr
from hypothesis import settings

from actome import cli
from actome.store.archive import save
from actome.store.phantom import phantom

# The same examples on every run, so that a failure in one place is a failure in all.
settings.register_profile("actome", deadline=None, derandomize=True, max_examples=20)
settings.load_profile("actome")


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture
def tiny() -> xr.Dataset:
    """In memory: 12 prompts of 3 conditions in 2 runs, 2-5 tokens, 2 layers of 6 neurons."""
    return phantom(n_prompts=4, n_tokens=(2, 5), n_layers=2, n_neurons=6, fraction=0.1, seed=1)


@pytest.fixture
def tiny_path(tiny: xr.Dataset, tmp_path: Path) -> Path:
    """The same as a recording on disk, in 6 units."""
    return Path(save(tiny, tmp_path / "tiny.zarr"))


@pytest.fixture
def raise_if_computes() -> Callable[[], AbstractContextManager[Any]]:
    """`with raise_if_computes():` nothing may run on the Dask scheduler."""

    def scheduler(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("something was computed")

    return lambda: dask.config.set(scheduler=scheduler)


@pytest.fixture
def call(monkeypatch, capsys):
    """Run a command in this process: exit status, standard output and error."""

    def inner(*args):
        monkeypatch.setattr(sys, "argv", ["actome", *map(str, args)])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        return stop.value.code or 0, *capsys.readouterr()

    return inner
