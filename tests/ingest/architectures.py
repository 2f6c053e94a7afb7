"""Small random-weight models of many architectures, and where someone who knows each would read a site.

The places are written by hand: the input of the map that ends the MLP, and the outputs of the MLP, of the
attention and of the block as a whole, wherever a module of the architecture gives just these.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from torch import nn
from transformers import PreTrainedTokenizerFast

N_LAYERS = 3
HIDDEN = 16
VOCABULARY = 40

COMMON = {
    "vocab_size": VOCABULARY,
    "hidden_size": HIDDEN,
    "num_hidden_layers": N_LAYERS,
    "num_attention_heads": 2,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
GATED = {**COMMON, "intermediate_size": 24, "num_key_value_heads": 1}
HEADS = {"head_dim": 8}

NAMED = (
    "llama mistral qwen2 qwen3 gemma2 phi phi3 gpt2 gptj gpt_neox opt bloom falcon bert mixtral qwen2_moe"
).split()


@dataclass(frozen=True)
class Architecture:
    """How to make a model, and where each site is: a module with ``{}`` for the layer.

    ``mlp`` is read at the module's input, the others at their outputs. `adds`: a block's output is its
    input plus what attention and MLP give.
    """

    name: str
    kind: str
    config: dict[str, Any]
    mlp: str | None
    mlp_out: str | None
    attention_out: str
    residual: str
    width: int = 24
    adds: bool = True

    def build(self) -> nn.Module:
        """Make the model, with the same random weights each time."""
        torch.manual_seed(0)
        kind = getattr(transformers, self.kind)
        model: nn.Module = kind(kind.config_class(**self.config)).eval()
        with torch.no_grad():
            for parameter in model.parameters():  # also the zeros of biases and ones of norms
                parameter.add_(0.2 * torch.randn_like(parameter))
        return model

    @property
    def named(self) -> bool:
        """Whether the documentation names it as one that works."""
        return self.name in NAMED

    @property
    def encodes(self) -> bool:
        """Whether tokens are seen from both sides, so that no next token is foretold."""
        return "MaskedLM" in self.kind

    def places(self) -> dict[str, str]:
        """Site -> module, of the sites that there are."""
        sites = {s: getattr(self, s) for s in ("mlp", "mlp_out", "attention_out", "residual")}
        return {site: place for site, place in sites.items() if place}


def _like_llama(name: str, kind: str, config: dict[str, Any], **other: Any) -> Architecture:
    block = "model.layers.{}"
    places = {
        "mlp": f"{block}.mlp.down_proj",
        "mlp_out": f"{block}.mlp",
        "attention_out": f"{block}.self_attn",
        "residual": block,
    }
    return Architecture(name, kind, config, **{**places, **other})


def _like_gpt2(name: str, kind: str, config: dict[str, Any], **other: Any) -> Architecture:
    block = "transformer.h.{}"
    places = {
        "mlp": f"{block}.mlp.c_proj",
        "mlp_out": f"{block}.mlp",
        "attention_out": f"{block}.attn",
        "residual": block,
    }
    return Architecture(name, kind, config, **{**places, **other})


def _like_bert(name: str, kind: str, prefix: str, **other: Any) -> Architecture:
    block = prefix + ".encoder.layer.{}"
    return Architecture(
        name,
        kind,
        {**COMMON, "intermediate_size": 24, **other},
        mlp=f"{block}.output.dense",
        mlp_out=f"{block}.output.dense",
        attention_out=f"{block}.attention.output.dense",
        residual=block,
        adds=False,
    )


_GPT2 = {k: COMMON[k] for k in ("vocab_size", "pad_token_id", "bos_token_id", "eos_token_id")} | {
    "n_embd": HIDDEN,
    "n_layer": N_LAYERS,
    "n_head": 2,
    "n_positions": 64,
    "n_inner": 24,
}

ARCHITECTURES = [
    _like_llama("llama", "LlamaForCausalLM", GATED),
    _like_llama("mistral", "MistralForCausalLM", GATED | HEADS),
    _like_llama("qwen2", "Qwen2ForCausalLM", GATED),
    _like_llama("qwen3", "Qwen3ForCausalLM", GATED | HEADS),
    _like_llama("gemma2", "Gemma2ForCausalLM", GATED | HEADS, adds=False),
    _like_llama("gemma3", "Gemma3ForCausalLM", GATED | HEADS, adds=False),
    _like_llama("phi", "PhiForCausalLM", GATED, mlp="model.layers.{}.mlp.fc2"),
    _like_llama("phi3", "Phi3ForCausalLM", GATED),
    _like_llama("stablelm", "StableLmForCausalLM", GATED),
    _like_llama("cohere", "CohereForCausalLM", GATED),
    _like_llama("olmo2", "Olmo2ForCausalLM", GATED, adds=False),
    _like_llama("square", "LlamaForCausalLM", GATED | {"intermediate_size": HIDDEN}, width=HIDDEN),
    _like_gpt2("gpt2", "GPT2LMHeadModel", _GPT2),
    _like_gpt2("gpt_bigcode", "GPTBigCodeForCausalLM", _GPT2),
    _like_gpt2("gptj", "GPTJForCausalLM", _GPT2 | {"rotary_dim": 4}, mlp="transformer.h.{}.mlp.fc_out"),
    _like_gpt2(
        "gpt_neo",
        "GPTNeoForCausalLM",
        COMMON
        | {"intermediate_size": 24, "num_layers": N_LAYERS, "attention_types": [[["global"], N_LAYERS]]},
        attention_out="transformer.h.{}.attn.attention.out_proj",
    ),
    Architecture(
        "gpt_neox",
        "GPTNeoXForCausalLM",
        COMMON | {"intermediate_size": 24},
        mlp="gpt_neox.layers.{}.mlp.dense_4h_to_h",
        mlp_out="gpt_neox.layers.{}.mlp",
        attention_out="gpt_neox.layers.{}.attention",
        residual="gpt_neox.layers.{}",
    ),
    Architecture(
        "opt",
        "OPTForCausalLM",
        COMMON | {"ffn_dim": 24, "word_embed_proj_dim": HIDDEN},
        mlp="model.decoder.layers.{}.fc2",
        mlp_out="model.decoder.layers.{}.fc2",
        attention_out="model.decoder.layers.{}.self_attn",
        residual="model.decoder.layers.{}",
    ),
    _like_gpt2(
        "bloom",
        "BloomForCausalLM",
        {k: COMMON[k] for k in ("vocab_size", "hidden_size", "pad_token_id", "bos_token_id", "eos_token_id")}
        | {"n_layer": N_LAYERS, "n_head": 2},
        mlp="transformer.h.{}.mlp.dense_4h_to_h",
        mlp_out="transformer.h.{}.mlp.dense_4h_to_h",
        attention_out="transformer.h.{}.self_attention.dense",  # the module around it adds the residual
        width=4 * HIDDEN,
    ),
    _like_gpt2(
        "falcon",
        "FalconForCausalLM",
        COMMON | {"ffn_hidden_size": 24},
        mlp="transformer.h.{}.mlp.dense_4h_to_h",
        attention_out="transformer.h.{}.self_attention",
    ),
    Architecture(
        "mpt",
        "MptForCausalLM",
        {"vocab_size": VOCABULARY, "d_model": HIDDEN, "n_layers": N_LAYERS, "n_heads": 2, "max_seq_len": 64},
        mlp="transformer.blocks.{}.ffn.down_proj",
        mlp_out="transformer.blocks.{}.ffn.down_proj",
        attention_out="transformer.blocks.{}.attn",
        residual="transformer.blocks.{}",
        width=4 * HIDDEN,
    ),
    _like_bert("bert", "BertForMaskedLM", "bert"),
    _like_bert("roberta", "RobertaForMaskedLM", "roberta", pad_token_id=1),
    _like_bert("electra", "ElectraForMaskedLM", "electra", embedding_size=8),
    Architecture(
        "distilbert",
        "DistilBertForMaskedLM",
        COMMON | {"hidden_dim": 24},
        mlp="distilbert.transformer.layer.{}.ffn.lin2",
        mlp_out="distilbert.transformer.layer.{}.ffn",
        attention_out="distilbert.transformer.layer.{}.attention",
        residual="distilbert.transformer.layer.{}",
        adds=False,
    ),
    _like_llama(
        "modernbert",
        "ModernBertForMaskedLM",
        COMMON | {"intermediate_size": 24, "cls_token_id": 1, "sep_token_id": 2},
        mlp="model.layers.{}.mlp.Wo",
        attention_out="model.layers.{}.attn",
    ),
]

_EXPERTS = GATED | HEADS | {"num_experts": 4, "num_local_experts": 4, "num_experts_per_tok": 2}

ROUTED = [
    _like_llama("mixtral", "MixtralForCausalLM", _EXPERTS, mlp=None),
    _like_llama(
        "qwen2_moe",
        "Qwen2MoeForCausalLM",
        _EXPERTS
        | {"moe_intermediate_size": 12, "shared_expert_intermediate_size": 12, "mlp_only_layers": [1]},
        mlp=None,
    ),
    _like_llama("qwen3_moe", "Qwen3MoeForCausalLM", _EXPERTS | {"moe_intermediate_size": 12}, mlp=None),
    _like_llama(
        "gpt_oss",
        "GptOssForCausalLM",
        _EXPERTS | {"rope_parameters": {"rope_type": "default", "rope_theta": 10000.0}},
        mlp=None,
    ),
    _like_llama(
        "deepseek_v3",
        "DeepseekV3ForCausalLM",
        _EXPERTS
        | {"moe_intermediate_size": 12, "n_routed_experts": 4, "n_group": 1, "topk_group": 1}
        | {
            "first_k_dense_replace": 1,
            "head_dim": 4,
            "q_lora_rank": 8,
            "kv_lora_rank": 8,
            "num_key_value_heads": 2,
        }
        | {"qk_rope_head_dim": 4, "qk_nope_head_dim": 4, "v_head_dim": 8},
        mlp=None,
    ),
]


def tokenizer() -> PreTrainedTokenizerFast:
    """Words ``w0`` to ``w39``, whose numbers are the ids."""
    words = Tokenizer(WordLevel({f"w{i}": i for i in range(VOCABULARY)}, unk_token="w0"))
    words.pre_tokenizer = WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=words, pad_token="w0")


def text_of(ids: list[int]) -> str:
    """The text whose tokens are `ids`."""
    return " ".join(f"w{i}" for i in ids)


def observe(model: nn.Module, run: Callable[[], Any], places: dict[str, str]) -> dict[str, torch.Tensor]:
    """Run a model with a torch hook at each place: site -> (layer, row, token, neuron)."""
    modules, seen, handles = dict(model.named_modules()), {}, []
    for site, place in places.items():
        for layer in range(N_LAYERS):

            def look(module: nn.Module, args: Any, output: Any, key: Any = (site, layer)) -> None:
                first = output[0] if isinstance(output, tuple) else output
                seen[key] = (args[0] if key[0] == "mlp" else first).detach().clone()

            handles.append(modules[place.format(layer)].register_forward_hook(look))
    with torch.no_grad():
        run()
    for handle in handles:
        handle.remove()
    return {site: torch.stack([seen[site, layer] for layer in range(N_LAYERS)]) for site in places}
