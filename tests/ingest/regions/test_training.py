"""Frozen training: frozen parameters keep their bits, the others learn as AdamW makes them."""

import numpy as np
import pytest
import torch

from actome.analyze.regions.effects import forgetting
from actome.ingest.identity import weights_digest
from actome.ingest.regions import arms
from actome.ingest.regions.lesions import pick_region, places_of
from actome.ingest.regions.losses import scorable_tokens
from actome.ingest.regions.training import train_frozen
from actome.store.errors import InputError
from actome.store.paradigm import Paradigm

from ..architectures import ARCHITECTURES, tokenizer

BY_NAME = {a.name: a for a in ARCHITECTURES}
FAST = {"steps": 6, "every": 3, "batch_size": 4, "learning_rate": 1e-2, "weight_decay": 0.5}


@pytest.fixture
def region(planted):
    return pick_region(planted, "b")


@pytest.fixture
def texts(phantom):
    return phantom.paradigm.select(condition="a", run=[0, 1])


def test_train_frozen__without_anything_frozen_is_plain_adamw(
    model, loaded, phantom, region, texts, tmp_path
):
    trained = train_frozen(
        model, phantom.paradigm, tmp_path / "t.zarr", region, texts=texts, arms=["none"], **FAST
    )
    module, tokens = phantom.module, scorable_tokens(loaded, texts)
    rows = arms._batches(tokens, arms.Settings(6, 3, 4, 1e-2, 0.5, 0))
    kept = {n: p.detach().clone() for n, p in module.named_parameters()}
    optimiser = torch.optim.AdamW(module.parameters(), lr=1e-2, weight_decay=0.5)
    losses = []
    for _ in range(6):
        ids = torch.from_numpy(tokens.token_id[next(rows)].astype(np.int64))
        labels = ids.masked_fill(ids == -1, -100)
        loss = module(ids.clamp(min=0), attention_mask=(ids != -1).long(), labels=labels).loss
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    with torch.no_grad():
        for n, p in module.named_parameters():
            p.copy_(kept[n])
            p.grad = None
    np.testing.assert_allclose(trained["train_loss"][0], losses, rtol=1e-5)


def test_train_frozen__follows_all_conditions_and_leaves_the_model_as_it_was(
    model, phantom, region, texts, tmp_path
):
    digest = weights_digest(phantom.module)
    trained = train_frozen(model, phantom.paradigm, tmp_path / "t.zarr", region, texts=texts, **FAST)
    assert weights_digest(phantom.module) == digest
    assert all(p.grad is None and p.requires_grad for p in phantom.module.parameters())
    assert trained["step"].values.tolist() == [0, 3, 6] and trained.sizes["update"] == 6
    assert not set(trained["prompt"].values) & set(texts.table["prompt"])
    total = sum(p.numel() for p in phantom.module.parameters())
    size = sum(map(len, places_of(region).values()))
    assert trained["n_trained"].values.tolist() == [total, total - size, total - size, size]
    start = trained["loss"].sel(step=0)
    assert (start == start.isel(arm=0)).all()
    curves = forgetting(trained, n_bootstrap=20)
    assert float(curves["effect"].sel(arm="none", step=6, condition="a")) < -0.01
    again = train_frozen(model, phantom.paradigm, tmp_path / "again.zarr", region, texts=texts, **FAST)
    np.testing.assert_array_equal(again["loss"], trained["loss"])


def test_train_frozen__a_probe_is_asked_at_every_evaluation(model, phantom, region, texts, tmp_path):
    rows = phantom.paradigm.table.text[:2].tolist()
    probe = Paradigm(
        [{"text": t, "item": str(i), "correct": right} for i, text in enumerate(rows)
         for t, right in ((text, True), (" ".join(["a1", *text.split()[1:-1], "b1", "a1"]), False))]
    )  # fmt: skip
    trained = train_frozen(
        model, phantom.paradigm, tmp_path / "t.zarr", region, texts=texts, probe=probe, arms=["none"], **FAST
    )
    assert trained["right"].dims == ("arm", "step", "item") and trained["right"].dtype == bool
    assert bool(trained["right"].sel(step=0).all())
    assert forgetting(trained, n_bootstrap=5)["accuracy"].sel(step=0).item() == 1


def test_train_frozen__bad_input_is_refused(model, phantom, region, texts, planted, tmp_path):
    half = (BY_NAME["llama"].build().to(torch.bfloat16), tokenizer())
    for given, options, message in (
        (model, {"arms": ["some"]}, "arms must be some of"),
        (model, {"steps": 0}, "steps must be at least 1"),
        (model, {"learning_rate": 0.0}, "learning_rate must be above 0"),
        (model, {"region": planted}, "a lesion takes one region"),
        (model, {"texts": phantom.paradigm}, "selected the region or is trained on"),
        (model, {"probe": texts}, "needs the columns item and correct"),
        (half, {}, "no weight tensor|has shape"),
    ):
        with pytest.raises(InputError, match=message):
            train_frozen(
                given, phantom.paradigm, tmp_path / "t.zarr", **{"region": region, "texts": texts, **options}
            )
    assert not (tmp_path / "t.zarr").exists()


def test_train_frozen__loads_a_model_in_float32_whatever_its_files_are_in(
    phantom, region, texts, tmp_path, monkeypatch
):
    asked = []

    def read(*source, dtype=None, **options):
        asked.append(dtype)
        raise InputError("seen")

    monkeypatch.setattr("actome.ingest.models.read_model", read)
    with pytest.raises(InputError, match="seen"):
        train_frozen("demo", phantom.paradigm, tmp_path / "t.zarr", region, texts=texts)
    assert asked == ["float32"]


def test_train_frozen__a_model_in_bfloat16_is_refused(phantom, region, texts, tmp_path):
    module = phantom.module.__class__(phantom.module.config).to(torch.bfloat16)
    with pytest.raises(InputError, match="weights are bfloat16: small updates would be rounded away"):
        train_frozen((module, phantom.tokenizer), phantom.paradigm, tmp_path / "t.zarr", region, texts=texts)
