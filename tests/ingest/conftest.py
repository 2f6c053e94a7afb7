"""Small models: the phantom, whose truth is known, and random-weight ones of several architectures."""

import pytest
import torch
import xarray as xr

from actome.ingest.models import load_model
from actome.ingest.phantom import PhantomModel, phantom_model

from .resuming import TINY, whole


@pytest.fixture(autouse=True)
def one_torch_thread():
    """Keep torch from fighting over the cores; sums then also come out alike from run to run."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def phantom() -> PhantomModel:
    return phantom_model()


@pytest.fixture
def model(phantom):
    return (phantom.module, phantom.tokenizer)


@pytest.fixture
def masks(phantom):
    """The phantom's planted networks."""
    coords = {"network": ["a", "b"], "layer": range(3), "neuron": range(64)}
    dims, known = ("network", "layer", "neuron"), {"selected_on": []}  # the truth needed no prompt
    return xr.DataArray(phantom.networks, dims=dims, coords=coords, attrs=known)


@pytest.fixture
def folder(phantom, tmp_path):
    """The phantom as a folder that Hugging Face's libraries load."""
    phantom.module.save_pretrained(tmp_path / "m")
    phantom.tokenizer.save_pretrained(tmp_path / "m")
    return tmp_path / "m"


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
