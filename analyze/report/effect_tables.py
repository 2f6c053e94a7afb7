"""Tables of lesion effects: the matrix network x condition, what it leads to, and selectivity."""

from collections.abc import Callable, Sequence

import numpy as np
import xarray as xr

from .effects import Effects, span
from .heat import heat_cell
from .page import Cell, Table
from .wording import MISSING, count, decimal, plural, probability

_MAX_COLUMNS = 16  # conditions side by side in a table
_WITH_INTERVAL = 12  # conditions with which the intervals fit too
_IN_ONE_LINE = 6  # conditions with which they fit in one line
_ALPHA = 0.05
_CORRECTIONS = {
    "fdr": "Benjamini and Hochberg",
    "by": "Benjamini and Yekutieli",
    "holm": "Holm",
    "none": "nothing: no correction",
}


def effect_matrix(effects: Effects, correction: str) -> list[Table]:
    """Tabulate the effects with their intervals; dots say which survive the correction."""
    caption = (
        f"Effect of each network's lesion on each {effects.label}, {effects.units}, and its 95 % interval "
        f"over prompts. Darker: more harm.{_outlined(effects)}"
    )
    if np.isnan(effects.effect).any():
        caption += f" {MISSING}: no such network."
    how = f"corrected for all cells of the matrix ({_CORRECTIONS.get(correction, correction)})"
    if (effects.p_corrected <= _ALPHA).any():
        caption += f" A dot: p against the controls is at most {_ALPHA}, {how}."
    elif np.isfinite(effects.p_corrected).any():
        caption += f" No p against the controls is at most {_ALPHA}, {how}."
    intervals = len(effects.conditions) <= _WITH_INTERVAL
    if not intervals:
        caption += " The intervals show when the mouse rests on a cell."
    limit = _limit(effects)

    def cell(i: int, j: int) -> Cell:
        value, interval = effects.with_interval(i, j)
        dot = " \u2022" if effects.p_corrected[i, j] <= _ALPHA else ""
        note = interval if intervals and np.isfinite(effects.low[i, j]) else ""
        note = note if len(effects.conditions) <= _IN_ONE_LINE else note.replace(" to ", " to\n")
        return _heat(effects, i, j, f"{value}{dot}", note, limit)

    return _split(effects, cell, caption, None)


def level_tables(effects: Effects) -> list[Table]:
    """Tabulate what the lesions lead to, perplexity or accuracy, below the whole model's."""
    if not effects.level_name:
        return []
    caption = f"{effects.level_name.capitalize()} of each {effects.label} under each lesion."
    if np.isfinite(effects.p_value).any():
        caption += (
            " p: share of the draws, the lesion among them, that hurt at least as much, not corrected for "
            "the number of cells."
        )
    caption += f" Darker: more harm.{_outlined(effects)}"
    limit = _limit(effects)

    def cell(i: int, j: int) -> Cell:
        p = float(effects.p_value[i, j])
        notes = [f"p {probability(p)}"] if np.isfinite(p) else []
        if effects.neurons is not None and np.isfinite(effects.effect[i, j]):
            notes.insert(0, plural(float(effects.neurons[i, j]), "neuron"))
        return _heat(effects, i, j, decimal(float(effects.level[i, j])), "\n".join(notes), limit)

    whole = [Cell(decimal(float(v))) for v in effects.baseline]
    return _split(effects, cell, caption, whole)


def selectivity_table(ds: xr.Dataset, effects: Effects) -> list[Table]:
    """Tabulate each network's selectivity, and how its own condition is known."""
    if "selectivity" not in ds or ds["selectivity"].isnull().all():
        return []
    rows = []
    known = bool(ds["selectivity_low"].notnull().any())  # not where a half has one prompt of a condition
    for i, name in enumerate(effects.networks):
        part = ds.isel(network=i)
        low, high = (float(part[f"selectivity_{side}"]) for side in ("low", "high"))
        given = bool(part["own_given"])
        own = str(part["own"].item()) or "the halves disagree"
        rows.append(
            (
                name,
                [
                    Cell(own, prose=True),
                    Cell("given" if given else "chosen on the other half", prose=True),
                    Cell(decimal(float(part["selectivity"]))),
                    *[Cell(span(low, high))] * known,
                    Cell(probability(float(part["selectivity_p"]))),
                    Cell(probability(float(part["selectivity_p_corrected"]))),
                ],
            )
        )
    caption = (
        f"Selectivity: the effect on a network's own {effects.label} less the mean effect on the others, "
        f"{effects.units}. Own: given, or the one that suffers most on one half of the prompts and is judged "
        "on the other, in both directions; the controls are treated alike. p: against the controls; "
        "corrected for the number of networks."
    )
    columns = [f"own {effects.label}", "how", "selectivity", *["95 % interval"] * known, "p", "p corrected"]
    return [Table("network", columns, rows, caption)]


def controls_table(ds: xr.Dataset, effects: Effects) -> list[Table]:
    """Tabulate all kinds of controls beside each network, on its own condition or the one hurt most."""
    kinds = {}
    if "other_control" in ds:
        others = ds["other_control"].transpose("network", effects.by, "control_kind").to_numpy()
        kinds = {
            str(k).replace("_", " "): others[..., i] for i, k in enumerate(ds["control_kind"].to_numpy())
        }
    if "untrained" in ds:
        kinds["untrained"] = ds["untrained"].mean("copy").transpose("network", effects.by).to_numpy()
    if not kinds:
        return []
    rows = []
    for i, name in enumerate(effects.networks):
        own = effects.own(i)
        hurt = np.where(np.isfinite(effects.effect[i]), effects.effect[i], -np.inf)
        j = int(hurt.argmax()) if own is None else own
        drawn = effects.control[i, :, j]
        matched = [float(f(drawn)) if drawn.size else np.nan for f in (np.mean, np.max)]
        numbers = [float(effects.effect[i, j]), *matched, *(float(v[i, j]) for v in kinds.values())]
        rows.append((name, [Cell(effects.conditions[j], prose=True), *(Cell(decimal(v)) for v in numbers)]))
    caption = (
        f"What the controls do, {effects.units}, to the network's own {effects.label} or, without one, to "
        "the one that its lesion hurts most. Least selective: neurons of the same layers that tell least; "
        "untrained: the same lesion in copies of the model with random weights."
    )
    columns = [effects.label, "network", "matched, mean", "matched, largest", *kinds]
    return [Table("network", columns, rows, caption)]


def equal_activity_table(ds: xr.Dataset, effects: Effects) -> list[Table]:
    """Tabulate p with what goes with activity taken out: to be read where controls could not match."""
    if "p_at_equal_activity" not in ds or ds["p_at_equal_activity"].isnull().all():
        return []
    adjusted = ds["p_at_equal_activity"].transpose("network", effects.by).to_numpy()

    def cell(i: int, j: int) -> Cell:
        both = (float(effects.p_value[i, j]), float(adjusted[i, j]))
        plain, equal = (probability(p) if np.isfinite(p) else MISSING for p in both)
        return Cell(equal, note=f"({plain})")

    caption = (
        "p against the controls at equal activity: a line of effect on mean magnitude, through the network "
        "and its controls together, is taken out first. Where the controls are more than a few per cent less "
        "active than their network, read this one; in brackets, p as it is. Not corrected for the number of "
        "cells."
    )
    return _split(effects, cell, caption, None)


def _outlined(effects: Effects) -> str:
    return f" Outlined: the network's own {effects.label}." if effects.any_own else ""


def _limit(effects: Effects) -> float:
    return float(effects.effect[np.isfinite(effects.effect)].max(initial=0.0))


def _heat(effects: Effects, i: int, j: int, text: str, note: str, limit: float) -> Cell:
    value, interval = effects.with_interval(i, j)
    hint = f"{effects.networks[i]} on {effects.conditions[j]}: {value} {effects.units}, {interval}"
    if np.isfinite(effects.p_value[i, j]):
        hint += f"; p {probability(float(effects.p_value[i, j]))}"
    if np.isfinite(effects.p_corrected[i, j]):
        hint += f", corrected {probability(float(effects.p_corrected[i, j]))}"
    return heat_cell(
        text,
        float(effects.effect[i, j]),
        limit,
        palette="Oranges",
        note=note,
        marked=effects.own(i) == j,
        hint=hint,
    )


def _split(
    effects: Effects,
    cell: Callable[[int, int], Cell],
    caption: str,
    whole: Sequence[Cell] | None,
) -> list[Table]:
    """Make network x condition tables, as many as keep the columns readable."""
    n, tables = len(effects.conditions), []
    corner = "removed" if effects.removes else "lesioned"
    sized = any(size is not None for size in effects.size)
    for part in np.array_split(np.arange(n), -(-n // _MAX_COLUMNS)):
        rows: list[tuple[str, Sequence[Cell]]] = []
        if whole is not None:
            rows.append(("none (baseline)", [*[Cell(MISSING)] * sized, *(whole[j] for j in part)]))
        for i, name in enumerate(effects.networks):
            size = effects.size[i]
            sizes = [Cell(MISSING if size is None else count(size))] * sized
            rows.append((name, [*sizes, *(cell(i, int(j)) for j in part)]))
        columns = [*["neurons"] * sized, *(effects.conditions[j] for j in part)]
        tables.append(Table(corner, columns, rows, caption if part[-1] == n - 1 else "", True))
    return tables
