"""Sweeps: one parameter, row or column at a time, multiplied by several factors."""

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr
from torch import nn
from tqdm import tqdm

from ...store.archive import open as open_result
from ...store.errors import InputError, InputTypeError
from ...store.location import Location
from ...store.paradigm import Paradigm, as_paradigm
from ...store.provenance import digest_json, library_versions, now
from ...store.results import save_result
from ..arguments import real_number
from ..held_out import held_out
from ..models import ModelLike, load_model
from ..parameters import as_rows, parameters_by_name
from .lesions import changed
from .scores import check_scorable, reopen, scorable_tokens, score_all

_NEEDED = ("tensor", "row", "column")


def sweep(
    model: ModelLike,
    paradigm: Paradigm | str | os.PathLike[str],
    out: str | os.PathLike[str],
    places: xr.Dataset,
    *,
    factors: Sequence[float] = (0.0, 4.0, 10.0),
    device: str | None = None,
    progress: bool | None = None,
) -> xr.Dataset:
    """Score a paradigm with single parameters, rows or columns multiplied by each of some factors.

    Parameters
    ----------
    model, device, progress
        As for `record`.
    paradigm
        The texts to score; those in ``places.attrs["selected_on"]`` are left out.
    out
        Where the result is saved; one that was made there by the same call is opened.
    places
        From `top_places`, or any Dataset with ``tensor``, ``row`` and ``column`` along ``place``; -1 stands
        for all rows or columns. Its other columns are kept.
    factors
        What the values are multiplied by.

    Returns
    -------
    Dataset
        ``loss`` (place, factor, prompt) and ``loss_baseline`` (prompt), nats, summed over the scored tokens
        of a prompt, NaN where the model gives one of them no probability; ``n_scored``
        (prompt), their number; the columns of `places`; the labels of the prompts.

    Raises
    ------
    InputError, InputTypeError
        A place is not in the model; no factor; no prompt is left, or none has a second token; `out` cannot
        be written or holds something else.

    Warns
    -----
    UserWarning
        The places do not say which prompts selected them.
    """
    if not isinstance(places, xr.Dataset) or not set(_NEEDED) <= set(places.variables):
        raise InputTypeError("places must be a Dataset with tensor, row and column, as top_places gives it")
    numbers = [real_number(f, "a factor") for f in factors]
    if not numbers or len(set(numbers)) < len(numbers):
        raise InputError(f"factors must be at least one number, each once; got {list(factors)}")
    location = Location.of(out)
    if not location.exists():
        location.check_new()
    paradigm = held_out(as_paradigm(paradigm), places.attrs.get("selected_on"), "places")
    loaded = load_model(model, device=device)
    check_scorable(loaded)
    names, spots = _spots(loaded.module, places)
    inputs = {
        **loaded.identity(),
        "paradigm_digest": paradigm.digest,
        "places": [[str(places[c].to_numpy()[i]) for c in _NEEDED] for i in range(places.sizes["place"])],
        "factors": numbers,
    }
    if location.exists():
        return reopen(location, inputs, "sweeps")
    tokens = scorable_tokens(loaded, paradigm)
    hidden = None if progress is None else not progress
    losses = np.empty((len(names), len(numbers), len(paradigm)))
    with loaded.evaluating():
        baseline = score_all(loaded, tokens)
        scored = ~np.isnan(baseline)
        for i in tqdm(range(len(names)), desc="sweep", unit="place", disable=hidden):
            for k, factor in enumerate(numbers):
                with changed(loaded.module, {names[i]: spots[i]}, "scale", factor, {}, 0):
                    losses[i, k] = summed_losses(score_all(loaded, tokens), scored)
    base = summed_losses(baseline, scored)
    ds = _dataset(places, numbers, losses, base, scored.sum(axis=1), paradigm, inputs)
    save_result(ds, str(location), derived_from=places.attrs.get("source") or None)
    return open_result(str(location))


def _spots(module: nn.Module, places: xr.Dataset) -> tuple[list[str], list[npt.NDArray[np.int64]]]:
    """Where each place is, counted through the rows of its tensor."""
    known = parameters_by_name(module)
    names = [str(n) for n in places["tensor"].to_numpy()]
    spots = []
    for name, row, column in zip(names, places["row"].to_numpy(), places["column"].to_numpy(), strict=True):
        if name not in known:
            raise InputError(f"the model has no weight tensor {name!r}; its first are {list(known)[:3]}")
        n_rows, n_columns = as_rows(known[name].detach()).shape
        if not (-1 <= row < n_rows and -1 <= column < n_columns):
            raise InputError(
                f"{name} has {n_rows} rows and {n_columns} columns; there is no ({row}, {column})"
            )
        rows = np.arange(n_rows) if row < 0 else np.array([row])
        columns = np.arange(n_columns) if column < 0 else np.array([column])
        spots.append((rows[:, None] * n_columns + columns).ravel())
    return names, spots


def summed_losses(logprob: npt.NDArray[np.float32], scored: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
    """Loss of each prompt, summed over its scored tokens; NaN where one of them has no log probability."""
    return np.asarray(-np.where(scored, logprob, 0.0).sum(axis=1, dtype=np.float64))


def _dataset(
    places: xr.Dataset,
    factors: list[float],
    losses: npt.NDArray[np.float64],
    base: npt.NDArray[np.float64],
    n_scored: npt.NDArray[np.int64],
    paradigm: Paradigm,
    inputs: dict[str, Any],
) -> xr.Dataset:
    about = {
        str(v): ("place", places[v].to_numpy()) for v in places.variables if places[v].dims == ("place",)
    }
    return xr.Dataset(
        {
            "loss": (("place", "factor", "prompt"), losses, {"units": "nats"}),
            "loss_baseline": ("prompt", base, {"units": "nats"}),
            "n_scored": ("prompt", n_scored),
        },
        coords={c: ("prompt", paradigm.table[c].to_numpy()) for c in paradigm.table}
        | {"factor": factors, "place": np.arange(len(losses))}
        | {name: values for name, values in about.items() if name != "place"},
        attrs={
            "kind": "region_sweep", "along": places.attrs.get("along", ""),
            "selected_on": list(places.attrs.get("selected_on", [])),
            "inputs": inputs, "inputs_digest": digest_json(inputs),
            "environment": library_versions(), "created": now(),
        },
    )  # fmt: skip
