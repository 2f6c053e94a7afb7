"""The section on connectivity: which networks vary together, where that differs, and the graph of it."""

from collections.abc import Sequence

import numpy as np
import xarray as xr

from .gather import Bool, Float64, Results
from .graphs import graph_gallery
from .heat import heat_cell
from .page import Block, Cell, Paragraph, Section, Table
from .wording import MISSING, count, decimal, isolate, plural, probability

_NO_TEXT = 24  # networks above which the numbers no longer fit
_MOST_EDGES = 66  # in a table of all conditions
_NODE = ("degree", "clustering", "betweenness", "community")
_SIGNIFICANT = 0.05
_ITSELF = "#e4e4e4"
_MINUS = "\u2212"


def connectivities(results: Results) -> Section | None:
    """Show the correlations of every condition, the differences that were tested, and the graphs."""
    blocks: list[Block] = []
    for ds in results.of("connectivity"):
        blocks += [Paragraph(_how(ds)), *_conditions(ds)]
    for ds in results.of("connectivity_difference"):
        for one in _contrasts(ds):
            blocks += [Paragraph(f"{difference_line(one)} Assumed: {_assumed(one)}."), _difference(one)]
    for ds in results.of("graph"):
        blocks += [Paragraph(_graph(ds)), graph_gallery(ds), _nodes(ds)]
    return Section("connectivity", "Connectivity", blocks) if blocks else None


def _contrasts(ds: xr.Dataset) -> list[xr.Dataset]:
    """Take apart the differences of several contrasts."""
    if "contrast" not in ds.dims:
        return [ds]
    names = [str(n) for n in ds["contrast"].to_numpy()]
    single = [ds.isel(contrast=i).assign_attrs(contrast=name) for i, name in enumerate(names)]
    return [
        one.assign_attrs(exchangeability=str(one["exchangeability"].item()))
        if "exchangeability" in one
        else one
        for one in single
    ]


def difference_line(ds: xr.Dataset) -> str:
    """State how many edges differ."""
    p = ds["p_corrected"].to_numpy()[np.triu_indices(ds.sizes["network"], 1)]
    kept, tested = int((p <= _SIGNIFICANT).sum()), int(np.isfinite(p).sum())
    n = ds.sizes["permutation"]
    return (
        f"Connectivity, {isolate(str(ds.attrs.get('contrast', 'a contrast')))}: {kept} of "
        f"{plural(tested, 'edge')} differ at p \u2264 {_SIGNIFICANT:g}, corrected for all edges "
        f"({plural(n, 'permutation')}; the smallest p they can give is {probability(1 / (1 + n))})."
    )


def correlation_cell(
    r: float, limit: float, *, text: bool = True, marked: bool = False, hint: str = ""
) -> Cell:
    """Colour a cell red where r is positive, blue where it is negative, the darkest at `limit`."""
    shown = (f"{round(r, 2) + 0.0:.2f}".replace("-", _MINUS) if np.isfinite(r) else MISSING) if text else ""
    palette = "Reds" if r > 0 else "Blues"
    return heat_cell(shown, abs(r), limit, palette=palette, marked=marked, hint=hint)


def _assumed(ds: xr.Dataset) -> str:
    return str(ds.attrs.get("exchangeability", "labels are exchangeable between prompts"))


def _how(ds: xr.Dataset) -> str:
    attrs = ds.attrs
    what = "Partial correlations, each given all other networks," if attrs.get("partial") else "Correlations"
    text = (
        f"{what} of the networks' time courses over a prompt's tokens, averaged over prompts by Fisher's z."
    )
    if attrs.get("shrinkage", "none") != "none":
        text += " Those of each prompt are shrunk after Ledoit and Wolf."
    n = ds.sizes["prompt"] - int(attrs.get("n_left_out", 0))
    text += f" From {plural(n, 'prompt')}"
    if attrs.get("n_left_out"):
        text += (
            f"; {count(attrs['n_left_out'])} with fewer than {attrs.get('fewest_tokens', 4)} tokens left out"
        )
    return f"{text}."


def _conditions(ds: xr.Dataset) -> list[Block]:
    """Lay out one matrix a condition; of several conditions and few networks, one table of all edges."""
    names = [str(n) for n in ds["network"].to_numpy()]
    several = ds.sizes["condition"] > 2 and len(names) * (len(names) - 1) / 2 <= _MOST_EDGES
    maps = ("correlation", "low", "high", "n_prompts")
    values = {v: ds[v].transpose("condition", "network", "network_other").to_numpy() for v in maps}
    limit = _limit(values["correlation"])
    hints = [_hints(names, *own) for own in zip(*values.values(), strict=True)]
    conditions = [str(c) for c in ds["condition"].to_numpy()]
    meaning = (
        f"Red: positive, blue: negative, darkest from \u00b1{limit:.2f} on. The 95 % interval over prompts "
        "shows when the mouse rests on a cell."
    )
    if several:
        rows = [
            (
                f"{names[i]}, {names[j]}",
                [
                    correlation_cell(float(r[i, j]), limit, hint=f"{conditions[c]}: {hints[c][i][j]}")
                    for c, r in enumerate(values["correlation"])
                ],
            )
            for i, j in zip(*np.triu_indices(len(names), 1), strict=True)
        ]
        caption = f"Correlation of every two networks in every condition. {meaning}"
        return [Table("networks", conditions, rows, caption, True)]
    return [
        _matrix(names, r, limit, f"{isolate(c)}: correlation of every two networks. {meaning}", hint)
        for c, r, hint in zip(conditions, values["correlation"], hints, strict=True)
    ]


def _hints(names: Sequence[str], r: Float64, low: Float64, high: Float64, n: Float64) -> list[list[str]]:
    """Say of every two networks their correlation, its interval, and from how many prompts."""
    return [
        [
            f"{a}, {b}: r = {decimal(r[i, j])} [{decimal(low[i, j])}, {decimal(high[i, j])}], "
            f"{plural(n[i, j], 'prompt')}"
            for j, b in enumerate(names)
        ]
        for i, a in enumerate(names)
    ]


def _difference(ds: xr.Dataset) -> Table:
    names = [str(n) for n in ds["network"].to_numpy()]
    effect, stat, p = (
        ds[v].transpose("network", "network_other").to_numpy() for v in ("effect", "stat", "p_corrected")
    )
    hints = [
        [
            f"{a}, {b}: {decimal(effect[i, j])}, t = {decimal(stat[i, j])}, "
            f"corrected p = {probability(p[i, j])}"
            for j, b in enumerate(names)
        ]
        for i, a in enumerate(names)
    ]
    limit = _limit(effect)
    caption = (
        f"Difference of Fisher's z, {isolate(str(ds.attrs.get('contrast', '')))}. Red: positive, blue: "
        f"negative, darkest from \u00b1{limit:.2f} on. Outlined: corrected p \u2264 {_SIGNIFICANT:g}."
    )
    return _matrix(names, effect, limit, caption, hints, p <= _SIGNIFICANT)


def _limit(values: Float64) -> float:
    """Return the largest magnitude off the diagonal."""
    apart = values[..., ~np.eye(values.shape[-1], dtype=bool)]
    return float(np.abs(apart[np.isfinite(apart)]).max(initial=0.0))


def _matrix(
    names: Sequence[str],
    values: Float64,
    limit: float,
    caption: str,
    hints: Sequence[Sequence[str]],
    marked: Bool | None = None,
) -> Table:
    rows = []
    for i, name in enumerate(names):
        cells = []
        for j in range(len(names)):
            if i == j:
                cells.append(Cell("", colour=_ITSELF))
                continue
            outlined = marked is not None and bool(marked[i, j])
            text = len(names) <= _NO_TEXT
            cells.append(
                correlation_cell(float(values[i, j]), limit, text=text, marked=outlined, hint=hints[i][j])
            )
        rows.append((name, cells))
    return Table("network", list(names), rows, caption, True)


def _graph(ds: xr.Dataset) -> str:
    rule = (
        f"the strongest {100 * float(ds.attrs['density']):g} % of the pairs, as far as they are positive"
        if "density" in ds.attrs
        else f"pairs with a correlation of {float(ds.attrs.get('threshold', 0)):g} or more"
    )
    return f"Graphs: networks are nodes, and the edges are {rule}. A description, without a test."


def _nodes(ds: xr.Dataset) -> Table:
    """Tabulate the edges of every network in every condition, and what each graph is as a whole."""
    conditions = [str(c) for c in ds["condition"].to_numpy()]
    one = {v: ds[v].transpose("condition", "network").to_numpy() for v in _NODE}
    limit = float(one["degree"].max(initial=0))
    rows = [
        (
            str(name),
            [
                heat_cell(
                    count(int(one["degree"][c, i])),
                    float(one["degree"][c, i]),
                    limit,
                    hint=f"{name}, {condition}: clustering {decimal(one['clustering'][c, i])}, betweenness "
                    f"{decimal(one['betweenness'][c, i])}, community {int(one['community'][c, i]) + 1}",
                )
                for c, condition in enumerate(conditions)
            ],
        )
        for i, name in enumerate(ds["network"].to_numpy())
    ]
    rows.append(("edges", [Cell(count(int(n))) for n in ds["n_edges"].to_numpy()]))
    rows.append(("modularity", [Cell(decimal(float(x))) for x in ds["modularity"].to_numpy()]))
    caption = (
        "Edges of every network in every condition, darker: more; its clustering, betweenness and community "
        "show when the mouse rests on a cell. Modularity: edges inside communities beyond those expected."
    )
    return Table("network", conditions, rows, caption, True)
