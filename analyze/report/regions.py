"""The section on parameter regions: what is lost without them, and what they share."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import xarray as xr

from ..regions.tables import core_table, matrix_table, monolingual_matrix
from .completions import completions_table
from .effects import span
from .gather import Float64, Results
from .heat import heat_cell
from .page import Block, Cell, Paragraph, Section, Table, headed, once
from .wording import MISSING, count, decimal, plural, probability, smallest_p

_PALETTE = "Oranges"
_ITSELF = "#e4e4e4"
_LESIONS = {"zero": "set to zero", "": "lesioned"}


def regions(results: Results) -> Section | None:
    """Show the perplexity without each region, beside random ones, and how far regions overlap."""
    blocks: list[Block] = []
    for ds in results.of("region_effects"):
        blocks += [*headed(str(ds.attrs.get("title", ""))), Paragraph(_how(ds)), _effects(ds)]
    blocks += [table for ds in results.of("region_scores") for table in completions_table(ds)]
    blocks += [_overlap(ds) for ds in results.of("region_overlap")]
    return Section("regions", "Regions of parameters", once(blocks)) if blocks else None


def _how(ds: xr.Dataset) -> str:
    names, n, sizes = (ds[v].to_numpy() for v in ("region", "n_controls", "size"))
    kind = str(ds.attrs.get("lesion", ""))
    lesion = _LESIONS.get(kind, f"lesion: {kind}")
    text = f"{plural(len(names), 'region')}, {lesion}"
    text += f", {count(sizes.min())} to {count(sizes.max())} parameters each. "
    if n.max() == 0:
        return text + "There are no random regions beside them."
    return text + f"{plural(int(n.max()), 'random region')} beside each; {smallest_p(int(n.max()))}"


def _effects(ds: xr.Dataset) -> Table:
    """Choose the table by what the regions are."""
    names, roles = [str(n) for n in ds["region"].to_numpy()], set(ds["role"].to_numpy().tolist())
    if all("/" in n for n in names):
        return _of_matrices(ds)
    if roles == {"monolingual"}:
        return _monolingual(ds)
    if "top" in roles and roles <= {"top", "bottom", "random"}:
        return _core(ds)
    return _all(ds)


def _core(ds: xr.Dataset) -> Table:
    table = core_table(ds)
    base = table["", "base"].to_numpy()
    limit = _limit(np.log(table.to_numpy() / base[:, None]))
    intervals = _core_intervals(ds, table)
    rows = [
        (str(name), _row(values, limit, intervals[str(name)]))
        for name, values in zip(table.index, table.to_numpy(), strict=True)
    ]
    mean = np.exp(np.log(table.to_numpy()).mean(axis=0))
    rows.append(("geometric mean", _row(mean, limit, {})))
    caption = (
        f"Perplexity of each {ds.attrs['by']} with all parameters (base), and without the most important, "
        "the least important and random ones: a share of every weight matrix. Random: at the mean loss "
        "over the random regions. Darker: more harm. The rise of the loss, its 95 % interval over prompts "
        "and p against the random regions show when the mouse rests on a cell."
    )
    columns = [" ".join(part for part in reversed(key) if part) for key in table.columns.to_list()]
    return Table(str(ds.attrs["by"]), columns, rows, caption, True)


def _core_intervals(ds: xr.Dataset, table: pd.DataFrame) -> dict[str, dict[int, str]]:
    """Write the interval and p of each region on each condition, by the place of its column."""
    by = str(ds.attrs["by"])
    low, high, p = (ds[v].transpose("region", by).to_numpy() for v in ("low", "high", "p_value"))
    shares, roles = (table.columns.get_level_values(level) for level in (0, 1))
    places = {key: k for k, key in enumerate(zip(shares.tolist(), roles.tolist(), strict=True))}
    written: dict[str, dict[int, str]] = {str(c): {} for c in ds[by].to_numpy()}
    for i, (role, top) in enumerate(zip(ds["role"].to_numpy(), ds["top"].to_numpy(), strict=True)):
        place = places.get((f"{100 * float(top):g}%", str(role)))
        for j, condition in enumerate(written):
            if place is not None:
                tested = f"; p {probability(p[i, j])}" if np.isfinite(p[i, j]) else ""
                written[condition][place] = f", {span(low[i, j], high[i, j])}{tested}"
    return written


def _row(perplexity: Float64, limit: float, intervals: dict[int, str]) -> list[Cell]:
    """Colour perplexities by their growth over the first of them."""
    cells = [Cell(decimal(float(perplexity[0])))]
    for k, value in enumerate(perplexity[1:], start=1):
        growth = float(np.log(value / perplexity[0]))
        hint = f"{decimal(growth)} nats per token above the base{intervals.get(k, '')}"
        cells.append(heat_cell(decimal(float(value)), growth, limit, palette=_PALETTE, hint=hint))
    return cells


def _monolingual(ds: xr.Dataset) -> Table:
    matrix = monolingual_matrix(ds)
    by = str(ds.attrs["by"])
    low, high, p = (ds[v].transpose("region", by).to_numpy() for v in ("low", "high", "p_value"))
    low, high = np.exp(low), np.exp(high)
    ratio = matrix.to_numpy()
    limit = _limit(np.log(ratio))
    rows = []
    for i, name in enumerate(matrix.index):
        cells = [Cell(count(int(ds["size"][i])))]
        for j, condition in enumerate(matrix.columns):
            value = float(ratio[i, j])
            hint = (
                f"without the region of {name}, {condition}: {value:.2f} times, {low[i, j]:.2f} to "
                f"{high[i, j]:.2f}; p {probability(float(p[i, j]))}"
            )
            own = name == condition
            cells.append(
                heat_cell(
                    f"{value:.2f}", float(np.log(value)), limit, palette=_PALETTE, marked=own, hint=hint
                )
            )
        rows.append((str(name), cells))
    caption = (
        f"Times by which the perplexity of each {by} (columns) grows without the parameters that one {by} "
        "alone rests on (rows). Outlined: its own. Darker: more harm. Intervals and p against random regions "
        "show when the mouse rests on a cell."
    )
    return Table("removed", ["parameters", *map(str, matrix.columns)], rows, caption, True)


def _of_matrices(ds: xr.Dataset) -> Table:
    table = matrix_table(ds)
    by = str(ds.attrs["by"])
    several = len(set(table.index.get_level_values("region"))) > 1
    conditions = [str(c) for c in ds[by].to_numpy()]
    base = ds["perplexity_baseline"].to_numpy()
    perplexity = table[conditions].to_numpy()
    limits = _limit(table["top"].to_numpy()), _limit(np.log(perplexity / base))
    rows: list[tuple[str, Sequence[Cell]]] = [
        ("none (baseline)", [Cell(MISSING)] * 3 + [Cell(decimal(float(b))) for b in base])
    ]
    for i, (name, matrix) in enumerate(table.index):
        top, chance = (float(table[c].iloc[i]) for c in ("top", "random"))
        cells = [
            Cell(count(int(table["size"].iloc[i]))),
            heat_cell(decimal(top), top, limits[0], palette=_PALETTE),
            heat_cell(decimal(chance), chance, limits[0], palette=_PALETTE),
            *(
                heat_cell(decimal(float(v)), float(np.log(v / b)), limits[1], palette=_PALETTE)
                for v, b in zip(perplexity[i], base, strict=True)
            ),
        ]
        rows.append((f"{name}, {matrix}" if several else str(matrix), cells))
    of = "each region" if several else f"the region “{table.index[0][0]}”"
    caption = (
        f"Without the part of {of} in one type of matrix: the mean effect on all, nats per token, that of "
        f"random regions of its size, and the perplexity of each {by}. Darker: more harm."
    )
    return Table("matrix", ["parameters", "effect", "random", *conditions], rows, caption, True)


def _all(ds: xr.Dataset) -> Table:
    """Show effects of regions of any kind."""
    by = str(ds.attrs["by"])
    effect, p = (ds[v].transpose("region", by).to_numpy() for v in ("effect", "p_value"))
    limit = _limit(effect)
    rows = [
        (
            str(name),
            [
                heat_cell(
                    decimal(e), e, limit, palette=_PALETTE, note=f"p {probability(q)}" if q == q else ""
                )
                for e, q in zip(effect[i].tolist(), p[i].tolist(), strict=True)
            ],
        )
        for i, name in enumerate(ds["region"].to_numpy())
    ]
    caption = f"Effect of each region's lesion on each {by}, nats per token; p: against random regions."
    return Table("region", [str(c) for c in ds[by].to_numpy()], rows, caption, True)


def _overlap(ds: xr.Dataset) -> Table:
    names = [str(n) for n in ds["region"].to_numpy()]
    jaccard, shared, expected = (
        ds[v].transpose("region", "region_other").to_numpy() for v in ("jaccard", "intersection", "expected")
    )
    apart = jaccard[~np.eye(len(names), dtype=bool)]
    limit = _limit(apart)
    rows = []
    for i, name in enumerate(names):
        cells = []
        for j, other in enumerate(names):
            hint = f"{name}, {other}: {count(shared[i, j])} parameters, {count(expected[i, j])} by chance"
            text = MISSING if np.isnan(jaccard[i, j]) else f"{jaccard[i, j]:.2f}"
            note = f"{decimal(shared[i, j] / expected[i, j])} \u00d7" if expected[i, j] > 0 and i != j else ""
            cells.append(
                Cell(text, colour=_ITSELF, hint=hint)
                if i == j
                else heat_cell(text, float(jaccard[i, j]), limit, note=note, hint=hint)
            )
        rows.append((name, cells))
    which = str(ds.attrs.get("title") or "the regions")
    caption = (
        f"Jaccard index of {which}: parameters in both over those in either; below it, how many times as "
        "many are shared as if each lay anywhere within each tensor. Darker: more. Grey: a region with "
        "itself."
    )
    return Table("region", names, rows, caption, True)


def _limit(values: Float64) -> float:
    return float(values[np.isfinite(values)].max(initial=0.0))
