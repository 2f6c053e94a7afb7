"""Random controls of a region: other parameters of the same tensors, as many, and where asked as large."""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import torch

from ..parameters import as_rows
from .lesions import Places

_BINS = 64  # of magnitude, in each of which a control has as many values as its region
Float = npt.NDArray[np.float32]


def control_places(
    region: Places, weights: Mapping[str, torch.Tensor], *, match: str, seed: list[int]
) -> Places:
    """Draw a random region that has as many values in each tensor, none of them the region's.

    A tensor more than half of which belongs to the region has too few others: there all others are
    taken, and the rest from the region itself.

    Parameters
    ----------
    region
        Tensor name -> places counted through its rows.
    weights
        The tensors.
    match
        "size", or "magnitude": also as many values in each of 64 bins of |weight|, whose edges are
        quantiles of the region; a bin with too few others leaves the rest to the next smaller one.
    seed
        Draws it.
    """
    out = {}
    for number, (name, own) in enumerate(region.items()):
        rng = np.random.default_rng([*seed, number])
        tensor = weights[name].detach()
        outside = np.ones(tensor.numel(), dtype=bool)
        outside[own] = False
        others = np.flatnonzero(outside)
        if len(others) <= len(own):
            rest = rng.choice(own, len(own) - len(others), replace=False)
            out[name] = np.sort(np.concatenate([others, rest]))
        elif match == "magnitude" and len(own):
            out[name] = np.sort(_alike(own, others, magnitudes(tensor), rng))
        else:
            out[name] = np.sort(rng.choice(others, len(own), replace=False, shuffle=False))
    return out


def magnitudes(tensor: torch.Tensor) -> Float:
    """|weight| of every value of a tensor, row after row."""
    values: Float = as_rows(tensor.detach()).reshape(-1).abs().float().cpu().numpy()
    return values


def _alike(
    own: npt.NDArray[np.int64], others: npt.NDArray[np.int64], magnitude: Float, rng: np.random.Generator
) -> npt.NDArray[np.int64]:
    """Draw as many of the others in each bin of magnitude, from the largest bin on."""
    n_bins = min(_BINS, len(own))
    edges = np.quantile(magnitude[own], np.linspace(0, 1, n_bins + 1)[1:-1])
    wanted = np.bincount(np.searchsorted(edges, magnitude[own]), minlength=n_bins)
    bin_of = np.searchsorted(edges, magnitude[others])
    drawn, missing = [], 0
    for b in range(n_bins - 1, -1, -1):
        members = others[bin_of == b]
        n = min(int(wanted[b]) + missing, len(members))
        missing += int(wanted[b]) - n
        drawn.append(rng.choice(members, n, replace=False, shuffle=False))
    chosen = np.concatenate(drawn)
    if missing:  # the smallest bins had too few too
        chosen = np.concatenate([chosen, rng.choice(np.setdiff1d(others, chosen), missing, replace=False)])
    return chosen


def size_of(region: Places) -> int:
    """Count the parameters of a region."""
    return sum(len(own) for own in region.values())


def mean_magnitude(region: Places, weights: Mapping[str, torch.Tensor]) -> float:
    """Mean |weight| over a region; NaN where it is empty."""
    if not size_of(region):
        return float("nan")
    total = 0.0
    for name, own in region.items():
        tensor = weights[name].detach()
        where = torch.from_numpy(own).to(tensor.device)
        total += float(tensor[torch.unravel_index(where, tensor.shape)].double().abs().sum())
    return total / size_of(region)
