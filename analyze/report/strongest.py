"""The table of the strongest neurons of each contrast."""

from collections.abc import Sequence
from typing import Final

import numpy as np

from ..kept_neurons import strongest_first
from .gather import Map, Network
from .page import Block, Cell, Table
from .wording import MISSING, decimal, probability

_SHOWN: Final = 5  # of each contrast
_TESTS: Final = {
    "effect": ("effect", decimal),
    "stat": ("statistic", decimal),
    "z_score": ("z", decimal),
    "p_value": ("p", probability),
    "p_corrected": ("p corrected", probability),
}


def strongest(maps: Sequence[Map], networks: Sequence[Network | None]) -> list[Block]:
    """Tabulate the neurons with the largest statistic: of those kept, where a network was given."""
    shown = [v for v in _TESTS if any(v in m.tests for m in maps)]
    rows = [
        row
        for map_, network in zip(maps, networks, strict=True)
        for row in _rows(map_, network, shown)
    ]  # fmt: skip
    if not rows:
        return []
    caption = (
        f"The {_SHOWN} strongest neurons of each contrast: those kept with the largest statistic, and where "
        "no network was given those of the largest magnitude. p is that of the neuron alone, of both sides"
        + ("; corrected, of all neurons of the map." if "p_corrected" in shown else ".")
    )
    return [Table("contrast", ["layer", "neuron", *(_TESTS[v][0] for v in shown)], rows, caption)]


def _rows(map_: Map, network: Network | None, shown: Sequence[str]) -> list[tuple[str, list[Cell]]]:
    kept = np.isfinite(map_.stat) if network is None else network.mask
    at = strongest_first(map_.stat, kept, network is None or network.two_sided)[:_SHOWN]
    layer, neuron = np.unravel_index(at, map_.stat.shape)
    return [
        (
            map_.name if i == 0 else "",
            [
                Cell(str(map_.layers[int(layer[i])])),
                Cell(str(map_.neurons[int(neuron[i])])),
                *(_cell(map_, v, int(place)) for v in shown),
            ],
        )
        for i, place in enumerate(at)
    ]


def _cell(map_: Map, test: str, place: int) -> Cell:
    if test not in map_.tests:
        return Cell(MISSING)
    return Cell(_TESTS[test][1](float(map_.tests[test].ravel()[place])))
