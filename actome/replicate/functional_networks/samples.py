"""Samples of a data set: those that the templates are made from, and others to find them in."""

from dataclasses import dataclass

import numpy as np
import xarray as xr

from ...store.errors import InputError
from ...store.paradigm import Paradigm

_FEWEST = 4  # samples of a data set


@dataclass(frozen=True)
class Samples:
    """Two halves of what is shown of a data set.

    Attributes
    ----------
    paradigm
        The prompts of both.
    group, single
        Names of the prompts.
    """

    paradigm: Paradigm
    group: list[str]
    single: list[str]

    @property
    def name(self) -> str:
        """What the data set is called."""
        return self.paradigm.name

    def group_of(self, recording: xr.Dataset) -> xr.Dataset:
        """Return what was recorded of those that make the templates."""
        return _rows(recording, self.group)

    def single_of(self, recording: xr.Dataset) -> xr.Dataset:
        """Return what was recorded of the others."""
        return _rows(recording, self.single)


def draw(paradigm: Paradigm, n: int, seed: int) -> Samples:
    """Draw twice `n` prompts, or all if there are fewer; of a design, those between rests only.

    Raises
    ------
    InputError
        There are fewer than four.
    """
    table = paradigm.table
    if paradigm.design is not None and paradigm.design.rest is not None:
        table = table[table["condition"] != paradigm.design.rest]
    names = table["prompt"].tolist()
    n = min(n, len(names) // 2)
    if 2 * n < _FEWEST:
        raise InputError(f"the data set {paradigm.name!r} has {len(names)} samples, fewer than {_FEWEST}")
    drawn = np.random.default_rng(seed).permutation(len(names))
    group, single = ({names[i] for i in part} for part in (drawn[:n], drawn[n : 2 * n]))
    return Samples(
        paradigm.select(prompt=sorted(group | single)),
        [p for p in names if p in group],
        [p for p in names if p in single],
    )


def _rows(recording: xr.Dataset, prompts: list[str]) -> xr.Dataset:
    return recording.isel(prompt=np.flatnonzero(recording["prompt"].isin(prompts).to_numpy()))
