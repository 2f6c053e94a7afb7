"""Scoring: the log probability of every token under each lesion and under its matched controls."""

import os
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr
from tqdm import tqdm

from ..store.archive import open as open_result
from ..store.errors import InputError, InputTypeError
from ..store.location import Location
from ..store.paradigm import Paradigm, as_paradigm
from ..store.provenance import digest_bytes, digest_json, library_versions, now
from ..store.results import save_result
from .batches import batches
from .controls import matched_controls, mismatch
from .forward import score_tokens
from .lesion import Kind, check_kind, full_mask, lesioned, mean_activation
from .models import LoadedModel, ModelLike, load_model
from .sites import find_taps
from .tokens import Tokens, tokenize

Bool = npt.NDArray[np.bool_]
_BATCH_TOKENS = 4096


@dataclass(frozen=True)
class _Row:
    """One lesion to run: what is removed, and why."""

    role: str
    target: str
    draw: int
    mask: Bool  # (layer, neuron)
    mismatch: float


def score(
    model: ModelLike,
    paradigm: Paradigm | str | os.PathLike[str],
    out: str | os.PathLike[str],
    masks: xr.DataArray,
    *,
    site: str = "mlp",
    kind: Kind = "zero",
    amount: float | None = None,
    reference: xr.Dataset | None = None,
    controls: int = 99,
    seed: int = 0,
    device: str | None = None,
    progress: bool | None = None,
) -> xr.Dataset:
    """Score a paradigm without a lesion, under each network's lesion, and under its matched controls.

    Prompts that selected a network never score it: those in ``masks.attrs["selected_on"]`` are left
    out; masks that lack it give a warning.

    Parameters
    ----------
    model, site, kind, amount, device, progress
        As for `lesion` and `record`.
    paradigm
        The texts to score.
    out
        Where the scores are saved; scores that were made there by the same call are opened.
    masks
        bool (network, layer, neuron), from `threshold` or `networks`.
    reference
        A recording of the site: what the lesion kind "mean" puts in, and what controls are matched
        on. Without it controls match in size and layers alone.
    controls
        Random controls per network, matched in size, layers and magnitude.
    seed
        Draws the controls.

    Returns
    -------
    Dataset
        ``logprob`` (lesion, prompt, token), nats; ``network`` (lesion, layer, neuron), what was
        removed; coordinates ``role`` ("baseline", "target", "control"), ``target`` (the
        network's name), ``draw``, ``mismatch`` (relative difference of a control's mean magnitude
        from its target's) along ``lesion``, and the labels of the prompts.

    Raises
    ------
    InputError
        A mask does not fit the model or the site, two networks have one name, the reference is of
        another site, no prompt is left or none has a second token, or `out` cannot be written or
        holds other scores.
    """
    masks, names = _named(masks)
    for option, value in (("controls", controls), ("seed", seed)):
        if value < 0:
            raise InputError(f"{option} must be 0 or more, got {value}")
    check_kind(kind, amount, reference)
    location = Location.of(out)
    if not location.exists():
        location.check_new()
    loaded = load_model(model, device=device)
    paradigm = _held_out(as_paradigm(paradigm), masks)
    taps = find_taps(loaded.module, site)
    shape = (len(taps), taps[0].width)
    targets = {name: _one_network(masks, k, shape, site) for k, name in enumerate(names)}
    inputs = {
        **loaded.identity(),
        "paradigm_digest": paradigm.digest,
        "masks_digest": digest_bytes(np.packbits(np.stack([*targets.values()])).tobytes()),
        "networks": names,
        "reference": None if reference is None else _reference_identity(reference),
        "site": site, "kind": kind, "amount": amount, "controls": controls, "seed": seed,
    }  # fmt: skip
    if location.exists():
        return _reopen(location, inputs)
    rows = _rows(targets, shape, reference, site, controls, seed)
    tokens = _scorable(tokenize(loaded, paradigm.table))
    means = mean_activation(reference, shape, site) if kind == "mean" and reference is not None else None
    logprob = np.full((len(rows), *tokens.token_id.shape), np.nan, dtype=np.float32)
    hidden = None if progress is None else not progress
    for i, row in enumerate(tqdm(rows, desc="score", unit="lesion", disable=hidden)):
        with loaded.evaluating(), lesioned(taps, row.mask, kind, amount, means):
            _score_prompts(loaded, tokens, logprob[i])
    ds = _dataset(rows, paradigm, logprob, inputs)
    save_result(ds, str(location), derived_from=masks.attrs.get("source") or masks.attrs.get("derived_from"))
    return open_result(str(location))


def _named(masks: xr.DataArray) -> tuple[xr.DataArray, list[str]]:
    """Give the masks their dimension ``network``, and return its names; refuse what are no masks."""
    if not isinstance(masks, xr.DataArray) or masks.dtype != bool:
        raise InputTypeError(
            "masks must be a bool DataArray (network, layer, neuron), as threshold and networks give it"
        )
    if "network" not in masks.dims:
        name = str(masks.coords["network"].item()) if "network" in masks.coords else "network"
        masks = masks.drop_vars("network", errors="ignore").expand_dims(network=[name])
    names = [str(n) for n in masks["network"].to_numpy()]
    if len(set(names)) < len(names):
        raise InputError(f"the names of the networks must differ, got {names}")
    return masks, names


def _scorable(tokens: Tokens) -> Tokens:
    if tokens.n_tokens.max() < 2:
        raise InputError(
            "no prompt has a second token, so there is no prediction to score; give longer texts"
        )
    return tokens


def _held_out(paradigm: Paradigm, masks: xr.DataArray) -> Paradigm:
    if "selected_on" not in masks.attrs:
        warnings.warn(
            "the masks do not say which prompts selected them (attrs['selected_on']), so none is left out; "
            "effects on prompts that selected a network are too large. Give the list, [] if there was none",
            stacklevel=3,
        )
    selected = set(masks.attrs.get("selected_on", ()))
    left = [p for p in paradigm.table["prompt"] if p not in selected]
    if not left:
        raise InputError(
            "every prompt of the paradigm took part in selecting the networks; "
            "select on some runs and score the others, or give other prompts"
        )
    return paradigm.select(prompt=left)


def _reopen(location: Location, inputs: dict[str, Any]) -> xr.Dataset:
    ds = open_result(str(location))
    if ds.attrs.get("inputs_digest") != digest_json(inputs):
        raise InputError(f"{location} holds other scores; choose another path or remove it")
    return ds


def _one_network(masks: xr.DataArray, k: int, shape: tuple[int, int], site: str) -> Bool:
    """Spread one of the masks over all layers and neurons of the site: (layer, neuron)."""
    return full_mask(masks.isel(network=k, drop=True).reset_coords(drop=True), *shape, site)


def _reference_identity(reference: xr.Dataset) -> dict[str, Any]:
    """Say what was recorded, and which prompts of it are looked at."""
    ids = [str(p) for p in reference["prompt"].to_numpy()]
    return {"recording": reference.attrs.get("manifest_digest"), "prompts_digest": digest_json(ids)}


def _rows(
    targets: dict[str, Bool],
    shape: tuple[int, int],
    reference: xr.Dataset | None,
    site: str,
    controls: int,
    seed: int,
) -> list[_Row]:
    """List every lesion: the baseline, then each target followed by its controls."""
    magnitude = None if reference is None else mean_activation(reference, shape, site, magnitude=True)
    rows = [_Row("baseline", "", -1, np.zeros(shape, dtype=bool), float("nan"))]
    for k, (name, target) in enumerate(targets.items()):
        rows.append(_Row("target", name, -1, target, 0.0))
        draws = matched_controls(target, magnitude, controls, np.random.default_rng([seed, k]))
        rows += [
            _Row("control", name, i, draw, mismatch(target, draw, magnitude)) for i, draw in enumerate(draws)
        ]
    return rows


def _score_prompts(loaded: LoadedModel, tokens: Tokens, out: npt.NDArray[np.float32]) -> None:
    """Fill in the log probability of every token: (prompt, token)."""
    for rows in batches(tokens.n_tokens, _BATCH_TOKENS):
        logprob = score_tokens(loaded, tokens.token_id[rows])
        out[rows, : logprob.shape[1]] = logprob


def _dataset(
    rows: list[_Row], paradigm: Paradigm, logprob: npt.NDArray[np.float32], inputs: dict[str, Any]
) -> xr.Dataset:
    names = [
        r.role if r.role == "baseline" else f"{r.target}/{r.role}{r.draw if r.draw >= 0 else ''}"
        for r in rows
    ]
    labels = {c: ("prompt", paradigm.table[c].to_numpy()) for c in paradigm.table}
    return xr.Dataset(
        {
            "logprob": (("lesion", "prompt", "token"), logprob, {"units": "nats"}),
            "network": (("lesion", "layer", "neuron"), np.stack([r.mask for r in rows])),
        },
        coords={
            **labels,
            "lesion": np.array(names, dtype=object),
            "role": ("lesion", np.array([r.role for r in rows], dtype=object)),
            "target": ("lesion", np.array([r.target for r in rows], dtype=object)),
            "draw": ("lesion", [r.draw for r in rows]),
            "mismatch": ("lesion", [r.mismatch for r in rows]),
        },
        attrs={
            "kind": "scores",
            "inputs": inputs,
            "inputs_digest": digest_json(inputs),
            "environment": library_versions(),
            "created": now(),
        },
    )
