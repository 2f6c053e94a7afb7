"""The knowledge probe against the probabilities of whole texts."""

import numpy as np
import pytest
import torch

from actome.ingest.regions.probe import Probe
from actome.store.errors import InputError
from actome.store.paradigm import Paradigm


def rows(*answers):
    return Paradigm([{"text": t, "item": i, "correct": c} for i, t, c in answers])


def test_probe__takes_the_answer_with_the_likeliest_text(loaded, phantom, rng):
    texts = phantom.paradigm.table.text.tolist()
    answers = []
    for i in range(6):
        words = texts[i].split()[:4]
        answers += [
            (str(i), " ".join([*words, *rng.choice(texts[i].split(), 2)]), c) for c in (True, False, False)
        ]
    probe = Probe(loaded, rows(*answers))
    total = []
    for _, text, _ in answers:
        ids = torch.tensor([loaded.tokenizer(text)["input_ids"]])
        with torch.no_grad():
            logp = torch.log_softmax(phantom.module(ids).logits[0, :-1], dim=-1)
        total.append(float(logp.gather(1, ids[0, 1:, None]).sum()))
    expected = np.reshape(total, (6, 3)).argmax(axis=1) == 0
    assert probe.items == [str(i) for i in range(6)]
    np.testing.assert_array_equal(probe.ask(), expected)


def test_probe__an_answer_as_likely_as_another_is_not_right(loaded):
    probe = Probe(loaded, rows(("x", "a1 a2 a3", True), ("x", "a1 a2 a3", False), ("x", "a1 b2 b3", False)))
    assert not probe.ask().any()


def test_probe__a_model_without_probabilities_is_never_right(loaded, phantom):
    probe = Probe(loaded, rows(("x", "a1 a2 a3", True), ("x", "a1 a2", False)))
    weight = phantom.module.lm_head.weight
    kept = weight.detach().clone()
    with torch.no_grad():
        weight[0, 0] = torch.nan
    assert not probe.ask().any()
    with torch.no_grad():
        weight.copy_(kept)


def test_probe__questions_need_answers_of_which_one_is_right(loaded):
    for given, message in (
        (Paradigm([{"text": "a1 a2"}]), "item and correct"),
        (rows(("x", "a1 a2", True)), "1 answers"),
        (rows(("x", "a1 a2", True), ("x", "a1 a3", True)), "2 of them right"),
    ):
        with pytest.raises(InputError, match=message):
            Probe(loaded, given)
