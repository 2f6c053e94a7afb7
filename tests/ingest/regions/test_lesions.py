"""Region lesions against weights changed by hand; every bit is put back."""

import numpy as np
import pytest
import torch

from actome.ingest.identity import weights_digest
from actome.ingest.regions.lesions import pick_region, region_lesion
from actome.store.errors import InputError, InputTypeError

from ..architectures import ARCHITECTURES, tokenizer

BY_NAME = {a.name: a for a in ARCHITECTURES}
NAME = "model.layers.1.mlp.up_proj.weight"


@pytest.fixture
def mask(rng):
    return rng.random((64, 50)) < 0.1


def weight(phantom):
    return phantom.module.get_parameter(NAME).detach().clone()


@pytest.mark.parametrize(
    ("kind", "amount", "expected"),
    [("zero", None, lambda w: 0 * w), ("scale", 3.0, lambda w: 3 * w), ("scale", 0.0, lambda w: 0 * w)],
)
def test_region_lesion__is_the_change_by_hand_and_is_undone(model, phantom, mask, kind, amount, expected):
    before, digest = weight(phantom), weights_digest(phantom.module)
    with region_lesion(model, {NAME: mask}, kind=kind, amount=amount) as module:
        inside = module.get_parameter(NAME).detach()
        where = torch.from_numpy(mask)
        assert torch.equal(inside, torch.where(where, expected(before), before))
    assert weights_digest(phantom.module) == digest


def test_region_lesion__noise_has_the_size_asked_for_and_comes_from_the_seed(model, phantom):
    before, whole = weight(phantom), np.ones((64, 50), dtype=bool)
    seen = []
    for seed in (0, 0, 1):
        with region_lesion(model, {NAME: whole}, kind="noise", amount=2.0, seed=seed) as module:
            seen.append(module.get_parameter(NAME).detach() - before)
    assert torch.equal(seen[0], seen[1]) and not torch.equal(seen[0], seen[2])
    assert float(seen[0].std() / before.std()) == pytest.approx(2.0, rel=0.05)
    assert torch.equal(weight(phantom), before)


def test_region_lesion__swap_keeps_the_values_of_the_tensor_and_moves_each_of_the_region(
    model, phantom, mask
):
    name, mask = "model.layers.1.self_attn.q_proj.weight", mask[:50]  # no value comes twice in it
    before = phantom.module.get_parameter(name).detach().clone()
    with region_lesion(model, {name: mask}, kind="swap") as module:
        inside = module.get_parameter(name).detach().clone()
    assert torch.equal(inside.flatten().sort().values, before.flatten().sort().values)
    moved = (inside != before).numpy()
    assert moved[mask].all() and moved.sum() == 2 * mask.sum()
    assert torch.equal(phantom.module.get_parameter(name), before)


def test_region_lesion__swap_of_more_than_half_of_a_tensor_is_refused(model, phantom):
    name, mask = "model.layers.1.self_attn.q_proj.weight", np.zeros((50, 50), dtype=bool)
    mask[:25] = True
    before, digest = phantom.module.get_parameter(name).detach().clone(), weights_digest(phantom.module)
    with region_lesion(model, {name: mask}, kind="swap") as module:
        assert bool((module.get_parameter(name) != before).all())
    mask[25, 0] = True
    with (
        pytest.raises(InputError, match=r"q_proj\.weight the region is more than half: 1251 of 2500"),
        region_lesion(model, {name: mask}, kind="swap"),
    ):
        pass
    assert weights_digest(phantom.module) == digest


def test_region_lesion__reset_takes_the_values_of_another_model_or_of_the_beginning(tmp_path):
    tuned, checkpoint = (BY_NAME["llama"].build() for _ in range(2))
    with torch.no_grad():
        for p in checkpoint.parameters():
            p.mul_(2)
    name, texts = "model.layers.0.self_attn.o_proj.weight", tokenizer()
    mask = np.zeros((16, 16), dtype=bool)
    mask[3] = True
    before = tuned.get_parameter(name).detach().clone()
    state = torch.random.get_rng_state()
    with region_lesion((tuned, texts), {name: mask}, kind="reset", other=(checkpoint, texts)):
        inside = tuned.get_parameter(name).detach()
        assert torch.equal(inside[3], 2 * before[3]) and torch.equal(inside[4:], before[4:])
    with region_lesion((tuned, texts), {name: mask}, kind="reset", other="initial"):
        first = tuned.get_parameter(name).detach()[3].clone()
    with region_lesion((tuned, texts), {name: mask}, kind="reset", other="initial"):
        assert torch.equal(tuned.get_parameter(name).detach()[3], first)
    assert not torch.equal(first, before[3]) and float(first.std()) == pytest.approx(0.02, rel=0.6)
    assert torch.equal(tuned.get_parameter(name), before)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_region_lesion__is_undone_after_an_error_also_one_half_way(model, phantom, mask):
    digest = weights_digest(phantom.module)
    with pytest.raises(RuntimeError, match="inside"), region_lesion(model, {NAME: mask}, kind="swap"):
        raise RuntimeError("inside")
    assert weights_digest(phantom.module) == digest


def test_region_lesion__a_nan_and_a_negative_zero_are_put_back_bit_by_bit(model, phantom, mask):
    p = phantom.module.get_parameter(NAME)
    kept = p.detach().clone()
    with torch.no_grad():
        p[0, 0], p[0, 1] = torch.nan, -0.0
    digest = weights_digest(phantom.module)
    mask[0, :2] = True
    with region_lesion(model, {NAME: mask}):
        assert weights_digest(phantom.module) != digest
    assert weights_digest(phantom.module) == digest
    with torch.no_grad():
        p.copy_(kept)


def test_region_lesion__tied_weights_are_changed_once_under_either_name():
    module, texts = BY_NAME["gemma2"].build(), tokenizer()
    digest = weights_digest(module)
    tied = module.lm_head.weight
    assert tied is module.model.embed_tokens.weight
    masks = [np.zeros(tuple(tied.shape), dtype=bool) for _ in range(2)]
    masks[0][:3], masks[1][2:5] = True, True
    before = tied.detach().clone()
    both = {"model.embed_tokens.weight": masks[0], "lm_head.weight": masks[1]}
    with region_lesion((module, texts), both, kind="scale", amount=3.0):
        assert torch.equal(tied[:5], 3 * before[:5]) and torch.equal(tied[5:], before[5:])
    with region_lesion((module, texts), {"lm_head.weight": masks[1]}):
        assert not module.model.embed_tokens.weight[2:5].any()
    assert weights_digest(module) == digest


def test_region_lesion__rows_of_fused_experts_are_those_of_all_but_the_last_dimension():
    from ..architectures import ROUTED

    module = next(a for a in ROUTED if a.name == "mixtral").build()
    name = "model.layers.1.mlp.experts.down_proj"
    p = module.get_parameter(name)
    mask = np.zeros((p[..., 0].numel(), p.shape[-1]), dtype=bool)
    mask[p.shape[1] + 2] = True
    before = p.detach().clone()
    with region_lesion((module, tokenizer()), {name: mask}):
        assert not p[1, 2].any() and torch.equal(p[0], before[0])
    assert torch.equal(p, before)


def test_region_lesion__takes_one_region_of_a_tree(model, phantom, planted):
    with pytest.raises(InputError, match="a lesion takes one region"), region_lesion(model, planted):
        pass
    with region_lesion(model, pick_region(planted, "b")) as module:
        gate = module.model.layers[0].mlp.gate_proj.weight
        assert not gate[phantom.networks[1, 0]].any() and gate[phantom.networks[0, 0]].any()
    with pytest.raises(InputError, match="no region 'c'"):
        pick_region(planted, "c")


@pytest.mark.parametrize(
    ("region", "options", "error", "message"),
    [
        ({NAME: np.zeros((64, 50))}, {}, InputTypeError, "must be a bool array"),
        ({NAME: np.zeros((50, 64), bool)}, {}, InputError, r"has shape \(50, 64\), the tensor \(64, 50\)"),
        ({"x.weight": np.zeros((1, 1), bool)}, {}, InputError, "no weight tensor 'x.weight'"),
        ({}, {"kind": "burn"}, InputError, "kind must be one of"),
        ({}, {"kind": "scale"}, InputError, "needs `amount`"),
        ({}, {"kind": "reset"}, InputError, "needs `other`"),
        ({}, {"seed": -1}, InputError, "seed must be at least 0"),
        ({}, {"amount": 2.0}, InputError, "kind='zero' takes no amount, got 2.0"),
        ({}, {"other": "initial"}, InputError, "kind='zero' takes no `other`"),
        ({}, {"kind": "noise", "amount": -1.0}, InputError, "of noise 0 or more"),
        ({}, {"kind": "scale", "amount": float("nan")}, InputError, "a finite number"),
        ({}, {"kind": "scale", "amount": "2"}, InputTypeError, "must be a number"),
        ([1], {}, InputTypeError, "regions must be a DataTree"),
    ],
)
def test_region_lesion__what_does_not_fit_is_refused(model, region, options, error, message):
    with pytest.raises(error, match=message), region_lesion(model, region, **options):
        pass


@pytest.mark.slow
@pytest.mark.parametrize("name", [a.name for a in ARCHITECTURES])
@pytest.mark.parametrize("kind", ["zero", "reset", "scale", "noise", "swap"])
def test_region_lesion__is_undone_in_all_architectures(name, kind, rng):
    module, texts = BY_NAME[name].build(), tokenizer()
    digest = weights_digest(module)
    region = {n: rng.random(p.reshape(-1, p.shape[-1]).shape) < 0.2 for n, p in module.named_parameters()}
    given = {"scale": {"amount": 2.0}, "noise": {"amount": 2.0}, "reset": {"other": "initial"}}
    with region_lesion((module, texts), region, kind=kind, **given.get(kind, {})):
        assert weights_digest(module) != digest
    assert weights_digest(module) == digest
