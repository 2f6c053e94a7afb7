"""The structural finder, against hooks placed by hand in every architecture, and modules named by hand."""

import pytest
import torch
from torch import nn
from transformers import (
    AlbertConfig,
    AlbertForMaskedLM,
    CLIPVisionConfig,
    LlamaConfig,
    LlamaForCausalLM,
    LlavaConfig,
    LlavaForConditionalGeneration,
    MambaConfig,
    MambaForCausalLM,
    T5Config,
    T5ForConditionalGeneration,
)

from actome.ingest.sites import find_taps
from actome.store.errors import InputError
from actome.store.schema import SITES

from .architectures import ARCHITECTURES, GATED, HIDDEN, N_LAYERS, ROUTED, observe

IDS = torch.arange(3, 17).reshape(2, 7)
ALL = [*ARCHITECTURES, *ROUTED]


@pytest.fixture(params=ALL, ids=lambda a: a.name)
def architecture(request):
    return request.param


@pytest.fixture
def llama():
    torch.manual_seed(0)
    return LlamaForCausalLM(LlamaConfig(**GATED)).eval()


def _tapped(model, taps, function=lambda x: None):
    """Run with the taps' own hooks: the values seen, (layer, prompt * token * neuron), and the result."""
    seen, handles = {}, []
    for i, tap in enumerate(taps):

        def keep(x, i=i):
            seen[i] = x.detach().clone().reshape(-1)
            return function(x)

        handles.append(tap.hook(keep))
    try:
        with torch.no_grad():
            out = model(input_ids=IDS)[0]
    finally:
        for handle in handles:
            handle.remove()
    return torch.stack([seen[i] for i in range(len(taps))]), out


def test_tap_hook__sees_what_an_independent_hook_sees(architecture):
    model, places = architecture.build(), architecture.places()
    expected = observe(model, lambda: model(input_ids=IDS), places)
    for site in places:
        taps = find_taps(model, site)
        assert [tap.side for tap in taps] == ["input" if site == "mlp" else "output"] * N_LAYERS
        assert {tap.width for tap in taps} == {architecture.width if site == "mlp" else HIDDEN}
        seen, _ = _tapped(model, taps)
        assert torch.equal(seen, expected[site].reshape(N_LAYERS, -1)), site


def test_find_taps__mlp_names_the_down_projection(architecture):
    if architecture.mlp is not None:
        names = [tap.name for tap in find_taps(architecture.build(), "mlp")]
        assert names == [architecture.mlp.format(i) for i in range(N_LAYERS)]


@pytest.mark.parametrize("architecture", [a for a in ALL if a.adds], ids=lambda a: a.name)
def test_find_taps__attention_and_mlp_give_what_the_block_adds(architecture):
    model = architecture.build()
    block, attention, mlp = (
        _tapped(model, find_taps(model, site))[0] for site in ("residual", "attention_out", "mlp_out")
    )
    torch.testing.assert_close(block[1:] - block[:-1], attention[1:] + mlp[1:], rtol=1e-4, atol=1e-4)


def test_tap_hook__what_it_returns_replaces_the_activation(architecture):
    model = architecture.build()
    with torch.no_grad():
        before = model(input_ids=IDS)[0]
    for site in architecture.places():
        _, changed = _tapped(model, find_taps(model, site)[1:2], torch.zeros_like)
        assert not torch.equal(before, changed), site
    with torch.no_grad():
        assert torch.equal(before, model(input_ids=IDS)[0])


def test_find_taps__unknown_site_is_refused(llama):
    with pytest.raises(InputError, match="site must be one of"):
        find_taps(llama, "hidden")


@pytest.mark.parametrize("architecture", ROUTED, ids=lambda a: a.name)
def test_find_taps__routed_experts_are_refused_and_the_sites_that_work_are_named(architecture):
    model = architecture.build()
    with pytest.raises(InputError, match=r"experts.*do work here: 'mlp_out', 'attention_out', 'residual'"):
        find_taps(model, "mlp")


def test_find_taps__of_dense_and_routed_layers_the_routed_are_named():
    models = {a.name: a.build() for a in ROUTED if a.name in ("qwen2_moe", "deepseek_v3")}
    with pytest.raises(InputError, match=r"experts in the layers 0, 2 \(model.layers.0.mlp.experts\)"):
        find_taps(models["qwen2_moe"], "mlp")
    with pytest.raises(InputError, match=r"experts in the layers 1, 2 \(model.layers.1.mlp.experts\)"):
        find_taps(models["deepseek_v3"], "mlp")


def test_find_taps__only_the_sites_that_work_are_named():
    model = ROUTED[0].build()
    for block in model.model.layers:
        block.other_mlp = nn.Linear(HIDDEN, HIDDEN)  # the output of the experts is not all that it adds
        block.self_attn.o_proj = nn.Identity()
    with pytest.raises(InputError, match=r"do work here: 'residual'; modules can be named by hand"):
        find_taps(model, "mlp")
    with pytest.raises(InputError, match=r"no one module that holds its whole MLP.*'mlp', 'other_mlp'"):
        find_taps(model, "mlp_out")
    with pytest.raises(InputError, match="has 0 output projections to 16 features, named like o_proj"):
        find_taps(model, "attention_out")


def test_find_taps__a_block_without_one_down_projection_is_refused_and_names_what_works(llama):
    llama.model.layers[1].mlp.extra = nn.Linear(24, HIDDEN)
    with pytest.raises(InputError, match=r"layers.1 has 2 down-projections.*'residual'"):
        find_taps(llama, "mlp")


def test_find_taps__a_block_without_an_mlp_has_none():
    model = MambaForCausalLM(MambaConfig(vocab_size=40, hidden_size=16, num_hidden_layers=2))
    for site in ("mlp", "mlp_out", "attention_out"):
        with pytest.raises(
            InputError, match=r"do work here: 'residual'.*\{'\w+': 'backbone.layers.\{\}.NAME'"
        ):
            find_taps(model, site)


def test_find_taps__an_adapter_on_a_projection_is_part_of_it(llama):
    for block in llama.model.layers:
        block.mlp.down_proj.lora_B = nn.Linear(4, HIDDEN)
        block.self_attn.o_proj.dense = nn.Linear(4, HIDDEN)
    assert find_taps(llama, "mlp")[2].name == "model.layers.2.mlp.down_proj"
    assert find_taps(llama, "attention_out")[2].name == "model.layers.2.self_attn.o_proj"


def test_find_taps__a_vision_tower_of_equal_depth_does_not_win():
    vision = CLIPVisionConfig(
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=3,
        num_attention_heads=2,
        image_size=8,
        patch_size=4,
    )
    model = LlavaForConditionalGeneration(LlavaConfig(vision_config=vision, text_config=LlamaConfig(**GATED)))
    model.eval()
    for site in SITES:
        taps = find_taps(model, site)
        assert all(tap.name.startswith("model.language_model.layers.") for tap in taps)
        assert _tapped(model, taps)[0].shape == (3, 14 * taps[0].width)


def test_find_taps__a_vision_tower_without_a_configuration_does_not_win(llama):
    class Both(nn.Module):
        def __init__(self):
            super().__init__()
            self.config = llama.config
            self.vision = nn.ModuleDict({"layers": LlamaForCausalLM(llama.config).model.layers})
            self.text = nn.ModuleDict({"layers": llama.model.layers})

    assert find_taps(Both(), "mlp")[0].name == "text.layers.0.mlp.down_proj"


def test_find_taps__layers_that_share_their_weights_are_refused(llama):
    albert = AlbertConfig(
        vocab_size=40,
        hidden_size=16,
        embedding_size=8,
        num_hidden_layers=3,
        num_attention_heads=2,
        intermediate_size=24,
    )
    with pytest.raises(InputError, match="runs 1 modules as 3 layers that share their weights"):
        find_taps(AlbertForMaskedLM(albert), "residual")
    for block in llama.model.layers:
        block.mlp = llama.model.layers[0].mlp
    with pytest.raises(InputError, match=r"shared between layers.*'attention_out', 'residual'"):
        find_taps(llama, "mlp")


def test_find_taps__an_encoder_and_decoder_are_refused():
    config = T5Config(vocab_size=40, d_model=16, num_layers=2, num_heads=2, d_kv=8, d_ff=24)
    with pytest.raises(InputError, match=r"2 lists of 2 blocks \(encoder.block, decoder.block\)"):
        find_taps(T5ForConditionalGeneration(config), "residual")


def test_find_taps__layers_of_different_widths_are_refused(llama):
    llama.model.layers[1].mlp.down_proj = nn.Linear(20, HIDDEN)
    with pytest.raises(InputError, match="different widths, 20, 24"):
        find_taps(llama, "mlp")


# modules named by hand


def test_find_taps__modules_named_by_hand_are_those_found(architecture):
    model = architecture.build()
    for site, pattern in architecture.places().items():
        listed = [pattern.format(i) for i in range(N_LAYERS)]
        found, by_pattern, by_list = (
            find_taps(model, site),
            find_taps(model, site, pattern),
            find_taps(model, site, listed),
        )
        assert by_pattern == by_list
        assert [tap.name for tap in by_list] == listed
        assert [(t.side, t.width) for t in by_list] == [(t.side, t.width) for t in found]


def test_find_taps__a_width_that_no_weight_shows_is_measured(llama):
    taps = find_taps(llama, "mlp_out", "model.layers.{}.mlp.act_fn")
    assert [(tap.width, tap.side) for tap in taps] == [(24, "output")] * 3
    seen, _ = _tapped(llama, taps)
    assert seen.shape == (3, 14 * 24)


def test_find_taps__naming_modules_draws_nothing_and_leaves_the_mode(llama):
    llama.train()
    llama.model.layers[0].eval()
    before = [part.training for part in llama.modules()]
    state = torch.get_rng_state()
    find_taps(llama, "mlp", "model.layers.{}.mlp.down_proj")
    assert [part.training for part in llama.modules()] == before
    assert torch.equal(torch.get_rng_state(), state)
    assert not any(part._forward_hooks for part in llama.modules())


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ("model.layers.{}.mlp.downproj", r"no module is named .*did you mean 'model.layers.0.mlp.down_proj'"),
        ("model.layer.{}.mlp.down_proj", r"no module is named .*did you mean 'model.layers.0.mlp.down_proj'"),
        ("model.layers.0.mlp.down_proj", r"has one \{\} for the number of the layer"),
        ("model.layers.{}.{}", r"has one \{\} for the number of the layer"),
        ([], "must be a pattern or names, one a layer"),
        ([0, 1, 2], "must be a pattern or names, one a layer"),
        (["model.layers.0.mlp.up"], "has no module 'model.layers.0.mlp.up'; did you mean"),
        (["model.layers.0.mlp", "model.layers.0.mlp"], "must differ, one a layer"),
        (["model.layers.0.mlp", "model.layers.2.mlp"], "are of the layers 0, 2; they must be 0, 1, 2"),
        (["model.layers.1.mlp", "model.layers.0.mlp"], "are of the layers 1, 0; they must be 0, 1, 2"),
        ("model.layers.{}.self_attn", "takes .* expected a single tensor as its input"),
        (["model.rotary_emb"], "expected a single tensor as its input"),
        (["model.layers"], "runs 0 times in a forward pass, expected once"),
        (["model.embed_tokens"], r"has shape \(2, 3\) for 2 prompts of 3 tokens"),
    ],
)
def test_find_taps__names_that_cannot_be_read_are_refused(llama, names, message):
    with pytest.raises(InputError, match=message):
        find_taps(llama, "mlp", names)


def test_find_taps__an_output_that_is_no_tensor_is_refused(llama):
    class Pair(nn.Module):
        def forward(self, x):
            return {"x": x}

    llama.model.layers[0].mlp.register_module("pair", Pair())
    llama.model.layers[0].mlp.register_forward_hook(lambda m, args, out: m.pair(out)["x"])
    with pytest.raises(InputError, match="gives a dict, expected a single tensor as its output"):
        find_taps(llama, "residual", ["model.layers.0.mlp.pair"])


def test_find_taps__a_layer_without_the_module_named_is_refused(llama):
    del llama.model.layers[1].mlp.act_fn
    with pytest.raises(InputError, match=r"'model.layers.\{\}.mlp.act_fn' is no module in the layers 1;"):
        find_taps(llama, "mlp_out", "model.layers.{}.mlp.act_fn")


def test_find_taps__a_model_that_tokens_alone_do_not_run_is_refused(llama):
    t5 = T5ForConditionalGeneration(
        T5Config(vocab_size=40, d_model=16, num_layers=2, num_heads=2, d_kv=8, d_ff=24)
    )
    with pytest.raises(InputError, match="T5ForConditionalGeneration does not run on tokens alone"):
        find_taps(t5, "residual", "encoder.block.{}")


def test_find_taps__experts_that_see_some_tokens_are_refused(llama):
    class Some(nn.Module):
        def forward(self, x):
            return x

    mlp = llama.model.layers[0].mlp
    mlp.register_module("some", Some())
    mlp.register_forward_hook(lambda m, args, out: (m.some(args[0].reshape(-1, 16)[1:3]), out)[1])
    with pytest.raises(InputError, match=r"has shape \(2, 16\) for 2 prompts of 3 tokens"):
        find_taps(llama, "mlp", ["model.layers.0.mlp.some"])
