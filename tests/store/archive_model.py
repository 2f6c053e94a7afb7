"""A simple model of an archive: which prompts a recording holds, and whether one on disk holds them."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from actome.store.allocate import SiteSpec, allocate, is_allocated
from actome.store.layout import Grain
from actome.store.location import Location
from actome.store.writer import RecordingWriter

N_LAYERS, N_NEURONS = 2, 3
FLOAT16_MAX = 65504.0


@dataclass(frozen=True)
class Prompt:
    """What the model knows of a prompt."""

    name: str
    condition: str
    run: int
    token_id: tuple[int, ...]
    activation: Any  # (token, layer, neuron)

    def is_same(self, other: "Prompt") -> bool:
        mine, theirs = ((p.name, p.condition, p.run, p.token_id) for p in (self, other))
        return mine == theirs


@dataclass(frozen=True)
class Content:
    """What the model knows of a recording."""

    prompts: tuple[Prompt, ...]
    dtype: str

    def cast(self, dtype: str) -> "Content":
        def fitted(values):
            if dtype == "float16":
                values = np.clip(values, -FLOAT16_MAX, FLOAT16_MAX)
            return values.astype(dtype)

        return Content(tuple(replace(p, activation=fitted(p.activation)) for p in self.prompts), dtype)

    @property
    def largest(self) -> float:
        return max(float(np.abs(p.activation).max()) for p in self.prompts)


def joined(parts: list[Content], runs: str, duplicates: str) -> Content | None:
    """What joining gives; None where it is refused."""
    prompts: dict[str, Prompt] = {}
    highest = -1
    for part in parts:
        if part.dtype != parts[0].dtype:
            return None
        twice = [p for p in part.prompts if p.name in prompts]
        if twice and (duplicates == "refuse" or not all(p.is_same(original(parts, p)) for p in twice)):
            return None
        new = [p for p in part.prompts if p.name not in prompts]
        if runs == "renumber" and new:
            shift = highest + 1 - min(p.run for p in new) if highest >= 0 else 0
            new = [replace(p, run=p.run + shift) for p in new]
            highest = max(highest, *(p.run for p in new))
        prompts |= {p.name: p for p in new}
    return Content(tuple(prompts.values()), parts[0].dtype)


def original(parts: list[Content], prompt: Prompt) -> Prompt:
    """The first prompt of that name, before any renumbering."""
    return next(p for part in parts for p in part.prompts if p.name == prompt.name)


def record(path: Path, content: Content, n_tokens: int, unit: int) -> None:
    """Write a recording, or go on with one, as the recorder does."""
    location = Location.of(path)
    with location.claimed():
        if not is_allocated(location):
            labels = pd.DataFrame(
                {
                    "prompt": [p.name for p in content.prompts],
                    "condition": [p.condition for p in content.prompts],
                    "run": [p.run for p in content.prompts],
                }
            )
            numbers = tuple(range(N_LAYERS)), tuple(range(N_NEURONS))
            allocate(
                location,
                labels=labels,
                n_tokens=n_tokens,
                sites={"mlp": SiteSpec(*numbers, ("h",) * N_LAYERS, content.dtype)},
                token_variables=("token_id",),
                provenance={"inputs": {"model": "m"}},
                grain=Grain(unit=min(unit, len(labels))),
            )
        writer = RecordingWriter(location)
        pending = writer.pending()
        writer.clear_units(pending)
        for i in pending:
            part = content.prompts[writer.units[i]]
            cube = np.full((len(part), n_tokens, N_LAYERS, N_NEURONS), np.nan, dtype=content.dtype)
            token_id = np.full((len(part), n_tokens), -1, dtype=np.int32)
            for row, prompt in enumerate(part):
                cube[row, : len(prompt.token_id)] = prompt.activation
                token_id[row, : len(prompt.token_id)] = prompt.token_id
            labels_of = {
                "prompt": np.array([p.name for p in part], dtype=object),
                "condition": np.array([p.condition for p in part], dtype=object),
                "run": np.array([p.run for p in part]),
                "n_tokens": np.array([len(p.token_id) for p in part]),
                "token_id": token_id,
            }
            writer.write_unit(i, labels_of, {"mlp": cube}, counts={"clipped": 0})
        writer.finalise()


def assert_holds(ds: xr.Dataset, prompts: list[Prompt]) -> None:
    """A Dataset of the cube has these prompts, in this order, and nothing else."""
    assert ds["prompt"].to_numpy().tolist() == [p.name for p in prompts]
    assert ds["condition"].to_numpy().tolist() == [p.condition for p in prompts]
    assert ds["run"].to_numpy().tolist() == [p.run for p in prompts]
    cube, token_id = ds["activation"].to_numpy(), ds["token_id"].to_numpy()
    for row, prompt in enumerate(prompts):
        n = len(prompt.token_id)
        assert token_id[row].tolist() == [*prompt.token_id, *[-1] * (token_id.shape[1] - n)]
        np.testing.assert_array_equal(cube[row, :n], prompt.activation)
        assert np.isnan(cube[row, n:]).all()


def assert_moments(ds: xr.Dataset, prompts: list[Prompt]) -> None:
    assert ds["count"].to_numpy().tolist() == [len(p.token_id) for p in prompts]
    for row, prompt in enumerate(prompts):
        values = prompt.activation.astype(np.float64)
        np.testing.assert_allclose(ds["mean"].to_numpy()[row], values.mean(axis=0), rtol=1e-12)
        np.testing.assert_allclose(ds["m2"].to_numpy()[row], values.var(axis=0) * len(values), rtol=1e-9)
        np.testing.assert_allclose(ds["mean_abs"].to_numpy()[row], abs(values).mean(axis=0), rtol=1e-12)
