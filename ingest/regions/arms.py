"""The arms of a training: each starts from the model as it is, and is followed text by text."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt
import torch
import xarray as xr
from tqdm import tqdm

from ...store.paradigm import Paradigm
from ...store.provenance import library_versions, now
from ...store.selection import joined_selection
from ...store.unit_archive import Allocation, Field, Grid, UnitArchive
from ..gradients import summed_loss
from ..models import LoadedModel
from ..parameters import parameters_by_name
from ..tokens import Tokens
from .checkpoint import Checkpoint
from .controls import Controls, shared
from .freezing import n_free, restored, trainable, update, want_gradients
from .lesions import Places
from .losses import scored_tokens, summed_losses
from .probe import Probe

Arm = Literal["none", "region", "random", "rest"]
ARMS: Final[tuple[Arm, ...]] = ("none", "region", "random", "rest")


@dataclass(frozen=True)
class Settings:
    """How an arm is trained; see `train_frozen`."""

    steps: int
    every: int
    batch_size: int
    learning_rate: float
    weight_decay: float
    seed: int

    @property
    def evaluated(self) -> list[int]:
        """The steps before which the model is evaluated, and the end."""
        return sorted({*range(0, self.steps, self.every), self.steps})


@dataclass(frozen=True)
class Training:
    """What is trained and followed, an arm a unit.

    Attributes
    ----------
    model, region
        What is trained, and the places of the region.
    shown, read
        The texts of the batches, and those that are evaluated.
    probe
        Asked at every evaluation.
    arms, settings
        What is frozen, and how it is trained.
    """

    model: LoadedModel
    region: Places
    shown: Tokens
    read: Tokens
    probe: Probe | None
    arms: tuple[Arm, ...]
    settings: Settings

    def allocation(self, paradigm: Paradigm, region: Mapping[Any, Any]) -> Allocation:
        """Describe the prompts and steps, and say what the arms fill; `region`: its attributes."""
        steps, digest = self.settings.evaluated, region.get("manifest_digest")
        coords: dict[str, Any] = {str(c): ("prompt", paradigm.table[c].to_numpy()) for c in paradigm.table}
        coords |= {"arm": np.array(self.arms, dtype=object), "step": steps}
        n, nan, nats = len(self.arms), float("nan"), {"units": "nats"}
        fields = [
            Field("loss", ("arm", "step", "prompt"), (n, len(steps), len(paradigm)), "float64", nan, nats),
            Field("train_loss", ("arm", "update"), (n, self.settings.steps), "float64", nan),
            Field("n_trained", ("arm",), (n,), "int64", -1),
            Field("shared", ("arm",), (n,), "float64", nan),
        ]
        if self.probe is not None:
            coords["item"] = np.array(self.probe.items, dtype=object)
            shape = (n, len(steps), len(self.probe.items))
            fields.append(Field("right", ("arm", "step", "item"), shape, "bool", False))
        known = xr.Dataset(
            {"n_scored": ("prompt", scored_tokens(self.read).sum(axis=1))},
            coords=coords,
            attrs={
                "kind": "training", **joined_selection(region).attrs,
                **({"derived_from": [digest]} if digest else {}),
                "environment": library_versions(), "created": now(),
            },
        )  # fmt: skip
        return Allocation(known, fields, Grid({"arm": n}, {"arm": 1}))

    def fill(self, archive: UnitArchive, progress: bool | None) -> None:
        """Train the arms that are not finished."""
        pending = archive.pending()
        hidden = None if progress is None else not progress
        n_updates = len(pending) * self.settings.steps
        with (
            tqdm(total=n_updates, desc="train", unit="update", disable=hidden) as bar,
            self.model.evaluating(),
        ):
            for unit in pending:
                checkpoint = Checkpoint(archive.location, self.arms[unit])
                values = self._train(self.arms[unit], checkpoint, bar)
                archive.write(unit, {name: np.asarray(v)[None] for name, v in values.items()})
                checkpoint.remove()
            for arm in self.arms:  # one that was written just before an interruption
                Checkpoint(archive.location, arm).remove()

    def _train(self, arm: Arm, checkpoint: Checkpoint, bar: Any) -> dict[str, Any]:
        """Train one arm, from the model as it is to the model as it was."""
        module, settings, frozen = self.model.module, self.settings, self.region
        if arm == "random":
            frozen = Controls(self.region, parameters_by_name(module), "size").draw([settings.seed])
        values = self._nothing_seen()
        with restored(module) as started, torch.enable_grad():
            free = trainable(module, frozen, arm)
            want_gradients(module, free)
            optimiser, first = None, 0
            if free:
                optimiser = torch.optim.AdamW(
                    [p for p, _ in free], lr=settings.learning_rate, weight_decay=settings.weight_decay
                )
                first, seen = checkpoint.load(free, optimiser)
                values |= seen
            rows = islice(_batches(self.shown, settings), first, None)
            bar.update(first)
            for step in range(first, settings.steps + 1):
                self._evaluate(step, values)
                if step == settings.steps:
                    break
                token_id = self.shown.token_id[next(rows)]
                loss = summed_loss(self.model, token_id) / max(1, int((token_id != -1)[:, 1:].sum()))
                values["train_loss"][step] = float(loss.detach())
                if optimiser is not None:
                    loss.backward()
                    update(optimiser, free, started)
                    checkpoint.save(step + 1, free, optimiser, values)
                bar.update()
        own = shared(self.region, frozen) if arm == "random" else float("nan")
        return {**values, "n_trained": n_free(free), "shared": own}

    def _nothing_seen(self) -> dict[str, npt.NDArray[Any]]:
        """Make the arrays that an arm fills step by step."""
        n, steps = len(self.settings.evaluated), self.settings.steps
        out: dict[str, npt.NDArray[Any]] = {
            "loss": np.full((n, len(self.read.token_id)), np.nan),
            "train_loss": np.full(steps, np.nan),
        }
        if self.probe is not None:
            out["right"] = np.zeros((n, len(self.probe.items)), dtype=bool)
        return out

    def _evaluate(self, step: int, values: dict[str, npt.NDArray[Any]]) -> None:
        """Score the texts and ask the probe, where it is time to."""
        if step not in self.settings.evaluated:
            return
        place = self.settings.evaluated.index(step)
        values["loss"][place] = summed_losses(self.model, self.read)
        if self.probe is not None:
            values["right"][place] = self.probe.ask()


def _batches(tokens: Tokens, settings: Settings) -> Iterator[npt.NDArray[np.int64]]:
    """Draw batches for ever: all texts in a new order, again and again."""
    rng = np.random.default_rng(settings.seed)
    usable = np.flatnonzero(tokens.n_tokens > 1)
    waiting: npt.NDArray[np.int64] = np.empty(0, dtype=np.int64)
    while True:
        while len(waiting) < settings.batch_size:
            waiting = np.concatenate([waiting, rng.permutation(usable)])
        yield waiting[: settings.batch_size]
        waiting = waiting[settings.batch_size :]
