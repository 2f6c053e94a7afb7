"""The weight tensors of many architectures: which, of what type, in which layer."""

import pytest
import torch
from torch import nn

from actome.ingest.parameters import find_parameters
from actome.store.errors import InputError

from .architectures import ARCHITECTURES, N_LAYERS, ROUTED

BY_NAME = {a.name: a for a in (*ARCHITECTURES, *ROUTED)}
GATED = {"q", "k", "v", "o", "gate", "up", "down"}
TYPES = {
    "llama": GATED, "mistral": GATED, "qwen2": GATED, "qwen3": GATED, "gemma2": GATED, "gemma3": GATED,
    "stablelm": GATED, "cohere": GATED, "olmo2": GATED,
    "phi": {"q", "k", "v", "o", "up", "down"}, "opt": {"q", "k", "v", "o", "up", "down"},
    "gptj": {"q", "k", "v", "o", "up", "down"}, "gpt_neo": {"q", "k", "v", "o", "up", "down"},
    "phi3": {"qkv", "o", "gate_up", "down"}, "modernbert": {"qkv", "o", "gate_up", "down"},
    "gpt2": {"qkv", "o", "up", "down"}, "gpt_bigcode": {"qkv", "o", "up", "down"},
    "gpt_neox": {"qkv", "o", "up", "down"}, "bloom": {"qkv", "o", "up", "down"},
    "falcon": {"qkv", "o", "up", "down"}, "mpt": {"qkv", "o", "up", "down"},
    "bert": {"q", "k", "v", "o", "up", "down"}, "distilbert": {"q", "k", "v", "o", "up", "down"},
}  # fmt: skip


@pytest.mark.parametrize("name", ["llama", "gpt2", "opt", "phi3"])
def test_find_parameters__each_block_has_every_type_of_matrix_once(name):
    check(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", [n for n in TYPES if n not in ("llama", "gpt2", "opt", "phi3")])
def test_find_parameters__so_it_is_in_all_architectures(name):
    check(name)


def check(name):
    found = find_parameters(BY_NAME[name].build())
    for layer in range(N_LAYERS):
        kinds = [p.matrix for p in found if p.layer == layer]
        assert sorted(kinds) == sorted(TYPES[name])
    assert all(p.shape == tuple(p.tensor.shape) for p in found)


def test_find_parameters__all_has_every_parameter_once_also_tied_ones():
    module = BY_NAME["gemma2"].build()
    found = find_parameters(module, "all")
    assert sum(p.tensor.numel() for p in found) == sum(p.numel() for p in module.parameters())
    assert {"embedding", "norm"} <= {p.matrix for p in found} and "head" not in {p.matrix for p in found}


def test_find_parameters__rows_are_what_a_matrix_writes_except_in_gpt2():
    for name, rows in (("llama", "out"), ("gpt2", "in")):
        down = next(p for p in find_parameters(BY_NAME[name].build()) if p.matrix == "down")
        assert down.rows == rows and down.shape == ((16, 24) if rows == "out" else (24, 16))


def test_find_parameters__fused_experts_are_rows_of_one_tensor():
    found = find_parameters(BY_NAME["mixtral"].build())
    down = next(p for p in found if p.matrix == "down")
    assert down.tensor.ndim == 3 and down.shape == (down.tensor[..., 0].numel(), down.tensor.shape[-1])


def test_find_parameters__quantised_weights_and_unknown_choices_are_refused():
    module = BY_NAME["llama"].build()
    with pytest.raises(InputError, match="'blocks' or 'all'"):
        find_parameters(module, "some")
    projection = module.model.layers[1].mlp.down_proj
    projection.weight = nn.Parameter(projection.weight.to(torch.int8), requires_grad=False)
    with pytest.raises(InputError, match=r"down_proj\.weight are int8, quantised"):
        find_parameters(module)
