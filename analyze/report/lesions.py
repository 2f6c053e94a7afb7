"""The section on lesions: what each costs every condition, beside its matched controls."""

import numpy as np
import numpy.typing as npt
import xarray as xr

from .completions import completions_table
from .effect_tables import (
    controls_table,
    effect_matrix,
    equal_activity_table,
    level_tables,
    selectivity_table,
)
from .effects import METRICS, Effects
from .figures import CONTROL, CONTROL_MEAN, OTHER, OWN, draw_lesion, drawable_labels
from .gather import Results
from .page import Block, Cell, Gallery, Legend, Paragraph, Section, Table, headed, once
from .wording import MISSING, count, decimal, isolate, plural, probability, share, smallest_p

Float64 = npt.NDArray[np.float64]

_ALPHA = 0.05
_PANELS = 72  # of all results together, so that a page of many stays readable


def lesions(results: Results) -> Section | None:
    """Show bars of every network's effects, and the perplexities they lead to."""
    blocks: list[Block] = []
    measured = [ds for ds in results.of("effects") if not ds.attrs.get("published")]
    for ds in results.of("effects"):
        effects = Effects.of(ds)
        if ds.attrs.get("published"):  # a table of numbers: nothing is known of intervals or controls
            blocks += [*headed(str(ds.attrs.get("title", ""))), *level_tables(effects)]
            continue
        drawn = _strongest_of(effects, _PANELS // len(measured))
        scale = (
            ""
            if _scales(effects, drawn)[1]
            else " Mind that the panels have scales of their own: the effects differ too much for one."
        )
        assumed = f" Assumed: {ds.attrs['assumption']}." if "assumption" in ds.attrs else ""
        blocks += headed(str(ds.attrs.get("title", "")))
        blocks.append(Paragraph(_what(ds) + _reach(effects) + scale + assumed))
        blocks += [
            *effect_matrix(effects, str(ds.attrs.get("correction", ""))),
            *selectivity_table(ds, effects),
            _legend(effects),
            _bars(effects, drawn),
            *controls_table(ds, effects),
            *level_tables(effects),
            *(
                [] if ds.attrs.get("title") else equal_activity_table(ds, effects)
            ),  # of many results: too long a page
        ]
    blocks += [Paragraph(refusal) for refusal in results.refusals]
    for ds in results.of("scores"):
        blocks += [_matching(ds), *completions_table(ds)]
    return Section("lesions", "Lesions", once(blocks)) if blocks else None


def _what(ds: xr.Dataset) -> str:
    kind, metric = ds.attrs.get("lesion", ""), METRICS.get(str(ds.attrs.get("metric", "")))
    if not kind:
        return ""
    return f"Lesion: {kind}{f', measured by {metric}' if metric else ''}. "


def _reach(effects: Effects) -> str:
    draws = effects.control.shape[1]
    if not draws:
        return "There are no controls, so no p-values."
    return f"{plural(draws, 'matched control')} a network; {smallest_p(draws)}"


def _legend(effects: Effects) -> Legend:
    entries = [
        ("bar", OTHER, f"effect on a {effects.label}"),
        ("line", "#333333", "95 % bootstrap interval over prompts"),
    ]
    if effects.any_own:
        entries.insert(0, ("bar", OWN, f"effect on the network's own {effects.label}"))
    if effects.control.shape[1]:
        entries += [("dot", CONTROL, "a matched control"), ("dash", CONTROL_MEAN, "mean of the controls")]
    return Legend(entries)


def _strongest_of(effects: Effects, n: int) -> list[int]:
    """Take the networks that cost a condition most, at least two, in their order."""
    most = np.where(np.isfinite(effects.effect), effects.effect, -np.inf).max(axis=1, initial=-np.inf)
    return sorted(np.argsort(-most, kind="stable")[: max(2, n)].tolist())


def _bars(effects: Effects, drawn: list[int]) -> Gallery:
    limits, common = _scales(effects, drawn)
    pictures = [
        draw_lesion(
            effects.effect[i],
            (effects.low[i], effects.high[i]),
            effects.control[i],
            effects.conditions,
            own=effects.own(i),
            limits=own_limits,
            units=effects.units,
            title=_name(effects, i),
        )
        for i, own_limits in zip(drawn, limits, strict=True)
    ]
    caption = f"Harm that a lesion does, in {effects.units}; the model left whole is 0, above it hurts. "
    caption += "The same scale in every panel." if common else "Scales differ between panels."
    if len(drawn) < len(effects.networks):
        caption += f" The {len(drawn)} networks that cost most are drawn, of {len(effects.networks)}."
    _, key = drawable_labels(effects.conditions)
    return Gallery(pictures, f"{caption} {key}".strip(), len(effects.conditions) > 24)


def _name(effects: Effects, i: int) -> str:
    size = effects.size[i]
    return effects.networks[i] if size is None else f"{effects.networks[i]} ({plural(size, 'neuron')})"


def _scales(effects: Effects, drawn: list[int]) -> tuple[list[tuple[float, float]], bool]:
    """Return the y limits of each panel, and whether one scale serves all without hiding the smallest."""
    ends = [
        np.concatenate([a[i].ravel() for a in (effects.effect, effects.low, effects.high, effects.control)])
        for i in drawn
    ]
    finite = [e[np.isfinite(e)] for e in ends]
    spans = [(min(0.0, float(e.min(initial=0))), max(0.0, float(e.max(initial=0)))) for e in finite]
    sizes = [high - low for low, high in spans]
    common = max(sizes) <= 8 * min(sizes)
    if common:
        spans = [(min(low for low, _ in spans), max(high for _, high in spans))] * len(spans)
    padded = [(low - 0.05 * (high - low or 1), high + 0.05 * (high - low or 1)) for low, high in spans]
    return padded, common


def _matching(scores: xr.Dataset) -> Table:
    """Tabulate how well the controls match their networks."""
    role, target = (np.asarray(scores[c].to_numpy(), dtype=object).astype(str) for c in ("role", "target"))
    if "control_kind" in scores.coords:
        kind = np.asarray(scores["control_kind"].to_numpy(), dtype=object).astype(str)
        role = np.where((role == "control") & (kind != "matched"), "other", role)
    if "dose" in scores.coords:  # the neurons are the same at every dose
        dose = scores["dose"].to_numpy()
        role = np.where(np.isnan(dose) | (dose == np.nanmin(dose)), role, "other")
    mismatch = np.asarray(scores["mismatch"].to_numpy(), dtype=np.float64)
    size = scores["network"].sum(("layer", "neuron")).to_numpy()
    rows = []
    for name in dict.fromkeys(target[role == "target"]):
        drawn = mismatch[(role == "control") & (target == name)]
        known = drawn[np.isfinite(drawn)]
        n = int(size[(role == "target") & (target == name)][0])
        cells = (
            [share(float(v), 1) for v in (known.mean(), np.abs(known).max())] if known.size else [MISSING] * 2
        )
        rows.append((str(name), [Cell(count(n)), Cell(count(drawn.size)), *map(Cell, cells)]))
    kept = scores.attrs.get("keep_only")
    caption = (
        "How the controls match: all have the size and the layers of their network; the mismatch is the "
        f"relative difference of their mean magnitude from its ({MISSING} where magnitudes were not matched)."
        f"{' The lesion is of all other neurons.' if kept else ''}"
    )
    columns = ["neurons", "controls", "mean mismatch", "largest mismatch"]
    return Table("kept" if kept else "network", columns, rows, caption)


def lesion_lines(ds: xr.Dataset) -> list[str]:
    """State the strongest effects on the loss, and how often a network's own condition is hit hardest."""
    if ds.attrs.get("metric", "loss") != "loss":
        return []
    effects = Effects.of(ds)
    values = np.where(np.isfinite(effects.effect), effects.effect, -np.inf)
    lines = []
    title = str(ds.attrs.get("title", ""))
    named = [i for i, name in enumerate(effects.networks) if name in effects.conditions]
    most = (0 if named else 1) if title else 3  # one of many results: one line
    for flat in np.argsort(-values, axis=None, kind="stable")[:most]:
        i, j = np.unravel_index(int(flat), values.shape)
        if np.isfinite(values[i, j]):
            lines.append(f"{title}: " * bool(title) + _strongest(effects, int(i), int(j)))
    if named:
        lines.append(f"{title}: " * bool(title) + _own_most(effects, values, named))
    return lines


def _own_most(effects: Effects, values: Float64, named: list[int]) -> str:
    """Say how many of the networks named as a condition cost that condition most, beside chance."""
    own = {i: effects.conditions.index(effects.networks[i]) for i in named}
    hits = [i for i in named if int(values[i].argmax()) == own[i]]
    told = f"{len(hits)} of the {plural(len(named), 'network')} named as a condition cost that condition most"
    if hits and np.isfinite(effects.p_value[hits]).any():
        sure = sum(bool(effects.p_value[i, own[i]] <= _ALPHA) for i in hits)
        told += f", {sure} of them with p of at most {_ALPHA:g}"
    return f"{told}; by chance {decimal(len(named) / len(effects.conditions))} would."


def _strongest(effects: Effects, i: int, j: int) -> str:
    effect, interval = effects.with_interval(i, j)
    size = effects.size[i]
    what = "Removing" if effects.removes else f"The lesion ({effects.lesion}) of"
    text = f"{what} {isolate(effects.networks[i])}" + ("" if size is None else f" ({plural(size, 'neuron')})")
    text += f" costs {isolate(effects.conditions[j])} {effect} {effects.units} (95 % interval {interval})"
    draws = effects.control.shape[1]
    if not draws:
        return f"{text}."
    mean = decimal(float(effects.control[i, :, j].mean()))
    p = probability(float(effects.p_value[i, j]))
    return f"{text}, its controls {mean} on average (p = {p}, {plural(draws, 'control')})."
