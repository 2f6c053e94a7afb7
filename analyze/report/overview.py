"""One row a component: how surely it is there, what it follows, and what it looks like."""

from collections.abc import Sequence

import numpy as np
import xarray as xr

from ..components.map_thresholds import FAR_OUT
from .gather import Map, Network, Results
from .page import Block, Cell, Table
from .wording import MISSING, count, decimal, isolate, plural, probability

_LISTED = 14  # components in a line
_LEVEL = 0.05  # of the overlap with any of the other networks
_MINUS = "\u2212"
_SURENESS = {
    "stability": "stability",
    "found_again": "found again",
    "split_half": "halves",
    "split_half_dice": "halves, Dice",
    "departure": "departure",
}
_MEANING = {
    "p": "p: share of draws of chance whose largest component has as much stability, or departure if that "
    "is more often; corrected for the number of components.",
    "found again": "Found again: correlation of the map with the one that bootstrapped repeats give in its "
    "place, one to one, whose stability is given; the map itself is of a single run.",
    "halves": "Halves: correlation of the maps that two halves of the subjects give for it; of a network .5 "
    "at least.",
    "halves, Dice": f"Dice: of the neurons above z = {FAR_OUT.value:g} in these two maps.",
    "departure": "Departure: how far its source is from Gaussian; for one, chance gives about 1. Alone it "
    "decides nothing.",
    "follows": "Follows: the condition that its time course correlates with most over prompts, of those with "
    "a corrected p of at most {alpha:g}; in brackets the correlation.",
    "map most like": "Map most like: the contrast that its map correlates with most over neurons, in "
    "brackets; no p, as neurons are not independent.",
    "shares most with": "Shares most with: the network of the other set with the smallest p for as many "
    "neurons in common, if that is at most 0.05 over their number; how many of the component's neurons those "
    "are, and how many times as many as by chance.",
}


def overview(
    ds: xr.Dataset, maps: Sequence[Map], networks: Sequence[Network | None], results: Results
) -> list[Block]:
    """Tabulate the components of a decomposition, with their labels and overlaps where these were given."""
    columns = _sureness(maps)
    if any(networks):
        columns["neurons"] = [Cell(MISSING if n is None else count(int(n.mask.sum()))) for n in networks]
    labels = _labels_of(ds, results)
    if labels is not None:
        columns |= _labelled(labels)
    shared = _overlap_of(ds, results)
    if shared is not None:
        columns["shares most with"] = _sharing(shared, [m.name for m in maps])
    if not columns:
        return []
    alpha = 0.05 if labels is None else float(labels.attrs.get("alpha", 0.05))
    caption = " ".join(text.format(alpha=alpha) for name, text in _MEANING.items() if name in columns)
    rows = [(m.name, [cells[i] for cells in columns.values()]) for i, m in enumerate(maps)]
    return [Table("component", list(columns), rows, caption)]


def _labels_of(ds: xr.Dataset, results: Results) -> xr.Dataset | None:
    """Find the labels of these components."""
    for labels in results.of("component_labels"):
        if _same(ds, labels) and np.array_equal(labels["component"], ds["component"]):
            return labels
    return None


def _overlap_of(ds: xr.Dataset, results: Results) -> xr.Dataset | None:
    """Find the overlap of networks of these components with others, beside chance."""
    own = {f"ic{i}" for i in ds["component"].to_numpy().tolist()}
    for overlap in results.of("overlap"):
        names, others = ({str(n) for n in overlap[d].to_numpy()} for d in ("network", "network_other"))
        if _same(ds, overlap) and "p_value" in overlap and names <= own and not others <= own:
            return overlap
    return None


def _same(ds: xr.Dataset, other: xr.Dataset) -> bool:
    """Whether both say the same of where they come from."""
    return all(ds.attrs.get(k, "") == other.attrs.get(k, "") for k in ("title", "source"))


def follows(labels: xr.Dataset, i: int) -> str:
    """Say which condition a component follows, "" if none."""
    name = str(labels["label"].to_numpy()[i]) if "label" in labels else ""
    if not name:
        return ""
    falls = "falls in " if int(labels["label_sign"][i]) < 0 else ""
    r = float(labels["correlation"].sel(condition=name)[i])
    return f"{falls}{isolate(name)} ({_two_digits(r)})"


def decomposition_line(ds: xr.Dataset, maps: Sequence[Map], results: Results) -> str:
    """Say in a line how sure the components are, which are networks, and which conditions these follow."""
    title = str(ds.attrs.get("title", ""))
    head = f"{title}: " if title else ""
    stability = np.array([m.coords.get("stability", np.nan) for m in maps])
    told = plural(len(maps), "component")
    if maps and np.isfinite(stability).all():
        told += f", stability {stability.min():.2f} to {stability.max():.2f}"
    labels = _labels_of(ds, results)
    followed = [""] * len(maps) if labels is None else [follows(labels, i) for i in range(len(maps))]
    if not maps or not all("is_network" in m.coords for m in maps):
        told += "" if labels is None else f"; {sum(map(bool, followed))} follow a condition"
        return f"{head}{told}."
    sure = [i for i, m in enumerate(maps) if m.coords["is_network"]]
    told += f"; {len(sure)} beat chance"
    if sure:
        told += f": {_named(maps, followed, sure)}"
    if labels is not None and len(sure) < len(maps):
        others = sum(bool(text) for i, text in enumerate(followed) if i not in sure)
        told += f"; of the other {len(maps) - len(sure)}, {others} follow a condition"
    return f"{head}{told}."


def _named(maps: Sequence[Map], followed: Sequence[str], which: Sequence[int]) -> str:
    """List components, with the condition that each follows."""
    listed = ", ".join(f"{maps[i].name} {followed[i]}".strip() for i in which[:_LISTED])
    return f"{listed} and {len(which) - _LISTED} more" if len(which) > _LISTED else listed


def _sureness(maps: Sequence[Map]) -> dict[str, list[Cell]]:
    """Tabulate what the repeats, the halves and the null say."""
    known = [m.coords for m in maps]
    if not known:
        return {}
    columns: dict[str, list[Cell]] = {}
    if "window" in known[0]:
        columns["from layer"] = [Cell(str(int(c["window"]))) for c in known]
    if "is_network" in known[0]:
        verdicts = ["network" if c["is_network"] else "not a network" for c in known]
        columns["against chance"] = [Cell(v, prose=True) for v in verdicts]
        columns["p"] = [Cell(probability(c["p_value"])) for c in known]
    for name, heading in _SURENESS.items():
        values = [c.get(name, np.nan) for c in known]
        if np.isfinite(values).any():
            columns[heading] = [Cell(decimal(x) if np.isfinite(x) else MISSING) for x in values]
    return columns


def _labelled(labels: xr.Dataset) -> dict[str, list[Cell]]:
    n = labels.sizes["component"]
    columns: dict[str, list[Cell]] = {}
    if "label" in labels:
        columns["follows"] = [Cell(follows(labels, i) or MISSING, prose=True) for i in range(n)]
    if "map_label" in labels:
        r = labels["map_correlation"].transpose("component", "contrast")
        alike = labels["map_label"].to_numpy().tolist()
        like = [float(r[i].sel(contrast=name)) if name else np.nan for i, name in enumerate(alike)]
        columns["map most like"] = [
            Cell(f"{isolate(name)} ({_two_digits(x)})" if name else MISSING, prose=True)
            for name, x in zip(alike, like, strict=True)
        ]
    return columns


def _sharing(shared: xr.Dataset, names: Sequence[str]) -> list[Cell]:
    """Name the other network that each shares more neurons with than chance gives."""
    rows = {str(n): i for i, n in enumerate(shared["network"].to_numpy())}
    others = [str(n) for n in shared["network_other"].to_numpy()]
    variables = ("intersection", "expected", "p_value", "size")
    both, expected, p, size = (shared[v].transpose("network", ...).to_numpy() for v in variables)
    cells = []
    for i in (rows.get(name) for name in names):
        if i is None or not both[i].any():
            cells.append(Cell(MISSING, prose=True))
            continue
        j = int(np.nanargmin(np.where(both[i] > 0, p[i], np.nan)))
        if p[i, j] > _LEVEL / len(others):
            cells.append(Cell(MISSING, prose=True))
            continue
        times = decimal(both[i, j] / expected[i, j])
        text = f"{isolate(others[j])}: {count(both[i, j])} of {count(size[i])}, {times} \u00d7"
        cells.append(Cell(text, prose=True, hint=f"p = {probability(float(p[i, j]))}"))
    return cells


def _two_digits(r: float) -> str:
    return f"{r:.2f}".replace("-", _MINUS)
