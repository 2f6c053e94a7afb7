"""What is frozen keeps its bits under AdamW, everything else moves."""

import numpy as np
import pytest
import torch
import xarray as xr

from actome.ingest.gradients import summed_loss
from actome.ingest.regions.freezing import n_free, restored, trainable, update, want_gradients
from actome.ingest.regions.lesions import pick_region, places_of
from actome.ingest.regions.losses import scorable_tokens

from ..architectures import ARCHITECTURES


@pytest.mark.parametrize("arm", ["none", "region", "rest"])
def test_update__frozen_parameters_keep_their_bits_and_all_others_move(loaded, phantom, planted, arm):
    module, places = phantom.module, places_of(pick_region(planted, "b"))
    before = {n: p.detach().clone() for n, p in module.named_parameters()}
    tokens = scorable_tokens(loaded, phantom.paradigm.select(condition="a", run=0))
    with restored(module) as started:
        free = trainable(module, places, arm)
        want_gradients(module, free)
        optimiser = torch.optim.AdamW([p for p, _ in free], lr=1e-2, weight_decay=0.5)
        for _ in range(3):
            summed_loss(loaded, tokens.token_id[:4]).backward()
            update(optimiser, free, started)
        moved = 0
        for name, p in module.named_parameters():
            inside = torch.zeros(p.numel(), dtype=torch.bool)
            inside[torch.from_numpy(places.get(name, np.empty(0, dtype=np.int64)))] = True
            frozen = {"none": inside & False, "region": inside, "rest": ~inside}[arm].reshape(p.shape)
            assert torch.equal(p[frozen].view(torch.int32), before[name][frozen].view(torch.int32))
            changing = ~frozen & (before[name] != 0)  # decay alone moves them
            assert (p[changing] != before[name][changing]).all()
            moved += int((~frozen).sum())
        assert moved == n_free(free)
    for name, p in module.named_parameters():
        assert torch.equal(p, before[name]) and p.grad is None and p.requires_grad


def test_restored__gives_everything_back_after_an_error(phantom):
    p = phantom.module.lm_head.weight
    before, p.grad = p.detach().clone(), torch.ones_like(p)
    with pytest.raises(RuntimeError, match="half way"), restored(phantom.module) as started:
        assert torch.equal(started[id(p)], before)
        p.requires_grad_(False).mul_(2)
        p.grad = None
        raise RuntimeError("half way")
    assert torch.equal(p, before) and p.requires_grad and bool((p.grad == 1).all())
    p.grad = None


def test_trainable__a_tied_region_named_by_its_other_name_is_frozen():
    module = next(a for a in ARCHITECTURES if a.name == "gemma2").build()
    mask = np.zeros((1, *module.lm_head.weight.shape), dtype=bool)
    mask[0, :5] = True
    nodes = {
        "/": xr.Dataset(coords={"region": ["r"]}),
        "lm_head.weight": xr.Dataset({"mask": (("region", "row", "column"), mask)}),
    }
    free = trainable(module, places_of(xr.DataTree.from_dict(nodes)), "rest")
    assert [id(p) for p, _ in free] == [id(module.model.embed_tokens.weight)]
    assert n_free(free) == 5 * 16
