"""Units: batches of padded prompts against one prompt at a time, and what is made of odd values."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import zarr
from torch import nn

import actome
from actome.ingest.capture import Kept, Slab, captured
from actome.ingest.forward import Sampling, end_tokens
from actome.ingest.models import load_model
from actome.ingest.sites import Tap
from actome.ingest.units import Float16OverflowError, Unit, finish
from actome.store.location import Location
from actome.store.moments import masked_moments
from actome.store.writer import RecordingWriter

from .architectures import ARCHITECTURES, N_LAYERS, ROUTED, observe, tokenizer
from .memory import one_unit, paradigm_of

PROMPTS = [[3, 9, 4, 20, 31, 11, 6], [5, 6], [8, 30, 17, 22, 12, 7, 33, 10, 26], [14]]
N_NEW = 7
WINDOWS = {  # shorter than the prompts
    "mistral": {"sliding_window": 4},
    "qwen2": {"use_sliding_window": True, "sliding_window": 4, "max_window_layers": 1},
    "gemma2": {"sliding_window": 4},
    "gemma3": {"sliding_window": 4},
    "phi3": {"sliding_window": 4},
}
ALL = {a.name: replace(a, config=a.config | WINDOWS.get(a.name, {})) for a in (*ARCHITECTURES, *ROUTED)}
ALL["falcon_alibi"] = replace(ALL["falcon"], config=ALL["falcon"].config | {"alibi": True})
CAUSAL = [name for name, a in ALL.items() if not a.encodes]
CLOSE = {"rtol": 1e-5, "atol": 1e-5}


def built(name):
    return ALL[name].build(), ALL[name].places()


def seen_alone(module, ids, places):
    """Activations (token, layer, neuron) of each site, by hooks placed by hand, of one prompt alone."""
    seen = observe(module, lambda: module(input_ids=torch.tensor([ids])), places)
    return {site: x.reshape(N_LAYERS, len(ids), -1).transpose(0, 1).numpy() for site, x in seen.items()}


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


@pytest.mark.parametrize("name", ALL)
def test_run_unit__a_padded_batch_gives_what_each_prompt_gives_alone(name):
    module, places = built(name)
    labels, activations, _ = one_unit((module, tokenizer()), paradigm_of(PROMPTS), sites=places)
    assert labels["n_tokens"].tolist() == list(map(len, PROMPTS))
    for i, ids in enumerate(PROMPTS):
        for site, expected in seen_alone(module, ids, places).items():
            np.testing.assert_allclose(activations[site][i, : len(ids)], expected, **CLOSE, err_msg=site)
            assert np.isnan(activations[site][i, len(ids) :]).all()
        if not ALL[name].encodes:
            with torch.no_grad():
                scores = module(input_ids=torch.tensor([ids])).logits[0].float().log_softmax(dim=-1)
            expected = scores[range(len(ids) - 1), ids[1:]]
            np.testing.assert_allclose(labels["logprob"][i, 1 : len(ids)], expected, **CLOSE)
            assert np.isnan(labels["logprob"][i, [0, *range(len(ids), 9)]]).all()


@pytest.mark.parametrize("name", CAUSAL)
def test_run_unit__generated_tokens_are_those_of_a_plain_loop_without_a_cache(name):
    module, places = built(name)
    model = load_model((module, tokenizer()))
    sampling = Sampling(max_new_tokens=N_NEW)
    labels, activations, _ = one_unit(
        model, paradigm_of(PROMPTS), sites=places, tokens="generated", sampling=sampling
    )
    for i, prompt in enumerate(PROMPTS):
        ids, scores = plain_loop(module, prompt, N_NEW, end_tokens(model))
        n = len(ids) - len(prompt)
        padding = [-1] * (N_NEW - n)
        assert labels["n_tokens"][i] == n
        assert labels["token_id"][i].tolist() == ids[len(prompt) :] + padding
        assert labels["position"][i].tolist() == [*range(len(prompt), len(ids)), *padding]
        assert labels["generated"][i].tolist() == [True] * n + [False] * len(padding)
        np.testing.assert_allclose(labels["logprob"][i, :n], scores, **CLOSE)
        assert np.isnan(labels["logprob"][i, n:]).all()
        for site, expected in seen_alone(module, ids, places).items():
            values = activations[site][i]
            np.testing.assert_allclose(values[:n], expected[len(prompt) :], **CLOSE, err_msg=site)
            assert np.isnan(values[n:]).all()


@pytest.mark.parametrize("tokens", ["prompt", "last", "generated"])
@pytest.mark.parametrize("name", ["llama", "gpt2", "falcon", "bert"])
def test_run_unit__does_not_depend_on_the_batch(name, tokens, rng):
    if tokens == "generated" and ALL[name].encodes:
        return
    module, places = built(name)
    prompts = [rng.integers(3, 40, rng.integers(1, 12)).tolist() for _ in range(9)]
    options = {"sites": places, "tokens": tokens, "sampling": Sampling(5, temperature=0.7, seed=3)}
    whole = one_unit((module, tokenizer()), paradigm_of(prompts), **options)
    for batch_size in (1, 3):
        other = one_unit((module, tokenizer()), paradigm_of(prompts), batch_size=batch_size, **options)
        np.testing.assert_array_equal(other[0]["token_id"], whole[0]["token_id"])
        for site in places:
            np.testing.assert_allclose(other[1][site], whole[1][site], **CLOSE)
            for moment in ("mean", "m2", "mean_abs"):
                np.testing.assert_allclose(
                    other[2][site][moment], whole[2][site][moment], rtol=1e-4, atol=1e-5
                )
        if "logprob" in whole[0]:
            np.testing.assert_allclose(other[0]["logprob"], whole[0]["logprob"], **CLOSE)


def test_record__batches_stay_within_a_unit(tmp_path):
    module, _ = built("llama")
    prompts, seen = [[i + 3] * (1 + i % 5) for i in range(20)], []
    handle = module.get_input_embeddings().register_forward_pre_hook(
        lambda m, args: seen.append(args[0][:, 0])
    )
    actome.record(
        (module, tokenizer()), paradigm_of(prompts), tmp_path / "r.zarr", batch_size=8, dtype="float32"
    )
    handle.remove()
    unit = RecordingWriter(Location.of(tmp_path / "r.zarr")).units[0].stop
    assert unit == 3
    first = [sorted((ids - 3).tolist()) for ids in seen]
    assert first == [list(range(i, min(i + 3, 20))) for i in range(0, 20, 3)]


def test_record__long_prompts_lie_in_several_chunks_of_tokens(tmp_path, rng):
    llama = replace(ALL["llama"], config=ALL["llama"].config | {"max_position_embeddings": 400})
    module, sites = llama.build(), ("mlp", "residual")
    prompts = [rng.integers(3, 40, n).tolist() for n in (300, 5, 130, 64, 65)]
    path = tmp_path / "r.zarr"
    actome.record((module, tokenizer()), paradigm_of(prompts), path, sites=sites, dtype="float32")
    places = {site: llama.places()[site] for site in sites}
    for site in sites:
        assert zarr.open_array(path / site / "activation", mode="r").chunks == (
            1,
            64,
            1,
            24 if site == "mlp" else 16,
        )
        values = actome.open(path, site=site).activation.to_numpy()
        for i, ids in enumerate(prompts):
            expected = seen_alone(module, ids, places)[site]
            np.testing.assert_allclose(values[i, : len(ids)], expected, **CLOSE)
            assert np.isnan(values[i, len(ids) :]).all()
    assert actome.verify(path) == []


@pytest.mark.parametrize("tokens", ["prompt", "last", "generated"])
def test_record__slabs_on_a_device_are_copied_to_the_host(tmp_path, monkeypatch, tokens):
    """The host itself stands in for the device."""
    model = (built("llama")[0], tokenizer())
    paradigm = paradigm_of([[i + 3] * (1 + i % 5) for i in range(20)])  # the last unit is a partial one
    options = {"sites": ("mlp", "residual"), "tokens": tokens, "max_new_tokens": 3, "batch_size": 2}

    def place(self, name, host, layer, device):
        return self._on_device.setdefault((name, layer), torch.full_like(host[layer], 7.0))

    actome.record(model, paradigm, tmp_path / "host.zarr", **options)
    monkeypatch.setattr(Slab, "_place", place)
    actome.record(model, paradigm, tmp_path / "device.zarr", **options)
    host, device = (
        {
            str(p.relative_to(folder)): p.read_bytes()
            for p in folder.rglob("*")
            if "/c/" in str(p) and p.is_file()
        }
        for folder in (tmp_path / "host.zarr", tmp_path / "device.zarr")
    )
    assert host == device and any("summary" in key for key in host)


def unit_of(cube, n_tokens, *, keep="full"):
    """A unit of given activations (prompt, token, layer, neuron), as `run_unit` leaves it."""
    n_prompts, n_kept, n_layers, n_neurons = cube.shape
    source = nn.ModuleList(nn.Identity() for _ in range(n_layers))
    taps = {"mlp": [Tap(str(i), part, "output", n_neurons) for i, part in enumerate(source)]}
    host = torch.full((n_layers, n_prompts, n_kept, n_neurons), 7.0, dtype=torch.float16)
    host = host if cube.dtype == np.float16 else host.float()
    sums = torch.full((n_layers, 4, n_prompts, n_neurons), torch.nan)
    slab = Slab(None, sums, host if keep == "full" else None)
    with captured(taps, {"mlp": slab}, Kept.of(np.arange(n_prompts), [np.arange(n) for n in n_tokens])):
        for layer, part in enumerate(source):
            part(torch.from_numpy(cube[:, :, layer].astype(np.float32)))
    token_id = np.where(np.arange(n_kept) < np.array(n_tokens)[:, None], 7, -1)
    return Unit({"token_id": token_id}, {"mlp": slab}, torch.empty(0))


def odd_cube(rng, dtype):
    cube = rng.standard_normal((3, 4, 2, 5)).astype(dtype)
    cube[0, 3] = cube[2, 2:] = 1e30 if dtype == "float32" else np.inf  # padding
    return cube, [3, 4, 2]


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_finish__padding_is_blank_and_never_counted(rng, dtype):
    cube, n_tokens = odd_cube(rng, dtype)
    unit = unit_of(cube, n_tokens)
    labels, activations, moments = finish(unit, clip=False)
    valid = np.arange(4) < np.array(n_tokens)[:, None]
    assert labels["n_tokens"].tolist() == n_tokens
    np.testing.assert_array_equal(activations["mlp"][valid], cube[valid])
    assert np.isnan(activations["mlp"][~valid]).all()
    assert (unit.counts["clipped"], unit.counts["nonfinite"]) == (0, 0)
    for name, expected in masked_moments(cube, valid).items():
        np.testing.assert_allclose(moments["mlp"][name], expected, rtol=1e-6, atol=1e-6)


def test_finish__what_float16_cannot_hold_is_refused_or_clipped_and_counted(rng):
    cube, n_tokens = odd_cube(rng, "float32")
    cube = np.where(abs(cube) > 1e20, 0.0, cube).astype(np.float32)
    cube[1, 3, 1, 4], cube[2, 0, 0, 1] = 70000.0, -1e9

    def unit():
        with np.errstate(over="ignore"):
            rounded = unit_of(cube.astype(np.float16), n_tokens)
        return rounded

    with pytest.raises(Float16OverflowError):
        finish(unit(), clip=False)
    clipped = unit()
    _, activations, moments = finish(clipped, clip=True)
    assert activations["mlp"][1, 3, 1, 4] == 65504 and activations["mlp"][2, 0, 0, 1] == -65504
    assert not np.isinf(activations["mlp"]).any()
    assert (clipped.counts["clipped"], clipped.counts["nonfinite"]) == (2, 0)
    valid = np.arange(4) < np.array(n_tokens)[:, None]
    for name, expected in masked_moments(activations["mlp"], valid).items():
        np.testing.assert_allclose(moments["mlp"][name], expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("keep", ["full", "summary"])
def test_finish__what_the_model_gives_beyond_numbers_is_counted(rng, keep):
    cube, n_tokens = odd_cube(rng, "float32")
    cube[0, 1, 0, 0], cube[0, 2, 0, 0], cube[1, 0, 1, 1] = np.inf, np.nan, -np.inf
    unit = unit_of(cube, n_tokens, keep=keep)
    _, activations, moments = finish(unit, clip=False)
    assert unit.counts["nonfinite"] == (3 if keep == "full" else 2)  # values, or the moments they spoil
    assert unit.counts["clipped"] == 0 and (keep == "full") == ("mlp" in activations)
    bad = ~np.isfinite(moments["mlp"]["mean_abs"])
    assert np.argwhere(bad).tolist() == [[0, 0, 0], [1, 1, 1]]


def test_finish__squares_beyond_float32_are_summed_in_float64(rng):
    cube = (1e25 * rng.standard_normal((1, 4, 1, 5))).astype(np.float32)
    unit = unit_of(cube, [4])
    _, _, moments = finish(unit, clip=False)
    expected = masked_moments(cube, np.ones((1, 4), dtype=bool))
    np.testing.assert_allclose(moments["mlp"]["m2"], expected["m2"], rtol=1e-6)
    assert unit.counts["nonfinite"] == 0
