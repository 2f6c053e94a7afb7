"""Passes that share lesions and leave blocks out, against one whole pass for each lesion."""

import numpy as np
import pytest
import scipy.special
import torch

from actome import lesion
from actome.ingest.forward import score_tokens
from actome.ingest.lesions.change import Change
from actome.ingest.lesions.draws import ByPrompt
from actome.ingest.models import load_model
from actome.ingest.scoring.grouping import Group
from actome.ingest.scoring.passes import PromptBatch, Subject
from actome.ingest.sites import find_taps

from ..architectures import ARCHITECTURES, HIDDEN, N_LAYERS, ROUTED, VOCABULARY, tokenizer

CAUSAL = [a for a in (*ARCHITECTURES, *ROUTED) if not a.encodes]
QUICK = ("llama", "falcon", "opt")  # a tensor, a tuple, prompts and tokens in one axis
SITES = ("mlp", "mlp_out", "attention_out", "residual")


def lesions(rng, width):
    """Nothing, each layer alone, the last two, all: (lesion, layer, neuron)."""
    layers = [[], *([i] for i in range(N_LAYERS)), [1, 2], [0, 1, 2]]
    masks = np.zeros((len(layers), N_LAYERS, width), dtype=bool)
    for mask, touched in zip(masks, layers, strict=True):
        mask[touched] = rng.random((len(touched), width)) < 0.3
        mask[touched, 0] = True
    return masks


def check(architecture, sites=SITES):
    model = load_model((architecture.build(), tokenizer()))
    rng = np.random.default_rng(0)
    token_id = rng.integers(3, VOCABULARY, (4, 9)).astype(np.int32)
    token_id[1, 6:] = token_id[3, 2:] = -1
    for site in [s for s in sites if getattr(architecture, s)]:
        taps = find_taps(model.module, site)
        subject = Subject(model, taps, Change("scale"), site)
        masks = lesions(rng, taps[0].width)
        amounts = np.linspace(-1, 2, len(masks)).tolist()
        naive = []
        for mask, amount in zip(masks, amounts, strict=True):
            with lesion(model, mask, site=site, kind="scale", amount=amount):
                naive.append(score_tokens(model, token_id))
        naive = np.stack(naive)
        assert len({n.tobytes() for n in naive}) == len(masks)  # every lesion does something of its own
        before = score_tokens(model, token_id)

        def batch(subject=subject):
            return PromptBatch(subject, token_id, ByPrompt(0, "abcd"))

        alone = [Group((i,), subject.n_skipped(mask)) for i, mask in enumerate(masks)]
        assert [g.n_skipped for g in alone] == [3, *(i + (site == "residual") for i in (0, 1, 2, 1, 0))]
        resumed = batch().score(masks, amounts, groups=alone)
        np.testing.assert_array_equal(resumed["logprob"], naive, err_msg=f"{site}, prefix")
        together = batch().score(masks, amounts, groups=[Group(tuple(range(len(masks))), 0)])
        np.testing.assert_allclose(together["logprob"], naive, rtol=0, atol=1e-5, err_msg=f"{site}, batched")
        chosen = batch().score(masks, amounts)
        np.testing.assert_allclose(chosen["logprob"], naive, rtol=0, atol=1e-5, err_msg=f"{site}, both")
        np.testing.assert_array_equal(score_tokens(model, token_id), before)
        assert all("forward" not in block.__dict__ for block in subject.blocks)


@pytest.mark.parametrize("architecture", [a for a in CAUSAL if a.name in QUICK], ids=lambda a: a.name)
def test_score__resumed_passes_are_bit_equal_to_whole_ones_and_batched_ones_close(architecture):
    check(architecture)


@pytest.mark.slow
def test_score__resumed_passes_are_bit_equal_in_every_architecture():
    for architecture in CAUSAL:
        check(architecture)


def test_score__hits_are_those_of_the_logits():
    model = load_model((CAUSAL[0].build(), tokenizer()))
    token_id = np.random.default_rng(0).integers(3, VOCABULARY, (40, 9)).astype(np.int32)
    token_id[1, 6:] = -1
    subject = Subject(model, find_taps(model.module, "mlp"), Change("zero"), "mlp")
    masks = np.zeros((2, N_LAYERS, 24), dtype=bool)
    masks[1] = True
    batch = PromptBatch(subject, token_id, ByPrompt(0, [""] * 40))
    hit = batch.score(masks, [None] * 2, also=["hit"])["hit"]
    with torch.no_grad():
        logits = model.module(torch.from_numpy(token_id).long().clamp(min=0)).logits
    expected = logits[:, :-1].argmax(-1).numpy() == token_id[:, 1:]
    real = token_id[:, 1:] != -1
    assert real.sum() == 8 * 40 - 3 and 0 < expected[real].sum() < 100
    np.testing.assert_array_equal(hit[0, :, 1:][real], expected[real])
    assert (hit[:, :, 1:][:, ~real] == -1).all() and (hit[:, :, 0] == -1).all()
    assert (hit[0] != hit[1]).any()


def test_score__a_forward_that_another_library_put_on_a_block_is_put_back():
    model = load_model((CAUSAL[0].build(), tokenizer()))
    subject = Subject(model, find_taps(model.module, "mlp"), Change("zero"), "mlp")
    calls, block = [], subject.blocks[0]
    plain = block.forward

    def wrapped(*args, **kwargs):
        calls.append(1)
        return plain(*args, **kwargs)

    block.forward = wrapped
    masks = np.zeros((3, N_LAYERS, 24), dtype=bool)
    masks[:, 2, :5] = True
    token_id = np.arange(3, 11, dtype=np.int32)[None]
    PromptBatch(subject, token_id, ByPrompt(0, ["a"])).score(masks, [None] * 3)
    assert block.__dict__["forward"] is wrapped and len(calls) == 1
    assert HIDDEN == model.module.config.hidden_size


def test_score__kl_is_that_of_the_two_distributions():
    model = load_model((CAUSAL[0].build(), tokenizer()))
    token_id = np.random.default_rng(0).integers(3, VOCABULARY, (3, 9)).astype(np.int32)
    token_id[1, 6:] = -1
    subject = Subject(model, find_taps(model.module, "mlp"), Change("scale"), "mlp")
    masks = lesions(np.random.default_rng(1), 24)
    batch = PromptBatch(subject, token_id, ByPrompt(0, "abc"))
    kl = batch.score(masks, [3.0] * len(masks), also=["kl"])["kl"]
    ids = torch.from_numpy(token_id).long().clamp(min=0)
    with torch.no_grad():
        whole = model.module(ids).logits[:, :-1].log_softmax(-1)
    real = token_id[:, 1:] != -1
    for mask, found in zip(masks, kl, strict=True):
        with lesion(model, mask, kind="scale", amount=3.0), torch.no_grad():
            other = model.module(ids).logits[:, :-1].log_softmax(-1)
        expected = scipy.special.rel_entr(whole.exp().numpy(), other.exp().numpy()).sum(-1)
        np.testing.assert_allclose(found[:, 1:][real], expected[real], rtol=1e-3, atol=1e-5)
        assert np.isnan(found[:, 0]).all() and np.isnan(found[:, 1:][~real]).all()
    assert (kl[0, :, 1:][real] == 0).all() and np.nanmax(kl[1:]) > 0.1
