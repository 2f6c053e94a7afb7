"""A training that is interrupted within an arm goes on there, to the bytes of one in one go."""

import numpy as np
import pytest
import torch

from actome.ingest.identity import weights_digest
from actome.ingest.regions import arms, checkpoint
from actome.ingest.regions.checkpoint import Checkpoint
from actome.ingest.regions.lesions import pick_region
from actome.ingest.regions.training import train_frozen
from actome.store.integrity import verify
from actome.store.location import Location
from actome.store.paradigm import Paradigm

from ...store.killing import KilledError, killed_after
from ..resuming import files

STEPS = {"steps": 4, "every": 3, "batch_size": 2, "learning_rate": 1e-2, "weight_decay": 0.1}


@pytest.fixture
def run(loaded, phantom, planted, monkeypatch):
    """Train into a path; every update is followed by a checkpoint."""
    monkeypatch.setattr(checkpoint, "_SECONDS", 0.0)
    few, texts = phantom.paradigm.select(run=0), phantom.paradigm.select(run=1)
    asked = few.table["text"].iloc[0]
    probe = Paradigm([{"text": asked + end, "item": "x", "correct": end == " a1"} for end in (" a1", " b1")])

    def run(path, **options):
        options = {"arms": ["random", "rest"], **STEPS, **options}
        region = pick_region(planted, "b")
        return train_frozen(loaded, few, path, region, texts=texts, probe=probe, **options)

    return run


def failing_at(monkeypatch, place, calls):
    real = arms.summed_loss

    def fail(*args):
        calls.append(1)
        if len(calls) == place:
            raise RuntimeError("the machine goes down")
        return real(*args)

    monkeypatch.setattr(arms, "summed_loss", fail)


def test_train_frozen__goes_on_within_an_arm_to_the_same_bytes(run, phantom, tmp_path, monkeypatch):
    digest = weights_digest(phantom.module)
    run(tmp_path / "whole.zarr")
    path, calls = tmp_path / "t.zarr", []
    failing_at(monkeypatch, 7, calls)  # the third update of the second arm
    with pytest.raises(RuntimeError, match="goes down"):
        run(path)
    assert weights_digest(phantom.module) == digest
    kept = [key for key in files(path) if "checkpoint" in key]
    assert kept and all(k.endswith(".safetensors") or k == "actome/checkpoint/rest.json" for k in kept)
    assert {k.split("/")[2] for k in kept} == {"rest.json", "rest-2"}
    assert verify(path) == ["unfinished: no manifest; only complete units are checked"]
    run(path)
    assert len(calls) == 7 + 2  # the third and the fourth
    assert files(path) == files(tmp_path / "whole.zarr") and verify(path) == []


@pytest.mark.slow
def test_train_frozen__killed_at_any_change_of_the_disk_it_comes_to_the_same_bytes(run, tmp_path):
    run(tmp_path / "whole.zarr", arms=["region"])
    with killed_after(None, tmp_path / "count.zarr") as life:
        run(tmp_path / "count.zarr", arms=["region"])
    for left in range(0, len(life.changes), 23):
        path = tmp_path / f"{left}.zarr"
        with killed_after(left, path), pytest.raises(KilledError):
            run(path, arms=["region"])
        run(path, arms=["region"])
        assert files(path) == files(tmp_path / "whole.zarr") and verify(path) == []


def test_checkpoint__holds_values_moments_and_what_was_seen_until_it_is_removed(tmp_path, monkeypatch):
    location = Location.of(tmp_path)
    p = torch.nn.Parameter(torch.arange(4.0))
    optimiser = torch.optim.AdamW([p], lr=0.1)
    p.grad = torch.ones(4)
    optimiser.step()
    seen = {"loss": np.array([1.0, np.nan]), "right": np.array([[True, False]])}
    kept = Checkpoint(location, "none")
    kept.save(1, [(p, None)], optimiser, seen)
    assert location.keys() == []  # the last one is not a minute ago
    monkeypatch.setattr(checkpoint, "_SECONDS", 0.0)
    kept.save(1, [(p, None)], optimiser, seen)
    other = torch.nn.Parameter(torch.zeros(4))
    again = torch.optim.AdamW([other], lr=0.1)
    step, found = Checkpoint(location, "none").load([(other, None)], again)
    assert step == 1 and torch.equal(other, p)
    for name in seen:
        np.testing.assert_array_equal(found[name], seen[name])
    for name, value in optimiser.state[p].items():
        assert torch.equal(again.state[other][name], value)
    assert Checkpoint(location, "region").load([(other, None)], again) == (0, {})
    kept.remove()
    assert location.keys() == []
