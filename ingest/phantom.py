"""A small transformer whose truth is known: each condition lives in planted neurons and in no other.

The model predicts the next word of two toy languages. The words of a language follow each other in
a fixed cycle, and the neurons that know the cycle of one language are silent in the other; so the
lesion of a language's network must cost that language its predictions and leave the other's as
they are.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from ..store.paradigm import Paradigm

_GAIN = 0.1  # an open planted neuron then writes five times what the embedding holds
_NOISE = 0.02


@dataclass(frozen=True)
class PhantomModel:
    """The model, its tokenizer, texts in its languages, and which neurons speak them.

    Attributes
    ----------
    module, tokenizer
        Give both, as (module, tokenizer), wherever a model is asked for.
    paradigm
        Prompts of the conditions "a" and "b", in runs.
    networks
        (condition, layer, neuron) bool: the planted neurons.
    """

    module: LlamaForCausalLM
    tokenizer: PreTrainedTokenizerFast
    paradigm: Paradigm
    networks: npt.NDArray[np.bool_]


def phantom_model(
    *,
    n_words: int = 12,
    n_layers: int = 3,
    n_neurons: int = 64,
    n_prompts: int = 12,
    n_runs: int = 3,
    seed: int = 0,
) -> PhantomModel:
    """Build the model by setting its weights; nothing is trained.

    The residual stream has one direction for each word seen and one for each word to come. A
    planted neuron opens for one word, in one layer drawn at random, and writes its successor; the
    other neurons have small random weights.

    Parameters
    ----------
    n_words
        Words of each language.
    n_layers, n_neurons
        Blocks, and neurons in each.
    n_prompts, n_runs
        Prompts per condition, and the runs they are spread over.
    seed
        Draws the cycles, the places and the prompts.
    """
    rng = np.random.default_rng(seed)
    vocabulary = ["<pad>", *(f"{c}{i}" for c in "ab" for i in range(n_words))]
    successor, networks = _cycles(rng, n_words), np.zeros((2, n_layers, n_neurons), dtype=bool)
    size = len(vocabulary)
    torch_rng = torch.Generator().manual_seed(seed)
    module = LlamaForCausalLM(_config(size, n_layers, n_neurons)).eval()
    with torch.no_grad():
        for name, weight in module.named_parameters():
            if "norm" not in name:
                weight.copy_(_NOISE * torch.randn(weight.shape, generator=torch_rng))
            if "self_attn.o_proj" in name:
                weight.zero_()  # the next word depends on the last one alone
        module.model.embed_tokens.weight[:, :size] = torch.eye(size)
        module.lm_head.weight[:, size:] = torch.eye(size)
        for word in range(1, size):
            layer = int(rng.integers(n_layers))
            free = np.flatnonzero(~networks[:, layer].any(axis=0))
            neuron = int(rng.choice(free))
            networks[(word - 1) // n_words, layer, neuron] = True
            _plant(module.model.layers[layer].mlp, neuron, word, size + int(successor[word]))
    paradigm = _texts(rng, vocabulary, successor, n_words, n_prompts, n_runs)
    return PhantomModel(module, _tokenizer(vocabulary), paradigm, networks)


def _config(size: int, n_layers: int, n_neurons: int) -> LlamaConfig:
    return LlamaConfig(
        vocab_size=size,
        hidden_size=2 * size,
        intermediate_size=n_neurons,
        num_hidden_layers=n_layers,
        num_attention_heads=1,
        max_position_embeddings=64,
        tie_word_embeddings=False,
        pad_token_id=0,
        bos_token_id=None,
        eos_token_id=None,
    )


def _plant(mlp: Any, neuron: int, word: int, successor: int) -> None:
    """Make a neuron open for one word alone, and write the direction of its successor."""
    for projection in (mlp.gate_proj, mlp.up_proj):
        projection.weight[neuron] = 0.0
    mlp.gate_proj.weight[neuron, word] = 1.0
    mlp.up_proj.weight[neuron, word] = 1.0
    mlp.down_proj.weight[:, neuron] = 0.0
    mlp.down_proj.weight[successor, neuron] = _GAIN


def _cycles(rng: np.random.Generator, n_words: int) -> npt.NDArray[np.int64]:
    """Successor of each word: one cycle a language, so that no word leads out of it."""
    successor = np.zeros(1 + 2 * n_words, dtype=np.int64)
    for language in range(2):
        order = 1 + language * n_words + rng.permutation(n_words)
        successor[order] = np.roll(order, -1)
    return successor


def _texts(
    rng: np.random.Generator,
    vocabulary: list[str],
    successor: npt.NDArray[np.int64],
    n_words: int,
    n_prompts: int,
    n_runs: int,
) -> Paradigm:
    """Walk through a language's cycle, with a jump now and then; lengths differ."""
    rows = []
    for i in range(n_prompts):
        for language, condition in enumerate("ab"):
            word = 1 + language * n_words + int(rng.integers(n_words))
            words = []
            for _ in range(int(rng.integers(8, 20))):
                words.append(vocabulary[word])
                jump = rng.random() < 0.1
                word = 1 + language * n_words + int(rng.integers(n_words)) if jump else int(successor[word])
            rows.append({"text": " ".join(words), "condition": condition, "run": i % n_runs})
    return Paradigm(rows, name="phantom")


def _tokenizer(vocabulary: list[str]) -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(WordLevel({w: i for i, w in enumerate(vocabulary)}, unk_token="<pad>"))
    tokenizer.pre_tokenizer = WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>")
