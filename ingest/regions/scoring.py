"""What is read under each lesion of a region: the units of the scores."""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import xarray as xr
from torch import nn
from tqdm import tqdm

from ...store.paradigm import Paradigm
from ...store.provenance import library_versions, now
from ...store.seeds import seed_of
from ...store.unit_archive import Allocation, Field, Grid, UnitArchive
from ..batches import batches
from ..completion import complete
from ..forward import Sampling
from ..models import LoadedModel
from ..parameters import parameters_by_name
from ..tokens import Tokens
from .controls import Controls, Match, mean_magnitude, shared, size_of
from .lesions import Places, RegionKind, changed
from .losses import BATCH_TOKENS, score_all
from .targets import Targets

_CONTROLS_THEMSELVES = ("bottom", "random")


def has_controls(role: str) -> bool:
    """Whether random controls stand beside a region with this role; some are controls themselves."""
    return role not in _CONTROLS_THEMSELVES


@dataclass(frozen=True)
class Change:
    """What a lesion does to its places; see `region_lesion`. `source`: the values that they are reset to."""

    kind: RegionKind
    amount: float | None
    source: Mapping[str, torch.Tensor]

    def applied(self, module: nn.Module, places: Places, seed: int) -> AbstractContextManager[None]:
        """Apply it as long as the ``with`` block lasts."""
        return changed(module, places, self.kind, self.amount, self.source, seed)


@dataclass(frozen=True)
class Lesion:
    """One lesion to run: role, region, and number of the control."""

    role: str
    target: str = ""
    draw: int = -1

    @property
    def name(self) -> str:
        """A name that no other has."""
        if self.role == "baseline":
            return self.role
        return f"{self.target}/{self.role}{self.draw if self.draw >= 0 else ''}"


def list_lesions(targets: Targets, controls: int) -> list[Lesion]:
    """List the baseline, then each region followed by its controls."""
    out = [Lesion("baseline")]
    for name, role in zip(targets.names, targets.roles, strict=True):
        drawn = controls if has_controls(role) else 0
        out += [Lesion("target", name), *(Lesion("control", name, draw) for draw in range(drawn))]
    return out


@dataclass(frozen=True)
class Scoring:
    """What is scored: the texts under each lesion, a unit each."""

    model: LoadedModel
    paradigm: Paradigm
    tokens: Tokens
    targets: Targets
    lesions: list[Lesion]
    match: Match
    change: Change
    sampling: Sampling | None
    seed: int

    def allocation(self) -> Allocation:
        """Describe the lesions and the prompts, and what is to be filled."""
        targets, lesions, table = self.targets, self.lesions, self.paradigm.table
        roles = dict(zip(targets.names, targets.roles, strict=True))
        tops = dict(zip(targets.names, targets.tops, strict=True))
        along: dict[str, Any] = {
            "lesion": np.array([one.name for one in lesions], dtype=object),
            "role": np.array([one.role for one in lesions], dtype=object),
            "target": np.array([one.target for one in lesions], dtype=object),
            "draw": [one.draw for one in lesions],
            "region_role": np.array([roles.get(one.target, "") for one in lesions], dtype=object),
            "top": [tops.get(one.target, float("nan")) for one in lesions],
        }
        known = xr.Dataset(
            coords={str(c): ("prompt", table[c].to_numpy()) for c in table}
            | {name: ("lesion", values) for name, values in along.items()},
            attrs={
                "kind": "region_scores", **targets.attrs,
                "environment": library_versions(), "created": now(),
            },
        )  # fmt: skip
        n, nan = len(lesions), float("nan")
        shape = (n, *self.tokens.token_id.shape)
        fields = [
            Field("logprob", ("lesion", "prompt", "token"), shape, "float32", nan, {"units": "nats"}),
            Field("size", ("lesion",), (n,), "int64", -1),
            Field("magnitude", ("lesion",), (n,), "float64", nan),
            Field("shared", ("lesion",), (n,), "float64", nan),
        ]
        if self.sampling is not None:
            fields.append(Field("completion", ("lesion", "prompt"), shape[:2], "str", ""))
        return Allocation(known, fields, Grid({"lesion": n}, {"lesion": 1}))

    def fill(self, archive: UnitArchive, progress: bool | None) -> None:
        """Score the lesions that are missing; the places of one region and one control are held at a time."""
        pending = archive.pending()
        weights = parameters_by_name(self.model.module)
        own: Places = {}
        controls = Controls(own, weights, self.match)
        held = ""
        hidden = None if progress is None else not progress
        with self.model.evaluating():
            for number in tqdm(pending, desc="score", unit="lesion", disable=hidden):
                one = self.lesions[number]
                if one.target != held:
                    held, own = one.target, self.targets.places(one.target)
                    controls = Controls(own, weights, self.match)
                is_control = one.role == "control"
                places = controls.draw([seed_of(self.seed, held), one.draw]) if is_control else own
                with self.change.applied(self.model.module, places, seed_of(self.seed, one.name)):
                    read = self._read()
                values = {
                    **read,
                    "size": size_of(places),
                    "magnitude": mean_magnitude(places, weights),
                    "shared": shared(own, places) if is_control else float("nan"),
                }
                archive.write(number, {name: np.asarray(v)[None] for name, v in values.items()})

    def _read(self) -> dict[str, npt.NDArray[Any]]:
        """Score the texts, and let the model continue them, as it is now."""
        out: dict[str, npt.NDArray[Any]] = {"logprob": score_all(self.model, self.tokens)}
        if self.sampling is None:
            return out
        names = self.paradigm.table["prompt"].to_numpy()
        written = np.empty(len(names), dtype=object)
        for rows in batches(self.tokens.n_tokens + self.sampling.max_new_tokens, BATCH_TOKENS):
            texts = complete(self.model, self.tokens.token_id[rows], names[rows].tolist(), self.sampling)
            written[rows] = texts
        return {**out, "completion": written}
