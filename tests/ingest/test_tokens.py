"""Batches and log probabilities."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from actome.ingest.tokens import batches, next_token_logprob


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
