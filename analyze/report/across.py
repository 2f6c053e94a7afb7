"""Part of the section on recurrence: templates of one data set in the samples of others."""

import numpy as np
import xarray as xr

from .gather import Float64
from .heat import heat_cell
from .page import Block, Cell, Table, headed
from .wording import count, decimal, share

_LEVEL = 0.05


def across_data_sets(ds: xr.Dataset) -> list[Block]:
    """Tabulate how many templates of each data set come back in each, and the counts of every template.

    Takes ``components``, ``samples`` and, where there was a null, ``p_samples`` and ``expected_components``
    (data_set, data_set_other, network), NaN for a template that there is not; ``n_samples`` (data_set_other).
    """
    name = str(ds.attrs.get("title", ""))
    head = headed(f"Across data sets{f', {name}' if name else ''}")
    return [*head, *([_recurring(ds)] if "p_samples" in ds else []), _counts(ds)]


def _names(ds: xr.Dataset) -> list[str]:
    return [str(n) for n in ds["data_set"].to_numpy()]


def _values(ds: xr.Dataset, variable: str) -> Float64:
    values = ds[variable].transpose("data_set", "data_set_other", "network").to_numpy()
    return np.asarray(values, dtype=np.float64)


def _recurring(ds: xr.Dataset) -> Table:
    """Count the templates that recur in more samples than by chance: rows by columns, data sets."""
    there, p = np.isfinite(_values(ds, "components")), _values(ds, "p_samples")
    n = there.sum(axis=2)
    above = np.nan_to_num(p, nan=1.0) <= _LEVEL / np.maximum(n, 1)[..., None]
    matched = np.nanmean(_values(ds, "samples"), axis=2) / ds["n_samples"].to_numpy()
    names, rows = _names(ds), []
    for i, name in enumerate(names):
        cells = [
            heat_cell(
                f"{count(k)} of {count(n[i, j])}",
                k / max(n[i, j], 1),
                1.0,
                note=f"{share(matched[i, j], 1)} of samples",
                marked=i == j,
                hint=f"templates of {name}, samples of {other}",
            )
            for j, (other, k) in enumerate(zip(names, above[i].sum(axis=1).tolist(), strict=True))
        ]
        rows.append((name, cells))
    caption = (
        "Templates of each data set (rows) that come back in more samples of each data set (columns) than "
        f"random ones with as many neurons in each layer, p \u2264 {_LEVEL:g} over their number. Below: the "
        "share of samples with a match, mean over all templates. Outlined: samples of the same data set, "
        "others than those that made the templates."
    )
    return Table("templates of", [f"in {name}" for name in names], rows, caption, True)


def _counts(ds: xr.Dataset) -> Table:
    """Tabulate the matching components of every template in every data set."""
    names, found = _names(ds), _values(ds, "components")
    per_sample = found / ds["n_samples"].to_numpy()[:, None]
    limit = float(np.nanmax(per_sample, initial=0.0))
    expected = _values(ds, "expected_components") if "expected_components" in ds else None
    rows = []
    for i, name in enumerate(names):
        for j, other in enumerate(names):
            cells = [Cell(count(int(ds["n_samples"][j])))]
            for k in range(ds.sizes["network"]):
                hint = "" if expected is None else f"{decimal(expected[i, j, k])} by chance"
                text = count(found[i, j, k]) if np.isfinite(found[i, j, k]) else ""
                cells.append(heat_cell(text, per_sample[i, j, k], limit, hint=hint))
            rows.append((f"{name} in {other}", cells))
    caption = (
        "Matching components of the templates of one data set in the samples of another, as the study counts "
        "them: a sample may have several. Darker: more, relative to the samples. The number by chance shows "
        "when the mouse rests on a cell."
    )
    columns = ["samples", *map(str, range(1, ds.sizes["network"] + 1))]
    return Table("templates in samples", columns, rows, caption, True)
