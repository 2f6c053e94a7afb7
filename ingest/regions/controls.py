"""Random controls of a region: as many parameters of the same tensors, or as many of each size, or lines."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, get_args

import numpy as np
import numpy.typing as npt
import torch

from ...store.errors import InputError
from ..controls import strata
from ..parameters import as_rows
from .lesions import Places

Match = Literal["size", "magnitude", "lines"]
MATCHES: Final[tuple[Match, ...]] = get_args(Match)
_BINS = 64  # of |weight|, of which strata are made
_SAMPLED = 2**16  # values that say where the bins of a tensor end
Int = npt.NDArray[np.int64]
Float32 = npt.NDArray[np.float32]


class Controls:
    """Random regions that have as many parameters in each tensor as a region, any of them.

    The region's own may be among them: so a region that is nothing but a random choice is exchangeable
    with its controls, and p against them is uniform. Controls that avoid the region are not: the larger
    it is, the fewer parameters are left to them.

    With ``match="magnitude"`` they have as many parameters in each stratum of |weight| too. Strata are
    made as for neurons (`ingest.controls.matched_controls`), of 64 bins of a tensor that are about equally
    full and do not depend on the region.

    With ``match="lines"`` they are as many whole rows, or columns, of each tensor, any of them.

    Parameters
    ----------
    region
        Tensor name -> places counted through its rows.
    weights
        The tensors.
    match
        "size", "magnitude" or "lines".

    Raises
    ------
    InputError
        Lines are asked for, and in some tensor the region is neither whole rows nor whole columns, nor a
        single value.
    """

    def __init__(self, region: Places, weights: Mapping[str, torch.Tensor], match: Match) -> None:
        self._region, self._weights = region, weights
        self._lines: dict[str, _Lines] = {}
        if match == "lines":
            self._lines = {name: _Lines.of(own, weights[name], name) for name, own in region.items()}
        self._ends: dict[str, Float32] = {}  # the largest |weight| of each stratum but the last
        if match == "magnitude":
            self._ends = {name: _ends(weights[name], own) for name, own in region.items()}

    def draw(self, seed: Sequence[int]) -> Places:
        """Draw one; its places are in order."""
        out = {}
        for number, (name, own) in enumerate(self._region.items()):
            rng, tensor = np.random.default_rng([*seed, number]), self._weights[name]
            if name in self._lines:
                places = self._lines[name].draw(rng)
            elif name in self._ends:
                places = _stratified(tensor, own, self._ends[name], rng)
            else:
                places = rng.choice(tensor.numel(), len(own), replace=False, shuffle=False)
            out[name] = np.sort(places)
        return out


@dataclass(frozen=True)
class _Lines:
    """So many rows, columns or, where `along` is "value", values of a tensor (row, column)."""

    along: str
    n: int
    shape: tuple[int, int]

    @classmethod
    def of(cls, own: Int, tensor: torch.Tensor, name: str) -> "_Lines":
        n_rows, n_columns = as_rows(tensor.detach()).shape
        rows, columns = np.unique(own // n_columns), np.unique(own % n_columns)
        for along, lines, length in (("row", rows, n_columns), ("column", columns, n_rows)):
            if len(own) == len(lines) * length:
                return cls(along, len(lines), (n_rows, n_columns))
        if len(own) == 1:
            return cls("value", 1, (n_rows, n_columns))
        raise InputError(
            f"match='lines' needs whole rows, whole columns or a single value of a tensor; of {name} the "
            f"region is {len(own)} values in {len(rows)} rows and {len(columns)} columns; use match='size'"
        )

    def draw(self, rng: np.random.Generator) -> Int:
        """Draw as many others of the same kind, any of them."""
        n_rows, n_columns = self.shape
        of = {"row": n_rows, "column": n_columns, "value": n_rows * n_columns}[self.along]
        lines = rng.choice(of, self.n, replace=False, shuffle=False)
        if self.along == "row":
            return (lines[:, None] * n_columns + np.arange(n_columns)).ravel()
        if self.along == "column":
            return (np.arange(n_rows)[:, None] * n_columns + lines).ravel()
        return np.asarray(lines)


def magnitudes(tensor: torch.Tensor, places: Int) -> Float32:
    """|weight| at some places of a tensor, counted through its rows."""
    where = torch.from_numpy(places).to(tensor.device)
    values: Float32 = tensor.detach().reshape(-1)[where].abs().float().cpu().numpy()
    return values


def _ends(tensor: torch.Tensor, own: Int) -> Float32:
    every = max(1, tensor.numel() // _SAMPLED)
    sample = magnitudes(tensor, np.arange(0, tensor.numel(), every))
    known = sample[~np.isnan(sample)]
    if not len(known):
        return np.empty(0, dtype=np.float32)
    ends = np.quantile(known, np.arange(1, _BINS) / _BINS, method="lower")
    members, taken = (
        np.bincount(np.searchsorted(ends, values), minlength=_BINS)
        for values in (sample, magnitudes(tensor, own))
    )
    parts = strata(members * every, taken)
    return np.asarray([ends[part.stop - 1] for part in parts[:-1]], dtype=np.float32)


def _stratified(tensor: torch.Tensor, own: Int, ends: Float32, rng: np.random.Generator) -> Int:
    """Draw as many values of each stratum as there are of the region.

    Values are drawn from anywhere, and the first of each stratum taken; more are drawn where they do not do.
    """
    wanted = np.bincount(np.searchsorted(ends, magnitudes(tensor, own)), minlength=len(ends) + 1)
    n_drawn = 2 * len(own)
    while True:
        n_drawn = min(2 * n_drawn, tensor.numel())
        places = rng.choice(tensor.numel(), n_drawn, replace=False)
        stratum = np.searchsorted(ends, magnitudes(tensor, places))
        taken = [places[stratum == s][:n] for s, n in enumerate(wanted.tolist()) if n]
        if sum(map(len, taken)) == len(own):
            return np.concatenate([places[:0], *taken])


def size_of(region: Places) -> int:
    """Count the parameters of a region."""
    return sum(len(own) for own in region.values())


def shared(region: Places, control: Places) -> float:
    """Share of a control's parameters that are the region's own; NaN for a control without any."""
    n = size_of(control)
    both = [np.intersect1d(region[name], places, assume_unique=True) for name, places in control.items()]
    return sum(map(len, both)) / n if n else float("nan")


def mean_magnitude(region: Places, weights: Mapping[str, torch.Tensor]) -> float:
    """Mean |weight| over a region; NaN where it is empty."""
    if not size_of(region):
        return float("nan")
    total = sum(magnitudes(weights[name], own).sum(dtype=np.float64) for name, own in region.items())
    return float(total) / size_of(region)
