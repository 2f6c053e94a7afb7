"""The structural finder, against a hook placed by hand in each architecture."""

import pytest
import torch
from transformers import (
    BloomConfig,
    BloomForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    OPTConfig,
    OPTForCausalLM,
)

from actome.ingest.sites import find_taps
from actome.store.errors import InputError

SMALL = {"vocab_size": 50, "hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2}
MODELS = {
    "llama": (
        LlamaForCausalLM,
        LlamaConfig(**SMALL, intermediate_size=24),
        "model.layers.{}.mlp.down_proj",
        24,
    ),
    "gpt2": (
        GPT2LMHeadModel,
        GPT2Config(vocab_size=50, n_embd=16, n_layer=3, n_head=2),
        "transformer.h.{}.mlp.c_proj",
        64,
    ),
    "neox": (
        GPTNeoXForCausalLM,
        GPTNeoXConfig(**SMALL, intermediate_size=24),
        "gpt_neox.layers.{}.mlp.dense_4h_to_h",
        24,
    ),
    "opt": (
        OPTForCausalLM,
        OPTConfig(**SMALL, ffn_dim=24, word_embed_proj_dim=16, max_position_embeddings=32),
        "model.decoder.layers.{}.fc2",
        24,
    ),
    "bloom": (
        BloomForCausalLM,
        BloomConfig(vocab_size=50, hidden_size=16, n_layer=3, n_head=2),
        "transformer.h.{}.mlp.dense_4h_to_h",
        64,
    ),
}


@pytest.fixture(params=MODELS)
def architecture(request):
    kind, config, name, width = MODELS[request.param]
    torch.manual_seed(0)
    return kind(config).eval(), name, width


def test_find_taps__mlp_is_the_input_of_the_down_projection(architecture):
    model, name, width = architecture
    taps = find_taps(model, "mlp")
    assert [t.name for t in taps] == [name.format(i) for i in range(3)]
    assert {(t.side, t.width) for t in taps} == {("input", width)}


@pytest.mark.parametrize("site", ["mlp", "mlp_out", "residual", "attention_out"])
def test_tap_hook__sees_what_an_independent_hook_sees(architecture, site):
    model, name, _ = architecture
    seen, expected = {}, {}
    taps = find_taps(model, site)
    handles = [t.hook(lambda x, i=i: seen.update({i: x.detach().clone()})) for i, t in enumerate(taps)]
    modules = dict(model.named_modules())
    for i in range(3):
        block = modules[name.format(i).split(f".{i}.")[0] + f".{i}"]
        module = {
            "mlp": modules[name.format(i)],
            "mlp_out": modules[name.format(i)],
            "residual": block,
            "attention_out": next(
                m
                for n, m in block.named_children()
                if n in ("self_attn", "attn", "attention", "self_attention")
            ),
        }[site]

        def keep(m, args, output, i=i):
            first = args[0] if site == "mlp" else output[0] if isinstance(output, tuple) else output
            expected[i] = first.detach().clone()

        handles.append(module.register_forward_hook(keep))
    with torch.no_grad():
        model(torch.arange(14).reshape(2, 7))
    for handle in handles:
        handle.remove()
    for i in range(3):
        torch.testing.assert_close(seen[i], expected[i], rtol=0, atol=0)


def test_tap_hook__what_it_returns_replaces_the_activation(architecture):
    model, *_ = architecture
    ids = torch.arange(14).reshape(2, 7)
    for site in ("mlp", "residual"):
        with torch.no_grad():
            before = model(ids).logits
            handle = find_taps(model, site)[1].hook(torch.zeros_like)
            changed = model(ids).logits
            handle.remove()
            after = model(ids).logits
        assert not torch.equal(before, changed)
        assert torch.equal(before, after)


def test_find_taps__unknown_site_is_refused():
    model = LlamaForCausalLM(LlamaConfig(**SMALL, intermediate_size=24))
    with pytest.raises(InputError, match="site must be one of"):
        find_taps(model, "hidden")


def test_find_taps__a_block_without_one_down_projection_is_refused_and_names_what_works():
    model = LlamaForCausalLM(LlamaConfig(**SMALL, intermediate_size=24))
    model.model.layers[1].mlp.extra = torch.nn.Linear(24, 16)
    with pytest.raises(InputError, match=r"2 down-projections.*'residual'"):
        find_taps(model, "mlp")
