"""Small models: the phantom, whose truth is known, and random-weight ones of several architectures."""

import pytest
import torch

from actome.ingest.phantom import PhantomModel, phantom_model


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
