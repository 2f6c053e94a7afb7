"""Scoring under region lesions: the log probability of every token without each region, and its controls."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
import xarray as xr
from tqdm import tqdm

from ...store.arguments import whole_number
from ...store.errors import InputError
from ...store.location import Location
from ...store.paradigm import Paradigm, as_paradigm
from ...store.provenance import digest_bytes, digest_json, library_versions, now
from ...store.regions import check_regions, labels_of, masks, region_names
from ...store.unit_archive import Allocation, Field, Grid, UnitArchive, check_place, make_units
from ..held_out import held_out
from ..identity import weights_digest
from ..models import LoadedModel, ModelLike, load_model
from ..parameters import parameters_by_name
from ..tokens import Tokens
from .controls import Controls, mean_magnitude, shared, size_of
from .lesions import (
    Places,
    RegionKind,
    changed,
    check_kind,
    check_places,
    pick_region,
    places_of,
    values_of,
)  # fmt: skip
from .losses import check_scorable, scorable_tokens, score_all

_CONTROLS_THEMSELVES = ("bottom", "random")


def score_regions(
    model: ModelLike,
    paradigm: Paradigm | str | os.PathLike[str],
    out: str | os.PathLike[str],
    regions: xr.DataTree,
    *,
    kind: RegionKind = "zero",
    amount: float | None = None,
    other: ModelLike | Literal["initial"] | None = None,
    controls: int = 19,
    match: Literal["size", "magnitude"] = "size",
    seed: int = 0,
    device: str | None = None,
    progress: bool | None = None,
) -> xr.Dataset:
    """Score a paradigm with all of a model's parameters, and with each region lesioned.

    Prompts that selected the regions, ``regions.attrs["selected_on"]``, are left out. An interrupted run
    goes on with the first lesion that is not scored when the same call is made again, to the same numbers;
    a finished one is opened.

    Parameters
    ----------
    model, device, progress
        As for `record`.
    paradigm
        The texts to score.
    out
        Where the scores are saved.
    regions
        From `actome.region`, also several, joined.
    kind, amount, other
        As for `region_lesion`.
    controls
        Random regions beside each, with as many parameters in each tensor, any of them, so that a random
        region is exchangeable with its controls; none beside regions whose ``role`` is "bottom" or
        "random", which are controls themselves.
    match
        "size"; or "magnitude": controls also have as many small and large weights.
    seed
        Draws the controls and what the kind of lesion draws.

    Returns
    -------
    Dataset
        ``logprob`` (lesion, prompt, token), nats; along ``lesion`` ``size``, parameters, ``magnitude``,
        their mean |weight|, and ``shared``, the share of a control's parameters that are its region's own;
        coordinates ``role`` ("baseline", "target", "control"), ``target`` (the region's name), ``draw``,
        ``region_role`` and ``top`` (what the region says of itself) along ``lesion``, and the labels of the
        prompts.

    Raises
    ------
    InputError, InputTypeError
        The regions do not fit the model; no prompt is left, or none has a second token; the kind lacks
        what it needs; `out` cannot be written or holds something else.

    Warns
    -----
    UserWarning
        The regions do not say which prompts selected them.
    """
    check_regions(regions)
    seed = whole_number(seed, "seed", least=0)
    check_kind(kind, amount, other)
    other = other if other is None or other == "initial" else load_model(other)
    controls = whole_number(controls, "controls", least=0)
    if match not in ("size", "magnitude"):
        raise InputError(f"match must be 'size' or 'magnitude', got {match!r}")
    location = Location.of(out)
    check_place(location, "region_scores", "scores of regions")
    paradigm = held_out(as_paradigm(paradigm), regions.dataset.attrs.get("selected_on"), "regions")
    loaded = load_model(model, device=device)
    check_scorable(loaded)
    check_places(loaded.module, regions)
    source = values_of(other, loaded, seed)
    inputs = {
        **loaded.identity(),
        "device": loaded.device.type,
        "paradigm_digest": paradigm.digest,
        "regions_digest": regions_digest(regions), "roles": labels_of(regions, "role"),
        "kind": kind, "amount": amount, "reset_from": _source_identity(other),
        "controls": controls, "match": match, "seed": seed,
    }  # fmt: skip
    lesions = _list_lesions(regions, controls)
    scoring = _Scoring(loaded, scorable_tokens(loaded, paradigm), regions, lesions, match, seed)
    return make_units(
        location, inputs, "scores", lambda: scoring.allocation(paradigm),
        lambda archive: scoring.fill(archive, kind, amount, source, progress),
    )  # fmt: skip


@dataclass(frozen=True)
class _Lesion:
    """One lesion to run: role, region, and number of the control."""

    role: str
    target: str = ""
    draw: int = -1

    @property
    def name(self) -> str:
        if self.role == "baseline":
            return self.role
        return f"{self.target}/{self.role}{self.draw if self.draw >= 0 else ''}"


def _list_lesions(regions: xr.DataTree, controls: int) -> list[_Lesion]:
    """List the baseline, then each region followed by its controls."""
    out = [_Lesion("baseline")]
    for name, role in zip(region_names(regions), labels_of(regions, "role"), strict=True):
        drawn = 0 if role in _CONTROLS_THEMSELVES else controls
        out += [_Lesion("target", name), *(_Lesion("control", name, draw) for draw in range(drawn))]
    return out


@dataclass(frozen=True)
class _Scoring:
    """What is scored: the texts under each lesion, a unit each."""

    model: LoadedModel
    tokens: Tokens
    regions: xr.DataTree
    lesions: list[_Lesion]
    match: str
    seed: int

    def allocation(self, paradigm: Paradigm) -> Allocation:
        """Describe the lesions and the prompts, and what is to be filled."""
        names, lesions = region_names(self.regions), self.lesions
        roles = dict(zip(names, labels_of(self.regions, "role"), strict=True))
        tops = dict(zip(names, _tops(self.regions), strict=True))
        along: dict[str, Any] = {
            "lesion": np.array([one.name for one in lesions], dtype=object),
            "role": np.array([one.role for one in lesions], dtype=object),
            "target": np.array([one.target for one in lesions], dtype=object),
            "draw": [one.draw for one in lesions],
            "region_role": np.array([roles.get(one.target, "") for one in lesions], dtype=object),
            "top": [tops.get(one.target, float("nan")) for one in lesions],
        }
        digest = self.regions.attrs.get("manifest_digest")
        known = xr.Dataset(
            coords={str(c): ("prompt", paradigm.table[c].to_numpy()) for c in paradigm.table}
            | {name: ("lesion", values) for name, values in along.items()},
            attrs={
                "kind": "region_scores", "selected_on": list(self.regions.attrs.get("selected_on", [])),
                **({"derived_from": [digest]} if digest else {}),
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
        return Allocation(known, fields, Grid({"lesion": n}, {"lesion": 1}))

    def fill(
        self,
        archive: UnitArchive,
        kind: RegionKind,
        amount: float | None,
        source: Mapping[str, torch.Tensor],
        progress: bool | None,
    ) -> None:
        """Score the lesions that are missing; the places of one region and one control are held at a time."""
        pending, names = archive.pending(), region_names(self.regions)
        weights = parameters_by_name(self.model.module)
        own: Places = {}
        controls = Controls(own, weights, self.match)
        held = ""
        hidden = None if progress is None else not progress
        with self.model.evaluating():
            for number in tqdm(pending, desc="score", unit="lesion", disable=hidden):
                one = self.lesions[number]
                if one.target != held:
                    held, own = one.target, places_of(pick_region(self.regions, one.target))
                    controls = Controls(own, weights, self.match)
                is_control = one.role == "control"
                places = controls.draw([self.seed, names.index(held), one.draw]) if is_control else own
                with changed(self.model.module, places, kind, amount, source, self.seed + number):
                    logprob = score_all(self.model, self.tokens)
                values = {
                    "logprob": logprob,
                    "size": size_of(places),
                    "magnitude": mean_magnitude(places, weights),
                    "shared": shared(own, places) if is_control else float("nan"),
                }
                archive.write(number, {name: np.asarray(v)[None] for name, v in values.items()})


def regions_digest(regions: xr.DataTree) -> str:
    """Digest of the masks, by tensor, and of the regions' names."""
    parts = [digest_bytes(np.packbits(m.to_numpy(), axis=-1).tobytes()) for _, m in masks(regions)]
    return digest_json([region_names(regions), [name for name, _ in masks(regions)], parts])


def _source_identity(other: LoadedModel | str | None) -> str | None:
    if other is None or isinstance(other, str):
        return other
    return weights_digest(other.module)


def _tops(regions: xr.DataTree) -> list[float]:
    if "top" not in regions.coords:
        return [float("nan")] * len(region_names(regions))
    return [float(t) for t in regions["top"].to_numpy()]
