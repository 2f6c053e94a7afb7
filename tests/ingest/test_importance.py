"""Importance against plain autograd; resumed, it comes to the same numbers."""

import json

import numpy as np
import pytest
import torch
import xarray as xr

from actome.ingest import importance as module_of_importance
from actome.ingest.identity import weights_digest
from actome.ingest.importance import importance
from actome.ingest.models import load_model
from actome.ingest.tokens import tokenize
from actome.store.errors import InputError
from actome.store.integrity import verify
from actome.store.paradigm import Paradigm

from .architectures import ARCHITECTURES, tokenizer

BY_NAME = {a.name: a for a in ARCHITECTURES}
TEXTS = Paradigm(
    [{"text": t, "condition": c} for c, t in
     (("a", "w3 w4 w5 w6 w7"), ("a", "w3 w9"), ("b", "w8 w8 w11 w12"), ("a", "w20 w21 w22"), ("b", "w30"))]
)  # fmt: skip


def by_autograd(model, paradigm, condition, *, per_sample=False):
    """As anyone would write it: one text at a time, the library's own loss, torch.autograd.grad."""
    loaded = load_model(model)
    parameters = dict(loaded.module.named_parameters())
    total = {name: torch.zeros_like(p) for name, p in parameters.items()}
    n_tokens = 0
    for text in paradigm.table.text[paradigm.table.condition == condition]:
        ids = torch.tensor([loaded.tokenizer(text)["input_ids"]])
        if ids.shape[1] < 2:
            continue
        n = ids.shape[1] - 1
        loss = loaded.module(ids, labels=ids).loss * n
        gradients = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True)
        for (name, p), g in zip(parameters.items(), gradients, strict=True):
            if g is not None:
                total[name] += (g * p.detach()).abs() if per_sample else g * p.detach()
        n_tokens += n
    return {name: (t.abs() / n_tokens).numpy() for name, t in total.items()}


def assert_equal(tree, model, paradigm, **options):
    for k, condition in enumerate(tree["condition"].to_numpy()):
        expected = by_autograd(model, paradigm, condition, **options)
        largest = max(np.abs(values).max() for values in expected.values())
        for name, node in tree.children.items():
            values = node["importance"][k].to_numpy().reshape(expected[name].shape)
            scale = np.abs(expected[name]).max()
            assert scale > 0 or "k_proj" in name or "bias" in name
            # the bias of a key has no effect: what is there is rounding, beside the rest of the model
            np.testing.assert_allclose(values, expected[name], atol=max(1e-5 * scale, 1e-7 * largest))


@pytest.mark.parametrize(("name", "per_sample"), [("llama", False), ("gpt2", True)])
def test_importance__is_that_of_plain_autograd(name, per_sample, tmp_path):
    model = (BY_NAME[name].build(), tokenizer())
    tree = importance(model, TEXTS, tmp_path / "i.zarr", parameters="all", per_sample=per_sample)
    assert len(tree.children) == len(list(model[0].parameters()))
    assert_equal(tree, model, TEXTS, per_sample=per_sample)
    assert tree["n_tokens"].to_numpy().tolist() == [7, 3] and tree["n_prompts"].to_numpy().tolist() == [3, 1]
    assert verify(str(tmp_path / "i.zarr")) == []


@pytest.mark.slow
@pytest.mark.parametrize("name", [a.name for a in ARCHITECTURES if not a.encodes])
@pytest.mark.parametrize("per_sample", [False, True])
def test_importance__so_it_is_in_all_architectures(name, per_sample, tmp_path):
    model = (BY_NAME[name].build(), tokenizer())
    tree = importance(model, TEXTS, tmp_path / "i.zarr", parameters="all", per_sample=per_sample)
    assert_equal(tree, model, TEXTS, per_sample=per_sample)


def test_importance__does_not_depend_on_the_batches_and_leaves_the_model_as_it_was(model, phantom, tmp_path):
    module = phantom.module
    before, grads = weights_digest(module), [p.requires_grad for p in module.parameters()]
    one = next(module.parameters())
    one.grad = torch.ones_like(one)
    kept = one.grad
    small, large = (
        importance(model, phantom.paradigm, tmp_path / f"{n}.zarr", batch_tokens=n) for n in (40, 10_000)
    )
    for name, node in small.children.items():
        expected = node["importance"].to_numpy()
        found = large[name]["importance"].to_numpy()
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-6 * expected.max())
    assert weights_digest(module) == before and [p.requires_grad for p in module.parameters()] == grads
    assert one.grad is kept and bool((kept == 1).all())
    one.grad = None


def test_importance__planted_neurons_matter_to_their_condition_alone(model, phantom, tmp_path):
    tree = importance(model, phantom.paradigm, tmp_path / "i.zarr")
    for layer in range(3):
        gate = tree[f"model.layers.{layer}.mlp.gate_proj.weight"]["importance"].sum("column").to_numpy()
        for own, other in ((0, 1), (1, 0)):
            planted = phantom.networks[own, layer]
            if planted.any():
                assert gate[own, planted].min() > 100 * gate[other, planted].max()


def test_importance__tied_weights_have_the_gradient_of_both_uses(tmp_path):
    model = (BY_NAME["gemma2"].build(), tokenizer())
    assert model[0].lm_head.weight is model[0].model.embed_tokens.weight
    tree = importance(model, TEXTS, tmp_path / "i.zarr", parameters="all")
    assert "lm_head.weight" not in tree.children
    assert_equal(tree, model, TEXTS)


class Stop(Exception):
    pass


def test_importance__an_interrupted_run_goes_on_and_comes_to_the_same_bytes(
    model, phantom, tmp_path, monkeypatch
):
    def run(name):
        importance(model, phantom.paradigm, tmp_path / name)

    run("whole.zarr")
    real, calls = module_of_importance.summed_loss, []

    def failing(*args):
        calls.append(args)
        if len(calls) == 2:  # the second condition
            raise Stop
        return real(*args)

    monkeypatch.setattr(module_of_importance, "summed_loss", failing)
    with pytest.raises(Stop):
        run("cut.zarr")
    assert verify(str(tmp_path / "cut.zarr")) == ["unfinished: no manifest; only complete units are checked"]
    run("cut.zarr")
    assert len(calls) == 3  # the first condition was not run again
    files = [
        json.loads((tmp_path / n / "actome/manifest.json").read_text())["files"]
        for n in ("whole.zarr", "cut.zarr")
    ]
    assert {k: v for k, v in files[0].items() if k != "zarr.json"} == {
        k: v for k, v in files[1].items() if k != "zarr.json"
    }
    monkeypatch.setattr(module_of_importance, "summed_loss", None)
    run("cut.zarr")  # complete: only opened


def test_importance__by_another_label_and_other_inputs(model, phantom, tmp_path):
    tree = importance(model, phantom.paradigm, tmp_path / "i.zarr", by="run")
    assert tree["condition"].to_numpy().tolist() == ["0", "1", "2"] and tree.attrs["by"] == "run"
    assert tree.attrs["selected_on"] == phantom.paradigm.table["prompt"].tolist()
    assert isinstance(tree, xr.DataTree)
    with pytest.raises(InputError, match=r"made differently.*by: 'run' there, 'condition' now"):
        importance(model, phantom.paradigm, tmp_path / "i.zarr")


def test_importance__bad_input_is_refused_before_anything_is_written(model, phantom, tmp_path):
    out = tmp_path / "i.zarr"
    encoder = (BY_NAME["bert"].build(), tokenizer())
    short = Paradigm([{"text": "a1", "condition": "x"}, {"text": "a1 a2", "condition": "y"}])
    for given, texts, options, message in (
        (model, phantom.paradigm, {"by": "colour"}, "no column 'colour'"),
        (model, phantom.paradigm, {"parameters": "some"}, "'blocks' or 'all'"),
        (model, phantom.paradigm, {"batch_tokens": 0}, "batch_tokens must be at least 1"),
        (encoder, TEXTS, {}, "no probability of a next token"),
        (model, short, {}, r"no prompt of \['x'\] has a second token"),
    ):
        with pytest.raises(InputError, match=message):
            importance(given, texts, out, **options)
    assert not out.exists()


def test_importance__sums_in_float32_what_a_bfloat16_model_gives(tmp_path):
    module = BY_NAME["llama"].build().to(torch.bfloat16)
    many = Paradigm([{"text": "w3 w4 w5 w6", "condition": "a"}] * 40)
    tree = importance((module, tokenizer()), many, tmp_path / "i.zarr", batch_tokens=4)
    once = importance((module, tokenizer()), many.select(prompt="a-0000"), tmp_path / "o.zarr")
    for name, node in tree.children.items():  # forty times the same gradient: their mean is it
        np.testing.assert_allclose(node["importance"], once[name]["importance"], rtol=1e-5, atol=1e-9)


def test_importance__a_loss_that_is_not_finite_gives_a_warning(tmp_path):
    module = BY_NAME["llama"].build()
    with torch.no_grad():
        module.model.norm.weight[0] = torch.nan
    with pytest.warns(UserWarning, match="is not finite"):
        importance((module, tokenizer()), TEXTS, tmp_path / "i.zarr")


def test_tokens__of_the_reference_are_those_of_the_package():
    loaded = load_model((BY_NAME["llama"].build(), tokenizer()))
    own = tokenize(loaded, TEXTS.table).token_id[0]
    assert own[own != -1].tolist() == loaded.tokenizer(TEXTS.table.text[0])["input_ids"]
