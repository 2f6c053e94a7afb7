"""Tables whose cells are coloured by their value: text of any script, and readable when printed."""

from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from matplotlib.colors import to_hex

from .page import Cell, Table
from .wording import MISSING, count, decimal, probability, share

_DARKEST = 0.85  # of the palette: text stays readable on it
_NO_TEXT = 32  # networks above which the numbers no longer fit


def heat_cell(
    text: str,
    value: float,
    limit: float,
    *,
    palette: str = "Blues",
    note: str = "",
    marked: bool = False,
    hint: str = "",
) -> Cell:
    """Colour a cell from white (0 or less, or no value) to the palette's dark end (`limit` or more)."""
    fraction = float(np.clip(value / limit, 0.0, 1.0)) if np.isfinite(value) and limit > 0 else 0.0
    if fraction == 0.0:
        return Cell(text, note, "", False, marked, hint=hint)
    red, green, blue, _ = mpl.colormaps[palette](_DARKEST * fraction)
    light = 0.299 * red + 0.587 * green + 0.114 * blue < 0.52
    return Cell(text, note, to_hex((red, green, blue)), light, marked, hint=hint)


def counts_table(
    names: Sequence[str], counts: Sequence[dict[int, int]], totals: Sequence[int], caption: str
) -> Table:
    """Tabulate kept neurons per network and layer; layers go down where there are many.

    Parameters
    ----------
    names
        Of the networks.
    counts
        Kept neurons by layer of each network.
    totals
        Neurons that each network was chosen from.
    """
    layers = sorted({layer for c in counts for layer in c})
    limit = max((n for c in counts for n in c.values()), default=0)
    cells = {
        (name, layer): heat_cell(count(c[layer]) if layer in c else MISSING, c.get(layer, 0), limit)
        for name, c in zip(range(len(names)), counts, strict=True)
        for layer in layers
    }
    sizes = [sum(c.values()) for c in counts]
    sums = [Cell(count(n)) for n in sizes]
    shares = [Cell(share(n, total)) for n, total in zip(sizes, totals, strict=True)]
    if len(layers) <= 20:
        rows = [
            (name, [sums[i], shares[i], *(cells[i, layer] for layer in layers)])
            for i, name in enumerate(names)
        ]
        return Table(
            "network",
            ["neurons", "share", *(f"layer {i}" if len(layers) < 9 else str(i) for i in layers)],
            rows,
            caption,
            True,
        )
    rows = [("neurons", sums), ("share", shares)]
    rows += [(f"layer {layer}", [cells[i, layer] for i in range(len(names))]) for layer in layers]
    return Table("", list(names), rows, caption, True)


def overlap_table(
    values: npt.NDArray[np.float64],
    intersection: npt.NDArray[np.int64],
    names: Sequence[str],
    others: Sequence[str],
    caption: str,
    chance: tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]] | None = None,
) -> Table:
    """Tabulate overlaps; in a set with itself, what a network has with itself is left without colour.

    `chance` holds the neurons expected in both, and the p of as many as there are.
    """
    diagonal = np.diagonal(values)
    one_set = list(names) == list(others) and bool(np.all((diagonal == 1) | np.isnan(diagonal)))
    itself = np.eye(len(values)) > 0 if one_set else np.zeros(values.shape, dtype=bool)
    apart = values[~itself & np.isfinite(values)]
    limit = float(apart.max(initial=0.0))
    rows = []
    for i, name in enumerate(names):
        cells = []
        for j, other in enumerate(others):
            value = float(values[i, j])
            text = MISSING if np.isnan(value) else "0" if value == 0 else f"{value:.2f}"
            hint = f"{name}, {other}: {text}, {count(intersection[i, j])} neurons in both"
            shown = text if max(values.shape) <= _NO_TEXT else ""
            note = ""
            if chance is not None and chance[0][i, j] > 0:
                expected, p = float(chance[0][i, j]), float(chance[1][i, j])
                hint += f"; {decimal(expected)} expected by chance, p = {probability(p)}"
                note = f"{decimal(intersection[i, j] / expected)} \u00d7" if shown else ""
            if itself[i, j]:
                cells.append(Cell(shown, colour="#e4e4e4", hint=hint))
            else:
                cells.append(heat_cell(shown, value, limit, note=note, marked=name == other, hint=hint))
        rows.append((name, cells))
    caption += f" Darker: more, up to {limit:.2f}. " + (
        "Grey: a network with itself." if one_set else "Outlined: networks of the same name."
    )
    return Table("network", list(others), rows, caption, True)


def confusion_table(
    confusion: npt.NDArray[np.int64], true: Sequence[str], named: Sequence[str], caption: str
) -> Table:
    """Tabulate which condition was named for prompts of each; coloured by the share of the row."""
    rows = []
    for i, name in enumerate(true):
        total = max(int(confusion[i].sum()), 1)
        cells = [
            heat_cell(count(n) if n else "·", n / total, 1.0, marked=name == other)
            for n, other in zip(confusion[i].tolist(), named, strict=True)
        ]
        rows.append((name, cells))
    return Table("true", list(named), rows, caption, True)
