"""The section on repeatability: whether a condition's map comes back in other runs."""

import numpy as np
import xarray as xr

from .gather import Results
from .heat import heat_cell
from .page import Block, Cell, Paragraph, Section, Table
from .wording import MISSING, decimal, plural, probability, rule

_NO_TEXT = 20  # maps above which the numbers no longer fit
_METRICS = {"dice": "Dice of the networks", "correlation": "correlation of the maps"}


def repeatabilities(results: Results) -> Section | None:
    """Show the similarity of all maps, within conditions against between them, and their ICC."""
    blocks: list[Block] = []
    for ds in results.of("repeatability"):
        blocks += [Paragraph(_how(ds)), _comparison(ds), _matrix(ds), _agreement(ds)]
    return Section("repeatability", "Repeatability", blocks) if blocks else None


def _how(ds: xr.Dataset) -> str:
    attrs = ds.attrs
    by = attrs.get("by", "run")
    text = f"Every map is of one {by} alone, so that two of them share no prompt. "
    if "network" in attrs:
        text += f"Networks: {rule({**attrs, 'control': attrs['network'], 'two_sided': False})}. "
    return text + (f"Assumed: {attrs['exchangeability']}." if "exchangeability" in attrs else "")


def _comparison(ds: xr.Dataset) -> Table:
    numbers = ("within", "between", "difference")
    rows = [
        (
            _METRICS.get(str(m), str(m)),
            [
                *(Cell(decimal(float(ds[v].sel(metric=m)))) for v in numbers),
                Cell(probability(float(ds["p_value"].sel(metric=m)))),
            ],
        )
        for m in ds["metric"].to_numpy()
    ]
    n = ds.sizes["permutation"]
    caption = (
        "Mean similarity of maps of different runs: of the same contrast (within) and of different ones "
        f"(between). p: of the difference, from {plural(n, 'permutation')} of the conditions within runs; "
        f"the smallest p they can give is {probability(1 / (1 + n))}."
    )
    return Table("similarity", ["within", "between", "difference", "p"], rows, caption)


def _matrix(ds: xr.Dataset) -> Table:
    """Tabulate Dice of every two maps, those of one contrast side by side."""
    by = str(ds.attrs.get("by", "run"))
    contrast, run = ds["map_contrast"].to_numpy().astype(str), ds[by].to_numpy()
    place = {name: i for i, name in enumerate(dict.fromkeys(contrast.tolist()))}
    order = sorted(range(len(contrast)), key=lambda i: (place[contrast[i]], i))
    values = ds["dice"].to_numpy().astype(np.float64)
    size = ds["size"].to_numpy()
    names = [f"{contrast[i]}, {by} {run[i]}".replace(" ", "\u00a0") for i in order]
    limit = float(np.nanmax(np.where(np.eye(len(values)) > 0, 0.0, values), initial=0.0))
    rows = []
    for i, name in zip(order, names, strict=True):
        cells = []
        for j, other in zip(order, names, strict=True):
            text = MISSING if np.isnan(values[i, j]) else f"{values[i, j]:.2f}"
            hint = f"{name} ({plural(size[i], 'neuron')}) and {other} ({plural(size[j], 'neuron')}): {text}"
            shown = text if len(order) <= _NO_TEXT else ""
            if i == j:
                cells.append(Cell("", colour="#e4e4e4", hint=hint))
            else:
                same = contrast[i] == contrast[j]
                cells.append(heat_cell(shown, values[i, j], limit, marked=bool(same), hint=hint))
        rows.append((name, cells))
    caption = (
        "Dice of the networks of every two maps: twice the neurons in both over the sum of their sizes. "
        f"Darker: more, up to {limit:.2f}. Outlined: the same contrast in another {by}. Grey: a map with "
        "itself. The numbers show when the mouse rests on a cell."
    )
    return Table("map", names, rows, caption, True)


def _agreement(ds: xr.Dataset) -> Table:
    rows = [
        (str(c), [Cell(decimal(float(ds[v][i]))) for v in ("icc2", "icc3")])
        for i, c in enumerate(ds["contrast"].to_numpy())
    ]
    caption = (
        "Intraclass correlation of the contrast's effect over neurons, runs being the raters: 1 when every "
        "run gives the same numbers (agreement), or the same but for a shift (consistency)."
    )
    return Table("contrast", ["ICC(2,1), agreement", "ICC(3,1), consistency"], rows, caption)
