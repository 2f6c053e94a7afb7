"""Recordings of every architecture and site hold what torch hooks placed by hand see, prompt by prompt."""

import numpy as np
import pytest
import torch
import zarr

import actome
from actome import Paradigm

from .architectures import ARCHITECTURES, HIDDEN, N_LAYERS, ROUTED, observe, text_of, tokenizer

PROMPTS = [[3, 9, 4, 20, 31], [5, 6], [8, 30, 17, 22, 12, 7, 33]]
N_UNITS = (
    8  # so many, however few the prompts: shown as often, those of different lengths share a padded batch
)
ALL = [*ARCHITECTURES, *ROUTED]
# float16 keeps 11 bits, and its smallest steps are 6e-8
TOLERANCE = {"float32": {"rtol": 1e-5, "atol": 1e-5}, "float16": {"rtol": 2**-11 + 1e-5, "atol": 1e-5}}
CASES = [(a, "float32") for a in ALL] + [
    pytest.param(a, "float16", marks=[] if a.name in ("llama", "gpt2") else pytest.mark.slow)
    for a in ALL
    if a.named
]


@pytest.mark.parametrize(("architecture", "dtype"), CASES, ids=lambda case: getattr(case, "name", case))
def test_record__holds_what_hooks_placed_by_hand_see(architecture, dtype, tmp_path):
    module, places = architecture.build(), architecture.places()
    prompts = [{"text": text_of(ids), "condition": "ab"[i % 2]} for i, ids in enumerate(PROMPTS * N_UNITS)]
    out = str(tmp_path / "r.zarr")
    ds = actome.record(
        (module, tokenizer()), Paradigm(prompts), out, sites=tuple(places), dtype=dtype, progress=False
    )
    assert zarr.open_group(out, mode="r")["recorded"].chunks == (len(PROMPTS),)
    expected, logits = [], []
    for ids in PROMPTS:
        run = lambda ids=ids: logits.append(module(input_ids=torch.tensor([ids])).logits[0])  # noqa: E731
        expected.append(observe(module, run, places))
    for site in places:
        values = zarr.open_group(out, mode="r")[site]["activation"][:]  # (prompt, token, layer, neuron)
        assert values.dtype == dtype
        assert values.shape[2:] == (N_LAYERS, architecture.width if site == "mlp" else HIDDEN)
        for i, ids in enumerate(PROMPTS):
            seen = expected[i][site].numpy().reshape(N_LAYERS, len(ids), -1)
            kept = values[i].transpose(1, 0, 2)
            np.testing.assert_allclose(kept[:, : len(ids)], seen, **TOLERANCE[dtype], err_msg=site)
            assert np.isnan(kept[:, len(ids) :]).all()
    _check_logprob(ds, logits, architecture.encodes)


def _check_logprob(ds, logits, encodes):
    """Compare with the logits, where these are of the next token; an encoder has no logprob."""
    assert ("logprob" in ds) == (not encodes)
    for i, ids in enumerate([] if encodes else PROMPTS):
        scores = torch.log_softmax(logits[i][:-1].float(), dim=-1)
        expected = scores[torch.arange(len(ids) - 1), ids[1:]].numpy()
        logprob = ds["logprob"].to_numpy()[i]
        np.testing.assert_allclose(logprob[1 : len(ids)], expected, rtol=1e-4, atol=1e-4)
        assert np.isnan(logprob[[0, *range(len(ids), len(logprob))]]).all()
