"""Before and after: perplexity against the library's own loss, parameters, speed."""

import dataclasses

import numpy as np
import pytest
import torch
import xarray as xr

import actome
from actome.ingest.pruning.comparison import compare_pruned
from actome.ingest.pruning.pruned import prune
from actome.store.errors import InputError, InputTypeError


@pytest.fixture
def mask(phantom):
    """Twenty neurons of each layer that nothing was planted in."""
    mask = np.zeros(phantom.networks.shape[1:], dtype=bool)
    for layer, planted in zip(mask, phantom.networks.any(axis=0), strict=True):
        layer[np.flatnonzero(~planted)[:20]] = True
    return xr.DataArray(
        mask,
        dims=("layer", "neuron"),
        coords={"layer": range(3), "neuron": range(64)},
        attrs={"selected_on": []},
    )


def perplexity(module, tokenizer, texts):
    """Of all tokens together, from the loss that the library itself gives."""
    total, n = 0.0, 0
    for text in texts:
        ids = tokenizer(text, return_tensors="pt").input_ids
        with torch.no_grad():
            total += float(module(ids, labels=ids).loss) * (ids.shape[1] - 1)
        n += ids.shape[1] - 1
    return np.exp(total / n)


def test_compare_pruned__perplexity_is_that_of_the_librarys_loss(model, phantom, mask, tmp_path):
    pruned = prune(model, mask, tmp_path / "p")
    result = compare_pruned(model, pruned, phantom.paradigm)
    for which, module in (("before", phantom.module), ("after", pruned.module)):
        for condition in "ab":
            texts = phantom.paradigm.select(condition=condition).table["text"]
            found = result["perplexity"].sel(model=which, condition=condition).item()
            assert found == pytest.approx(perplexity(module, phantom.tokenizer, texts), rel=1e-4)
    # gate, up and down: three numbers of the hidden size for each neuron
    hidden = phantom.module.config.hidden_size
    assert result["parameters"].values.tolist() == [
        sum(p.numel() for p in m.parameters()) for m in (phantom.module, pruned.module)
    ]
    assert -result["parameters"].diff("model").item() == 3 * 60 * hidden
    assert result["neurons"].values.tolist() == [192, 132] and result["width"].values.tolist() == [64, 44]
    assert (result["seconds"] > 0).all() and result["seconds"].shape == (2, 5)
    n_tokens = sum(len(phantom.tokenizer(t).input_ids) for t in phantom.paradigm.table["text"])
    np.testing.assert_allclose(
        result["tokens_per_second"] * result["seconds"].min("repeat"), n_tokens, rtol=1e-12
    )
    assert result["n_tokens"].sum() == n_tokens - len(phantom.paradigm.table)


def test_compare_pruned__opens_the_folder_and_is_saved(model, phantom, mask, tmp_path):
    pruned = prune(model, mask, tmp_path / "p")
    a = compare_pruned(model, tmp_path / "p", phantom.paradigm, repeats=1)
    b = compare_pruned(model, pruned, phantom.paradigm, repeats=1)
    for name in ("perplexity", "parameters", "neurons", "width", "n_tokens"):
        xr.testing.assert_equal(a[name], b[name])
    again = actome.open(actome.save_result(a, tmp_path / "c.zarr"))
    assert again.attrs["kind"] == "pruning" and again["model"].values.tolist() == ["before", "after"]


def test_compare_pruned__leaves_out_the_prompts_that_selected_the_neurons(model, phantom, mask):
    selected = phantom.paradigm.select(run=[0, 1]).table["prompt"].tolist()
    rest = phantom.paradigm.select(run=2)
    pruned = prune(model, mask.assign_attrs(selected_on=selected))
    result = compare_pruned(model, pruned, phantom.paradigm, repeats=1)
    only = compare_pruned(model, prune(model, mask), rest, repeats=1)
    xr.testing.assert_equal(result["perplexity"], only["perplexity"])
    with pytest.raises(InputError, match="every prompt of the paradigm took part"):
        compare_pruned(model, pruned, phantom.paradigm.select(run=0))
    with pytest.warns(UserWarning, match="pruned neurons do not say which prompts selected them"):
        compare_pruned(model, prune(model, mask.values), rest, repeats=1)


def test_compare_pruned__refuses_what_does_not_belong_together(model, phantom, mask, tmp_path):
    pruned = prune(model, mask)
    with pytest.raises(InputError, match="pruned from other weights"):
        compare_pruned(pruned, pruned, phantom.paradigm)
    with pytest.raises(InputTypeError, match="must come from prune"):
        compare_pruned(model, phantom.module, phantom.paradigm)
    with pytest.raises(InputError, match="no label 'genre'"):
        compare_pruned(model, pruned, phantom.paradigm, by="genre")
    with pytest.raises(InputError, match="repeats must be at least 1"):
        compare_pruned(model, pruned, phantom.paradigm, repeats=0)
    short = actome.Paradigm([{"text": "a1", "condition": "a"}])
    with pytest.raises(InputError, match="no prompt has a second token"):
        compare_pruned(model, pruned, short)
    broken = dataclasses.replace(pruned, record=pruned.record | {"selected_on": ["p"]})
    assert compare_pruned(model, broken, phantom.paradigm, repeats=1).attrs["selected_on"] == ["p"]
