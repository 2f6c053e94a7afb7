"""Digests of weights and tokenizers."""

import pytest
import torch

from actome.ingest import identity
from actome.ingest.identity import tokenizer_digest, weights_digest
from actome.ingest.models import load_model


def test_weights_digest__takes_buffers_of_no_dimension_of_any_type():
    module = torch.nn.Linear(2, 2)
    module.register_buffer("scale", torch.tensor(2.0, dtype=torch.bfloat16))
    before = weights_digest(module)
    module.scale.fill_(3.0)
    assert weights_digest(module) != before


def test_weights_digest__leaves_out_buffers_that_are_not_stored():
    module = torch.nn.Sequential(torch.nn.Linear(2, 2))
    before = weights_digest(module)
    module.register_buffer("table", torch.ones(2), persistent=False)
    module[0].register_buffer("table", torch.ones(2), persistent=False)
    assert weights_digest(module) == before
    module[0].register_buffer("kept", torch.ones(2))
    assert weights_digest(module) != before


@pytest.mark.parametrize(
    "change",
    [
        lambda m: m[1].weight.data.__setitem__((0, 0), 9.0),
        lambda m: m[1].weight.data.__setitem__((0, 0), -m[1].weight.data[0, 0]),
        lambda m: m.double(),
        lambda m: setattr(m[1], "weight", torch.nn.Parameter(m[1].weight.detach().reshape(2, 8))),
        lambda m: m.append(torch.nn.Linear(1, 1)),
    ],
)
def test_weights_digest__any_change_shows(change):
    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Linear(4, 4))
    before = weights_digest(module)
    change(module)
    assert weights_digest(module) != before


def test_weights_digest__is_of_the_values_however_they_lie(monkeypatch):
    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.Linear(7, 5), torch.nn.Linear(5, 3, bias=False))
    before = weights_digest(module)
    module[0].weight.data = module[0].weight.data.T.contiguous().T
    assert weights_digest(module) == before
    monkeypatch.setattr(identity, "_PIECE", 8)
    assert weights_digest(module) == before


def test_weights_digest__tied_weights_count_once(monkeypatch):
    counted = []
    monkeypatch.setattr(identity, "_tensor_digest", lambda tensor: (counted.append(tensor.shape), b"")[1])
    linear = torch.nn.Linear(5, 5)
    weights_digest(torch.nn.Sequential(linear, linear))
    assert len(counted) == 2  # its weight and its bias


def test_tokenizer_digest__a_chat_template_is_part_of_it(phantom, folder):
    before = tokenizer_digest(phantom.tokenizer)
    (folder / "chat_template.jinja").write_text("{{ messages }}")
    assert tokenizer_digest(load_model(folder).tokenizer) != before
