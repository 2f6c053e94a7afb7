"""Scoring under region lesions: what a model foretells and writes without each region, and its controls."""

import os
from typing import Literal

import xarray as xr

from ...store.arguments import whole_number
from ...store.errors import InputError
from ...store.location import Location
from ...store.paradigm import Paradigm, as_paradigm
from ...store.unit_archive import check_place, make_units
from ..completion import check_room
from ..forward import Sampling, end_tokens
from ..held_out import held_out
from ..identity import weights_digest
from ..labels import check_labels
from ..models import LoadedModel, ModelLike, load_model
from ..parameters import parameters_by_name
from .controls import MATCHES, Controls, Match
from .lesions import RegionKind, check_kind, check_swap, values_of
from .losses import check_scorable, scorable_tokens
from .scoring import Change, Scoring, has_controls, list_lesions
from .targets import Regions, Targets


def score_regions(
    model: ModelLike,
    paradigm: Paradigm | str | os.PathLike[str],
    out: str | os.PathLike[str],
    regions: Regions,
    *,
    kind: RegionKind = "zero",
    amount: float | None = None,
    other: ModelLike | Literal["initial"] | None = None,
    controls: int = 19,
    match: Match = "size",
    max_new_tokens: int = 0,
    temperature: float = 0.0,
    top_p: float = 1.0,
    seed: int = 0,
    device: str | None = None,
    progress: bool | None = None,
) -> xr.Dataset:
    """Score a paradigm with all of a model's parameters, and with each region lesioned.

    Prompts that selected a region, ``attrs["selected_on"]`` of its tree, are left out, by their texts as in
    `score`. An interrupted run goes on with the first lesion that is not scored when the same call is made
    again, to the same numbers; a finished one is opened.

    Parameters
    ----------
    model, device, progress
        As for `record`.
    paradigm
        The texts to score.
    out
        Where the scores are saved.
    regions
        From `actome.region`, also several, joined; or a mapping from names to what `region_lesion` takes,
        such as masks of rows, columns or single values.
    kind, amount, other
        As for `region_lesion`.
    controls
        Random regions beside each, with as many parameters in each tensor, any of them, so that a random
        region is exchangeable with its controls; none beside regions whose ``role`` is "bottom" or
        "random", which are controls themselves.
    match
        "size"; "magnitude": controls also have as many small and large weights; "lines": of a tensor in
        which a region is whole rows, or columns, they have as many whole rows, or columns.
    max_new_tokens, temperature, top_p
        Let the model continue each prompt under each lesion with so many tokens; as for `record`.
    seed
        Draws the controls, what the kind of lesion draws, and the tokens.

    Returns
    -------
    Dataset
        ``logprob`` (lesion, prompt, token), nats; along ``lesion`` ``size``, parameters, ``magnitude``,
        their mean |weight|, and ``shared``, the share of a control's parameters that are its region's own;
        coordinates ``role`` ("baseline", "target", "control"), ``target`` (the region's name), ``draw``,
        ``region_role`` and ``top`` (what the region says of itself) along ``lesion``, and the labels of the
        prompts; with new tokens ``completion`` (lesion, prompt), what the model wrote.

    Raises
    ------
    InputError, InputTypeError
        The regions do not fit the model, are too large to swap, or are not made of the lines that are asked
        for; no prompt is left, none has a second token, or one leaves no room for new ones; a label of the
        prompts has a name that the scores need; the kind lacks what it needs; `out` cannot be written or
        holds something else.

    Warns
    -----
    UserWarning
        Regions do not say which prompts selected them.
    """
    targets = Targets.of(regions)
    seed = whole_number(seed, "seed", least=0)
    check_kind(kind, amount, other)
    controls = whole_number(controls, "controls", least=0)
    if match not in MATCHES:
        raise InputError(f"match must be one of {list(MATCHES)}, got {match!r}")
    sampling = Sampling(max_new_tokens, temperature, top_p, seed) if max_new_tokens else None
    location = Location.of(out)
    check_place(location, "region_scores", "scores of regions")
    paradigm = as_paradigm(paradigm)
    check_labels(paradigm, "region_scores")
    paradigm = held_out(paradigm, targets.selected, "regions", silent=targets.silent)
    loaded = load_model(model, device=device)
    check_scorable(loaded)
    targets.check(loaded.module)
    _check_each(targets, loaded, kind, match)
    tokens = scorable_tokens(loaded, paradigm)
    if sampling is not None:
        check_room(loaded, tokens, sampling)
    other = other if other is None or other == "initial" else load_model(other)
    source = values_of(other, loaded, seed)
    inputs = {
        **loaded.identity(),
        "device": loaded.device.type,
        "paradigm_digest": paradigm.digest,
        "regions_digest": targets.digest(), "roles": targets.roles,
        "kind": kind, "amount": amount, "reset_from": _source_identity(other),
        "controls": controls, "match": match, "seed": seed, "draws": "by name",
        "sampling": None if sampling is None else vars(sampling),
        "end_tokens": None if sampling is None else end_tokens(loaded),
    }  # fmt: skip
    lesions, change = list_lesions(targets, controls), Change(kind, amount, source)
    scoring = Scoring(loaded, paradigm, tokens, targets, lesions, match, change, sampling, seed)
    return make_units(
        location, inputs, "scores", scoring.allocation, lambda archive: scoring.fill(archive, progress)
    )


def _check_each(targets: Targets, loaded: LoadedModel, kind: RegionKind, match: Match) -> None:
    """Refuse now what could not be lesioned, or matched, once others are scored."""
    if kind != "swap" and match != "lines":
        return
    weights = parameters_by_name(loaded.module)
    for name, role in zip(targets.names, targets.roles, strict=True):
        places = targets.places(name)
        if kind == "swap":
            check_swap(loaded.module, places)
        if match == "lines" and has_controls(role):
            Controls(places, weights, match)


def _source_identity(other: LoadedModel | str | None) -> str | None:
    if other is None or isinstance(other, str):
        return other
    return weights_digest(other.module)
