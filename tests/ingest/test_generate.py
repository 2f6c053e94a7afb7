"""Generated tokens: against a plain loop without a cache, whatever the batch; and how they are drawn."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from transformers import PreTrainedTokenizerFast

import actome
from actome import Paradigm
from actome.ingest.capture import Collected
from actome.ingest.forward import Generation, Sampling, _choose, _left_padded, end_tokens
from actome.ingest.models import LoadedModel, load_model
from actome.store.errors import InputError

from .architectures import ARCHITECTURES, N_LAYERS, ROUTED, VOCABULARY, observe, text_of, tokenizer

PROMPTS = [[3, 9, 4, 20, 31, 11, 6], [5, 6], [8, 30, 17, 22, 12, 7, 33, 10, 26], [14]]
N_NEW = 7
WINDOWS = {
    "mistral": {"sliding_window": 4},
    "qwen2": {"use_sliding_window": True, "sliding_window": 4, "max_window_layers": 1},
    "gemma2": {"sliding_window": 4},
    "gemma3": {"sliding_window": 4},
    "phi3": {"sliding_window": 4},
}
CAUSAL = {a.name: a for a in (*ARCHITECTURES, *ROUTED) if not a.encodes}
CAUSAL["falcon_alibi"] = replace(CAUSAL["falcon"], config=CAUSAL["falcon"].config | {"alibi": True})


def built(name):
    architecture = CAUSAL[name]
    architecture = replace(architecture, config=architecture.config | WINDOWS.get(name, {}))
    return architecture.build(), architecture.places()


def paradigm_of(prompts):
    return Paradigm([{"text": text_of(ids), "condition": "ab"[i % 2]} for i, ids in enumerate(prompts)])


def plain_loop(module, ids, n_new, ends=()):
    """Greedy tokens and their log probabilities, by a whole forward pass for each token."""
    ids, scores = list(ids), []
    for _ in range(n_new):
        with torch.no_grad():
            logits = module(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1].float()
        ids.append(int(logits.argmax()))
        scores.append(float(torch.log_softmax(logits, dim=-1)[ids[-1]]))
        if ids[-1] in ends:
            break
    return ids, scores


@pytest.mark.parametrize("name", CAUSAL)
def test_record__generated_tokens_are_those_of_a_plain_loop_without_a_cache(name, tmp_path):
    module, places = built(name)
    ds = actome.record(
        (module, tokenizer()), paradigm_of(PROMPTS), tmp_path / "g.zarr", sites=tuple(places),
        tokens="generated", max_new_tokens=N_NEW, dtype="float32", progress=False,
    )  # fmt: skip
    ends = end_tokens(load_model((module, tokenizer())))
    sites = {site: actome.open(tmp_path / "g.zarr", site=site).activation.to_numpy() for site in places}
    for i, prompt in enumerate(PROMPTS):
        ids, scores = plain_loop(module, prompt, N_NEW, ends)
        new, one = ids[len(prompt) :], ds.isel(prompt=i)
        assert int(one.n_tokens) == len(new)
        assert one.token_id.values.tolist() == new + [-1] * (ds.sizes["token"] - len(new))
        assert one.position.values[: len(new)].tolist() == list(range(len(prompt), len(ids)))
        np.testing.assert_allclose(one.logprob[: len(new)], scores, rtol=1e-5, atol=1e-5)
        seen = observe(
            module, lambda ids=ids: module(input_ids=torch.tensor([ids]), use_cache=False), places
        )
        for site, values in sites.items():
            expected = seen[site].reshape(N_LAYERS, len(ids), -1)[:, len(prompt) :].transpose(0, 1).numpy()
            kept = values[i]
            np.testing.assert_allclose(kept[: len(new)], expected, rtol=1e-5, atol=1e-5, err_msg=site)
            assert np.isnan(kept[len(new) :]).all()
