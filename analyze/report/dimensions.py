"""The section on dimensions: whether regions gather in rows and columns, and single ones perturbed."""

import numpy as np
import xarray as xr

from ..regions.tables import scalar_table
from .effects import span
from .gather import Results
from .heat import heat_cell
from .page import Block, Cell, Paragraph, Section, Table
from .wording import MISSING, count, decimal, percent, plural, probability, share

_LINES = ("row", "column")
_MOST = 40  # places in a table


def dimensions(results: Results) -> Section | None:
    """Show the concentration of regions by type of matrix, and the perplexity of each perturbation."""
    blocks: list[Block] = []
    for ds in results.of("concentration"):
        blocks += [Paragraph(_how(ds)), *(_concentration(ds, i) for i in range(ds.sizes["region"]))]
    blocks += [_sweep(ds) for ds in results.of("sweep_effects")]
    return Section("dimensions", "Rows, columns and single parameters", blocks) if blocks else None


def _how(ds: xr.Dataset) -> str:
    lines, draws = float(ds.attrs["lines"]), ds.sizes["draw"]
    text = (
        f"Share of a region that lies in the fullest {percent(lines)} of the rows, or columns, of a matrix, "
        "and the Gini index of the numbers in its rows or columns: 0 where all hold as many, near 1 where "
        "one holds all."
    )
    beside = f" Beside: the mean of {plural(draws, 'random region')} of the same size."
    return text + (beside if draws else "")


def _concentration(ds: xr.Dataset, i: int) -> Table:
    """Tabulate one region: a row a type of matrix, the mean over its tensors."""
    one = ds.isel(region=i)
    kinds = one["matrix"].to_numpy()
    columns = ["matrices"]
    for line in _LINES:
        columns += [f"{line}s: share", "random", "Gini", "random", "largest p"]
    rows = []
    for kind in dict.fromkeys(kinds.tolist()):
        part = one.isel(tensor=np.flatnonzero(kinds == kind))
        cells = [Cell(count(part.sizes["tensor"]))]
        for line in _LINES:
            value, chance = (float(part[f"{line}_share{end}"].mean()) for end in ("", "_null"))
            gini, even = (float(part[f"{line}_gini{end}"].mean()) for end in ("", "_null"))
            cells += [
                heat_cell(share(value, 1), value, 1.0),
                Cell(share(chance, 1)),
                heat_cell(decimal(gini), gini, 1.0),
                Cell(decimal(even)),
                Cell(probability(float(part[f"{line}_share_p"].max()))),
            ]
        rows.append((str(kind), cells))
    caption = (
        f"Region “{ds['region'].to_numpy()[i]}”: means over the matrices of each type. Largest p: of the "
        "share, of the matrix least unlike chance."
    )
    return Table("matrix", columns, rows, caption, True)


def _sweep(ds: xr.Dataset) -> Table:
    table = scalar_table(ds).iloc[:_MOST]
    along = str(ds.attrs.get("along", "")) or "place"
    what = {"scalar": "single parameter", "place": "place"}.get(along, along)
    growth = np.log(table.to_numpy() / table["base"].to_numpy()[:, None])
    limit = min(float(growth[np.isfinite(growth)].max(initial=0.0)), np.log(100.0))
    rows = []
    for i, (role, tensor, row, column) in enumerate(table.index):
        at = [Cell(str(role), prose=True)]
        at += [Cell(MISSING if k < 0 else str(k)) for k in (row, column)]
        values = table.iloc[i].to_numpy()
        at += [Cell(decimal(float(values[0])))]
        at += [
            heat_cell(
                decimal(float(v)), float(g) if np.isfinite(v) else limit, limit, palette="Oranges", hint=hint
            )
            for v, g, hint in zip(values[1:], growth[i, 1:], _intervals(ds, i), strict=True)
        ]
        rows.append((str(tensor).removesuffix(".weight"), at))
    more = f" {MISSING}: some token has no probability left." if table.isna().to_numpy().any() else ""
    more += f" The first {_MOST} of {ds.sizes['place']} are shown." if ds.sizes["place"] > _MOST else ""
    caption = (
        f"Perplexity, at the mean loss over all, with a {what} multiplied by a factor. Top: the most "
        "important; random: of the same tensors, of which a vector is one row. Darker: more harm. What it "
        f"does to each {ds.attrs['by']} shows when the mouse rests on a cell.{more}"
    )
    factors = [f"\u00d7 {f:g}" for f in ds["factor"].to_numpy()]
    return Table(f"{what} of", ["which", "row", "column", "as it is", *factors], rows, caption, True)


def _intervals(ds: xr.Dataset, place: int) -> list[str]:
    """Write a place's effect on each condition and its interval, by factor."""
    by = str(ds.attrs["by"])
    effect, low, high = (
        ds[v].isel(place=place).transpose("factor", by).to_numpy() for v in ("effect", "low", "high")
    )
    names = [str(c) for c in ds[by].to_numpy()]
    return [
        "Nats per token: "
        + "; ".join(f"{n} {decimal(e)} ({span(a, b)})" for n, e, a, b in zip(names, *of, strict=True))
        for of in zip(effect.tolist(), low.tolist(), high.tolist(), strict=True)
    ]
