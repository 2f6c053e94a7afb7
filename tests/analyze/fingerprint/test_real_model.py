"""Fingerprints of the model that ships: against copies that hide it, and models of random weights."""

import copy

import numpy as np
import pytest
import torch

from actome.analyze.fingerprint import fingerprint, signature
from actome.ingest.models import load_model
from actome.ingest.record import record
from actome.store.paradigm import Paradigm

pytestmark = pytest.mark.slow

N_COMPONENTS, N_RANDOM = 16, 20


@pytest.fixture(scope="module")
def demo():
    torch.set_num_threads(1)
    return load_model("demo")


@pytest.fixture(scope="module")
def signed(demo, tmp_path_factory):
    """Makes the signature of a module that was shown six texts in each of ten languages."""
    shown = Paradigm.read("languages")
    table = shown.table[shown.table["condition"] != "random"]
    texts = shown.select(prompt=table.groupby("condition").head(6)["prompt"].tolist())
    folder = tmp_path_factory.mktemp("fingerprint")

    def make(module, name):
        ds = record((module, demo.tokenizer), texts, folder / f"{name}.zarr", index=False, logprob=False)
        return signature(ds, n_components=N_COMPONENTS)

    return make


@pytest.fixture(scope="module")
def own(demo, signed):
    return signed(demo.module, "own")


@pytest.fixture(scope="module")
def unrelated(demo, signed):
    made = []
    for seed in range(N_RANDOM):
        torch.manual_seed(seed)
        made.append(signed(type(demo.module)(demo.module.config).eval(), f"random{seed}"))
    return made


def rearranged(module):
    """The same function: neurons in other places, what they are multiplied by taken back behind them."""
    module, rng = copy.deepcopy(module), np.random.default_rng(0)
    with torch.no_grad():
        for layer in module.model.layers:
            mlp = layer.mlp
            order = torch.from_numpy(rng.permutation(len(mlp.up_proj.weight)))
            scale = torch.from_numpy(2.0 ** rng.integers(-2, 3, len(order))).float()
            mlp.gate_proj.weight.copy_(mlp.gate_proj.weight[order])
            mlp.up_proj.weight.copy_(mlp.up_proj.weight[order] * scale[:, None])
            mlp.down_proj.weight.copy_(mlp.down_proj.weight[:, order] / scale)
    return module


def changed(module, amount):
    """Noise on every weight, in shares of its matrix's standard deviation: a stand-in for a fine-tune."""
    module = copy.deepcopy(module)
    torch.manual_seed(1)
    with torch.no_grad():
        for weight in module.parameters():
            if weight.ndim == 2:
                weight += amount * weight.std() * torch.randn(weight.shape)
    return module


def test_fingerprint__knows_the_model_whose_neurons_were_rearranged(demo, own, signed, unrelated):
    copied = signed(rearranged(demo.module), "rearranged")
    result = fingerprint(own, copied, unrelated=unrelated[:19])
    assert result.attrs["verdict"] == "related" and float(result["p_value"]) == 0.05
    assert float(result["score"]) > 0.98 and float(result["share"]) == 1.0
    assert float(result["critical"]) < 0.15


@pytest.mark.parametrize(("amount", "at_least"), [(0.1, 0.6), (0.3, 0.3)])
def test_fingerprint__knows_the_model_whose_weights_were_changed(
    amount, at_least, demo, own, signed, unrelated
):
    result = fingerprint(
        own, signed(changed(demo.module, amount), f"noise{amount}"), unrelated=unrelated[:19]
    )
    assert result.attrs["verdict"] == "related" and float(result["score"]) > at_least


def test_fingerprint__of_random_weights_is_not_shown(own, unrelated):
    verdicts = [
        fingerprint(own, u, unrelated=[x for x in unrelated if x is not u]).attrs["verdict"]
        for u in unrelated
    ]
    assert verdicts.count("related") <= 1  # the most alike of twenty, at a false positive rate of 0.05
    share = float(fingerprint(own, unrelated[0], unrelated=unrelated[1:])["share"])
    assert share <= 0.1


def test_fingerprint__against_shuffled_texts_tells_a_copy_too(demo, own, signed):
    result = fingerprint(own, signed(rearranged(demo.module), "copy"), n_permutations=99, within="condition")
    assert result.attrs["verdict"] == "alike" and float(result["p_value"]) == pytest.approx(0.01)
