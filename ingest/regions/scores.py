"""Scoring under region lesions: the log probability of every token without each region, and its controls."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import xarray as xr
from tqdm import tqdm

from ...store.archive import open as open_result
from ...store.errors import InputError
from ...store.location import Location
from ...store.paradigm import Paradigm, as_paradigm
from ...store.provenance import digest_bytes, digest_json, library_versions, now
from ...store.regions import check_regions, labels_of, masks, region_names
from ...store.results import save_result
from ..batches import batches
from ..forward import score_tokens
from ..held_out import held_out
from ..identity import weights_digest
from ..models import LoadedModel, ModelLike, load_model
from ..parameters import parameters_by_name
from ..tokens import Tokens, tokenize
from .controls import control_places, mean_magnitude, size_of
from .lesions import Places, RegionKind, changed, check_kind, check_places, pick_region, places_of, values_of

_BATCH_TOKENS = 4096
_CONTROLS_THEMSELVES = ("bottom", "random")


@dataclass(frozen=True)
class _Lesion:
    """One lesion to run."""

    role: str
    target: str
    draw: int
    places: Places


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

    Prompts that selected the regions, ``regions.attrs["selected_on"]``, are left out.

    Parameters
    ----------
    model, device, progress
        As for `record`.
    paradigm
        The texts to score.
    out
        Where the scores are saved; scores that were made there by the same call are opened.
    regions
        From `actome.region`, also several, joined.
    kind, amount, other
        As for `region_lesion`.
    controls
        Random regions beside each, with as many parameters in each tensor and none of its own; none
        beside regions whose ``role`` is "bottom" or "random", which are controls themselves.
    match
        "size"; or "magnitude": controls also have as many small and large weights.
    seed
        Draws the controls and what the kind of lesion draws.

    Returns
    -------
    Dataset
        ``logprob`` (lesion, prompt, token), nats; ``size`` (lesion), parameters; ``magnitude`` (lesion),
        their mean |weight|; coordinates ``role`` ("baseline", "target", "control"), ``target`` (the
        region's name), ``draw``, ``region_role`` and ``top`` (what the region says of itself) along
        ``lesion``, and the labels of the prompts.

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
    check_kind(kind, amount, other, seed)
    if controls < 0 or match not in ("size", "magnitude"):
        raise InputError(
            f"controls must be 0 or more and match 'size' or 'magnitude', got {controls} and {match!r}"
        )
    location = Location.of(out)
    if not location.exists():
        location.check_new()
    paradigm = held_out(as_paradigm(paradigm), regions.dataset.attrs.get("selected_on"), "regions")
    loaded = load_model(model, device=device)
    check_scorable(loaded)
    check_places(loaded.module, regions)
    source = values_of(other, loaded.module, seed)
    inputs = {
        **loaded.identity(),
        "paradigm_digest": paradigm.digest,
        "regions_digest": regions_digest(regions),
        "kind": kind, "amount": amount, "reset_from": _source_identity(other),
        "controls": controls, "match": match, "seed": seed,
    }  # fmt: skip
    if location.exists():
        return reopen(location, inputs, "scores")
    tokens = scorable_tokens(loaded, paradigm)
    weights = parameters_by_name(loaded.module)
    roles = dict(zip(region_names(regions), labels_of(regions, "role"), strict=True))
    tops = dict(zip(region_names(regions), _tops(regions), strict=True))
    drawn = {n: 0 if role in _CONTROLS_THEMSELVES else controls for n, role in roles.items()}
    logprob, about = [], []
    hidden = None if progress is None else not progress
    bar = tqdm(total=1 + sum(1 + n for n in drawn.values()), desc="score", unit="lesion", disable=hidden)
    with bar, loaded.evaluating():
        for number, one in enumerate(_lesions(regions, weights, drawn, match, seed)):
            with changed(loaded.module, one.places, kind, amount, source, seed + number):
                logprob.append(score_all(loaded, tokens))
            about.append((one, size_of(one.places), mean_magnitude(one.places, weights)))
            bar.update()
    ds = _dataset(about, roles, tops, paradigm, np.stack(logprob), inputs, regions)
    save_result(ds, str(location), derived_from=regions.attrs.get("manifest_digest"))
    return open_result(str(location))


def _lesions(
    regions: xr.DataTree, weights: dict[str, Any], drawn: dict[str, int], match: str, seed: int
) -> Iterator[_Lesion]:
    """Yield the baseline, then each region followed by its controls; one is held at a time."""
    yield _Lesion("baseline", "", -1, {})
    for k, name in enumerate(drawn):
        places = places_of(pick_region(regions, name))
        yield _Lesion("target", name, -1, places)
        for draw in range(drawn[name]):
            yield _Lesion(
                "control", name, draw, control_places(places, weights, match=match, seed=[seed, k, draw])
            )


def check_scorable(model: LoadedModel) -> None:
    """Refuse a model that gives no probability of the next token."""
    if not model.is_causal:
        raise InputError(f"{model.name!r} gives no probability of a next token; give a causal language model")


def scorable_tokens(model: LoadedModel, paradigm: Paradigm) -> Tokens:
    """Tokenize texts of which at least one has a token to foretell."""
    tokens = tokenize(model, paradigm.table)
    if tokens.n_tokens.max() < 2:
        raise InputError(
            "no prompt has a second token, so there is no prediction to score; give longer texts"
        )
    return tokens


def score_all(model: LoadedModel, tokens: Tokens) -> npt.NDArray[np.float32]:
    """Score every token by the model as it is now: (prompt, token) nats, NaN on the first and on padding."""
    out = np.full(tokens.token_id.shape, np.nan, dtype=np.float32)
    for rows in batches(tokens.n_tokens, _BATCH_TOKENS):
        logprob = score_tokens(model, tokens.token_id[rows])
        out[rows, : logprob.shape[1]] = logprob
    return out


def reopen(location: Location, inputs: dict[str, Any], what: str) -> xr.Dataset:
    """Open what the same call made before; refuse anything else."""
    ds = open_result(str(location))
    if ds.attrs.get("inputs_digest") != digest_json(inputs):
        raise InputError(f"{location} holds other {what}; choose another path or remove it")
    return ds


def regions_digest(regions: xr.DataTree) -> str:
    """Digest of the masks, by tensor, and of the regions' names."""
    parts = [digest_bytes(np.packbits(m.to_numpy(), axis=-1).tobytes()) for _, m in masks(regions)]
    return digest_json([region_names(regions), [name for name, _ in masks(regions)], parts])


def _source_identity(other: Any) -> Any:
    if other is None or (isinstance(other, str) and other == "initial"):
        return other
    return weights_digest(load_model(other).module)


def _tops(regions: xr.DataTree) -> list[float]:
    if "top" not in regions.coords:
        return [float("nan")] * len(region_names(regions))
    return [float(t) for t in regions["top"].to_numpy()]


def _dataset(
    about: list[tuple[_Lesion, int, float]],
    roles: dict[str, str],
    tops: dict[str, float],
    paradigm: Paradigm,
    logprob: npt.NDArray[np.float32],
    inputs: dict[str, Any],
    regions: xr.DataTree,
) -> xr.Dataset:
    lesions = [one for one, _, _ in about]
    names = [
        one.role if one.role == "baseline" else f"{one.target}/{one.role}{one.draw if one.draw >= 0 else ''}"
        for one in lesions
    ]
    along: dict[str, Any] = {
        "lesion": np.array(names, dtype=object),
        "role": np.array([one.role for one in lesions], dtype=object),
        "target": np.array([one.target for one in lesions], dtype=object),
        "draw": [one.draw for one in lesions],
        "region_role": np.array([roles.get(one.target, "") for one in lesions], dtype=object),
        "top": [tops.get(one.target, float("nan")) for one in lesions],
    }
    return xr.Dataset(
        {
            "logprob": (("lesion", "prompt", "token"), logprob, {"units": "nats"}),
            "size": ("lesion", [size for _, size, _ in about]),
            "magnitude": ("lesion", [magnitude for _, _, magnitude in about]),
        },
        coords={c: ("prompt", paradigm.table[c].to_numpy()) for c in paradigm.table}
        | {name: ("lesion", values) for name, values in along.items()},
        attrs={
            "kind": "region_scores", "inputs": inputs, "inputs_digest": digest_json(inputs),
            "selected_on": list(regions.attrs.get("selected_on", [])),
            "environment": library_versions(), "created": now(),
        },
    )  # fmt: skip
