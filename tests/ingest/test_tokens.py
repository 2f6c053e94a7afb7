"""Batches and log probabilities."""

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from actome.ingest.models import LoadedModel
from actome.ingest.phantom import phantom_model
from actome.ingest.tokens import batches, next_token_logprob, tokenize
from actome.store.errors import InputError


@given(st.lists(st.integers(1, 500), min_size=1, max_size=60), st.one_of(st.none(), st.integers(1, 9)))
def test_batches__take_every_prompt_once_and_bound_the_size(lengths, size):
    n_tokens = np.array(lengths)
    groups = batches(n_tokens, size)
    assert sorted(np.concatenate(groups).tolist()) == list(range(len(lengths)))
    assert max(map(len, groups)) <= (size or max(1, 4096 // max(lengths)))


def test_next_token_logprob__is_nan_on_the_first_token_and_on_padding():
    torch.manual_seed(0)
    logits = torch.randn(2, 4, 7)
    inputs = {
        "input_ids": torch.tensor([[1, 2, 3, 0], [4, 5, 6, 1]]),
        "attention_mask": torch.tensor([[1, 1, 1, 0], [1, 1, 1, 1]]),
    }
    out = next_token_logprob(logits, inputs)
    assert out.isnan().tolist() == [[True, False, False, True], [True, False, False, False]]
    expected = torch.distributions.Categorical(logits=logits[1, 2]).log_prob(torch.tensor(1))
    torch.testing.assert_close(out[1, 3], expected)


def test_tokenize__a_tokenizer_of_another_model_is_refused(phantom):
    larger = phantom_model(n_words=20).tokenizer
    mixed = LoadedModel(phantom.module, larger, "mixed", None)
    with pytest.raises(InputError, match=r"gives token 40, the model has 25; the two do not belong"):
        tokenize(mixed, pd.DataFrame({"prompt": ["x"], "text": ["a1 b19"]}))


def test_tokenize__a_prompt_without_a_token_is_named(phantom):
    table = pd.DataFrame({"prompt": ["x", "blank"], "text": ["a1", "  "]})
    with pytest.raises(InputError, match="1 prompts are without a token, the first is 'blank'"):
        tokenize(LoadedModel(phantom.module, phantom.tokenizer, "phantom", None), table)


def test_tokenize__one_token_emoji_and_right_to_left_text_keep_their_spans():
    alphabet = {c: i for i, c in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    raw = Tokenizer(models.BPE(vocab=alphabet, merges=[]))
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    texts = ["a", "is \N{SLIGHTLY SMILING FACE}!", "\N{HEBREW LETTER SHIN}\N{HEBREW LETTER LAMED}"]
    table = pd.DataFrame({"prompt": ["one", "emoji", "rtl"], "text": texts})
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw)
    wide = phantom_model(n_words=130, n_neurons=200).module
    tokens = tokenize(LoadedModel(wide, tokenizer, "bytes", None), table)
    assert tokens.n_tokens.tolist() == [1, 8, 4]
    for i, text in enumerate(texts):
        n = tokens.n_tokens[i]
        spans = list(zip(tokens.char_start[i, :n], tokens.char_end[i, :n], strict=True))
        assert "".join(dict.fromkeys(text[a:b] for a, b in spans)) == text
