"""The section on two sets of networks set beside one another, one to one."""

import numpy as np
import xarray as xr

from .gather import Results
from .heat import heat_cell
from .page import Block, Cell, Section, Table
from .wording import MISSING, decimal

_NO_TEXT = 32  # networks above which the numbers no longer fit


def matches(results: Results) -> Section | None:
    """Tabulate the similarity of every two networks, partners outlined, and each network's partner."""
    blocks: list[Block] = []
    for ds in results.of("matching"):
        blocks += [_similarities(ds), _partners(ds)]
    return Section("matching", "Matched networks", blocks) if blocks else None


def _similarities(ds: xr.Dataset) -> Table:
    names, others = (ds[d].to_numpy().astype(str).tolist() for d in ("network", "network_other"))
    values = ds["similarity"].to_numpy().astype(np.float64)
    limit = float(np.nanmax(values, initial=0.0))
    partner = ds["partner"].to_numpy().astype(str)
    rows = []
    for i, name in enumerate(names):
        cells = []
        for j, other in enumerate(others):
            text = MISSING if np.isnan(values[i, j]) else f"{values[i, j]:.2f}"
            shown = text if max(values.shape) <= _NO_TEXT else ""
            marked = bool(partner[i] == other)
            cells.append(
                heat_cell(shown, values[i, j], limit, marked=marked, hint=f"{name}, {other}: {text}")
            )
        rows.append((name, cells))
    caption = (
        f"Similarity ({ds.attrs.get('metric', 'dice')}) of every network of one set with every one of the "
        f"other; of maps its magnitude. Darker: more, up to {limit:.2f}. Outlined: partners, chosen one to "
        "one so that their similarities add up to the most."
    )
    return Table("network", others, rows, caption, True)


def _partners(ds: xr.Dataset) -> Table:
    rows = [
        (
            str(name),
            [
                Cell(str(ds["partner"][i].item()) or MISSING, prose=True),
                Cell(decimal(float(ds["partner_similarity"][i]))),
            ],
        )
        for i, name in enumerate(ds["network"].to_numpy())
    ]
    caption = "A network without a partner has nothing in common with those that are left."
    return Table("network", ["partner", "similarity"], rows, caption)
