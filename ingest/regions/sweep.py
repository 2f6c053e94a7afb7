"""Sweeps: one parameter, row or column at a time, multiplied by several factors."""

import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import xarray as xr
from torch import nn
from tqdm import tqdm

from ...store.arguments import real_number
from ...store.errors import InputError, InputTypeError
from ...store.location import Location
from ...store.paradigm import Paradigm, as_paradigm
from ...store.provenance import library_versions, now
from ...store.selection import Selection, joined_selection
from ...store.unit_archive import Allocation, Field, Grid, UnitArchive, check_place, make_units
from ..held_out import held_out
from ..labels import check_labels
from ..models import LoadedModel, ModelLike, load_model
from ..parameters import as_rows, parameters_by_name
from ..tokens import Tokens
from .lesions import changed
from .losses import check_scorable, scorable_tokens, scored_tokens, summed_losses

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

    An interrupted run goes on with the first place that is not scored when the same call is made again,
    to the same numbers; a finished one is opened.

    Parameters
    ----------
    model, device, progress
        As for `record`.
    paradigm
        The texts to score; those in ``places.attrs["selected_on"]`` are left out.
    out
        Where the result is saved.
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
        A place is not in the model; no factor; no prompt is left, or none has a second token; a label of
        the prompts has a name that the result needs; `out` cannot be written or holds something else.

    Warns
    -----
    UserWarning
        The places do not say which prompts selected them.
    """
    if not isinstance(places, xr.Dataset) or not set(_NEEDED) <= set(places.variables):
        raise InputTypeError("places must be a Dataset with tensor, row and column, as top_places gives it")
    if not places.sizes.get("place") or any(places[c].dtype.kind not in "iu" for c in ("row", "column")):
        raise InputTypeError("places must name at least one place along `place`, by whole numbers")
    numbers = [real_number(f, "a factor") for f in factors]
    if not numbers or len(set(numbers)) < len(numbers) or np.isnan(numbers).any():
        raise InputError(f"factors must be at least one number, each once; got {list(factors)}")
    location = Location.of(out)
    check_place(location, "region_sweep", "sweeps")
    paradigm = as_paradigm(paradigm)
    check_labels(paradigm, "region_sweep", _columns(places))
    paradigm = held_out(paradigm, Selection.noted(places.attrs), "places")
    loaded = load_model(model, device=device)
    check_scorable(loaded)
    names, spots = _spots(loaded.module, places)
    sweeping = _Sweep(loaded, scorable_tokens(loaded, paradigm), places, names, spots, numbers)
    columns = {name: [str(v) for v in values.to_numpy()] for name, values in _columns(places).items()}
    inputs = {
        **loaded.identity(), "device": loaded.device.type, "paradigm_digest": paradigm.digest,
        "places": columns, "factors": numbers,
    }  # fmt: skip
    return make_units(
        location, inputs, "sweeps", lambda: sweeping.allocation(paradigm),
        lambda archive: sweeping.fill(archive, progress),
    )  # fmt: skip


def _columns(places: xr.Dataset) -> dict[str, xr.DataArray]:
    """Return what is said of each place, by name."""
    return {str(v): places[v] for v in places.variables if places[v].dims == ("place",) and v != "place"}


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


@dataclass(frozen=True)
class _Sweep:
    """What is scored: the texts with each place multiplied, a unit each."""

    model: LoadedModel
    tokens: Tokens
    places: xr.Dataset
    names: list[str]
    spots: list[npt.NDArray[np.int64]]
    factors: list[float]

    def allocation(self, paradigm: Paradigm) -> Allocation:
        """Score the texts as they are, describe places and prompts, and say what is to be filled."""
        with self.model.evaluating():
            baseline = summed_losses(self.model, self.tokens)
        source = self.places.attrs.get("source")
        n = len(self.names)
        known = xr.Dataset(
            {
                "loss_baseline": ("prompt", baseline, {"units": "nats"}),
                "n_scored": ("prompt", scored_tokens(self.tokens).sum(axis=1)),
            },
            coords={str(c): ("prompt", paradigm.table[c].to_numpy()) for c in paradigm.table}
            | {"factor": self.factors, "place": np.arange(n)}
            | {name: ("place", values.to_numpy()) for name, values in _columns(self.places).items()},
            attrs={
                "kind": "region_sweep", "along": self.places.attrs.get("along", ""),
                **joined_selection(self.places.attrs).attrs,
                **({"derived_from": [source]} if source else {}),
                "environment": library_versions(), "created": now(),
            },
        )  # fmt: skip
        shape = (n, len(self.factors), len(baseline))
        loss = Field("loss", ("place", "factor", "prompt"), shape, "float64", float("nan"), {"units": "nats"})
        return Allocation(known, [loss], Grid({"place": n}, {"place": 1}))

    def fill(self, archive: UnitArchive, progress: bool | None) -> None:
        """Score the places that are missing, each with every factor."""
        hidden = None if progress is None else not progress
        with self.model.evaluating():
            for i in tqdm(archive.pending(), desc="sweep", unit="place", disable=hidden):
                losses = []
                for factor in self.factors:
                    with changed(self.model.module, {self.names[i]: self.spots[i]}, "scale", factor, {}, 0):
                        losses.append(summed_losses(self.model, self.tokens))
                archive.write(i, {"loss": np.stack(losses)[None]})
