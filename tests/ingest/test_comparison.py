"""How well wrong numbers are told from rounding, beside massive activations and in silent layers."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
import zarr

import actome
from actome import Paradigm
from actome.ingest.comparison import Comparison, Computed
from actome.ingest.recompute import recompute

from .architectures import ARCHITECTURES, VOCABULARY, text_of, tokenizer

N_TOKENS = 64
HALF = {"bfloat16": 0.33, "float16": 0.04}  # deviation of noise that is no rounding


def moments(values):
    """As the recorder keeps them, of (token, layer, neuron): each (layer, neuron)."""
    mean = values.mean(axis=0)
    return {"mean": mean, "m2": ((values - mean) ** 2).sum(axis=0), "mean_abs": abs(values).mean(axis=0)}


def compare(then, now, compute="bfloat16", *, site="mlp", keep="full", layers=None):
    """Compare one prompt: (token, layer, neuron)."""
    then, now = (np.asarray(x, dtype=np.float64) for x in (then, now))
    layers = np.arange(then.shape[1]) if layers is None else np.array(layers)
    numbers = {"layer": layers, "neuron": np.arange(then.shape[2])}
    recording = SimpleNamespace(
        inputs={"compute_dtype": compute},
        rounded_to="float16",
        table=pd.DataFrame({"prompt": ["p"]}),
        moments={site: {dim: pd.Series(n) for dim, n in numbers.items()}},
        tokens=lambda place, variable: np.arange(N_TOKENS),
        cube=lambda place, site, layer: then[:, [layer]],
        moment=lambda place, site, name: moments(then)[name],
    )
    tokens = np.arange(N_TOKENS)[None]
    computed = Computed(
        {"n_tokens": np.array([N_TOKENS]), "token_id": tokens, "position": tokens},
        {site: now[None]} if keep == "full" else {},
        {site: {name: values[None] for name, values in moments(now).items()}},
    )
    plan = SimpleNamespace(settings=SimpleNamespace(selection=SimpleNamespace(is_generated=False)))
    plan.has_logprob = False
    comparison = Comparison(recording, plan, None)
    comparison.add(0, computed, 0)
    return {variable: agreement for (_, variable), agreement in comparison.agreements.items()}


def massive(rng):
    """One layer of standard normal values, but for two as large language models have."""
    values = rng.standard_normal((N_TOKENS, 1, 4096))
    values[0, 0, [1415, 2533]] = 2500.0
    return values


@pytest.mark.parametrize(("compute", "noise"), HALF.items())
def test_add__massive_activations_do_not_hide_noise(compute, noise):
    rng = np.random.default_rng(0)
    values = massive(rng)
    found = compare(values, values + noise * rng.standard_normal(values.shape), compute)
    assert set(found) == {"activation", "mean", "deviation", "mean_abs"}
    assert all(agreement.prompts == ["p"] for agreement in found.values())
    assert "taken together, those of 1 layers of prompts" in str(found["activation"])
    alone = compare(values, values + noise * rng.standard_normal(values.shape), compute, keep="summary")
    assert "activation" not in alone and all(agreement.prompts for agreement in alone.values())


@pytest.mark.parametrize(("compute", "noise"), HALF.items())
def test_add__noise_too_small_for_each_value_is_found_in_all_of_them(compute, noise):
    rng = np.random.default_rng(1)
    values = massive(rng)
    moved = noise * 1.2 * rng.choice([-1, 1], values.shape) * (0.5 + abs(values))
    moved /= max(1.0, 1.1 * compare(values, values + moved, compute)["activation"].excess)
    agreement = compare(values, values + moved, compute)["activation"]
    assert agreement.n_beyond == 0 and agreement.n_sets_beyond == 1 and agreement.prompts == ["p"]


@pytest.mark.parametrize("compute", HALF)
@pytest.mark.parametrize("activation", ["gated", "relu", "silent", "gelu"])
def test_add__another_order_of_sums_holds_in_every_kind_of_layer(compute, activation):
    dtype = getattr(torch, compute)
    torch.manual_seed(0)
    x = torch.randn(N_TOKENS, 512).to(dtype)
    x[:, 3] *= 30  # an outlier feature
    gate, up = (torch.randn(512, 1024).div(512**0.5).to(dtype) for _ in range(2))

    def layer(pieces):
        """Matrix products in as many parts, each rounded: another kernel."""

        def times(w):
            return sum(a @ b for a, b in zip(x.chunk(pieces, 1), w.chunk(pieces, 0), strict=True))

        hidden = times(gate)
        if activation == "gated":
            return torch.nn.functional.silu(hidden) * times(up)
        if activation == "gelu":
            return torch.nn.functional.gelu(hidden - 3)
        return torch.relu(hidden - (4 if activation == "silent" else 0))

    then, now = (layer(pieces).float().numpy()[:, None] for pieces in (1, 4))
    assert (then != now).any()
    for keep in ("full", "summary"):
        found = compare(then, now, compute, keep=keep)
        assert not any(agreement.prompts for agreement in found.values())


def test_add__what_is_left_of_a_massive_value_that_was_taken_away_has_its_error():
    rng = np.random.default_rng(2)
    then = np.concatenate([massive(rng), rng.standard_normal((N_TOKENS, 1, 4096))], axis=1)
    now = then.copy()
    now[0, 1, [1415, 2533]] += 16.0  # spacing of bfloat16 at 2500
    for layers, order in (([0, 1], slice(None)), ([1, 0], slice(None, None, -1))):
        a, b = then[:, order], now[:, order]
        assert not any(found.prompts for found in compare(a, b, site="residual", layers=layers).values())
        assert compare(a, b, site="mlp_out", layers=layers)["activation"].n_beyond == 2
    now[1, 1, [1415, 2533]] += 16.0  # of a token without massive values
    assert compare(then, now, site="residual")["activation"].n_beyond == 2


@pytest.mark.parametrize(("compute", "noise"), HALF.items())
def test_recompute__a_model_with_massive_activations_holds_and_noise_does_not(tmp_path, compute, noise):
    module = next(a for a in ARCHITECTURES if a.name == "llama").build()
    with torch.no_grad():
        module.model.embed_tokens.weight[5, 7] = 2500.0
    model = module.to(getattr(torch, compute)), tokenizer()
    rng = np.random.default_rng(0)
    texts = [text_of([5, *rng.integers(6, VOCABULARY, n)]) for n in rng.integers(8, 30, 6)]
    path = tmp_path / "r.zarr"
    ds = actome.record(model, Paradigm([{"text": t} for t in texts]), path, sites=("residual",))
    module.set_attn_implementation("eager")
    assert recompute(path, model=model).holds
    values = ds["activation"].to_numpy().astype(np.float32)
    assert np.nanmax(abs(values)) > 2000
    usual = np.sqrt(np.nanmean(values[..., np.arange(16) != 7] ** 2, axis=(0, 1, 3), keepdims=True))
    stored = zarr.open_group(path, mode="r+")["residual/activation"]
    stored[...] = values + noise * usual * rng.standard_normal(values.shape)
    result = recompute(path, model=model)
    assert result.failing == result.prompts and "attention kernel" in result.cause
