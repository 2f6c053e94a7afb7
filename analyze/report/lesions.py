"""The section on lesions: what each costs every condition, beside its matched controls."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import xarray as xr

from .figures import CONTROL, CONTROL_MEAN, OTHER, OWN, draw_lesion, drawable_labels
from .gather import Results
from .heat import heat_cell
from .page import Block, Cell, Gallery, Legend, Paragraph, Section, Table
from .wording import MISSING, count, decimal, isolate, plural, probability, share

Float64 = npt.NDArray[np.float64]

_MAX_COLUMNS = 16  # conditions side by side in a table


@dataclass(frozen=True)
class Effects:
    """`lesion_effects` in memory, its dims in a known order: (network, condition), draws between."""

    networks: list[str]
    conditions: list[str]
    effect: Float64
    low: Float64
    high: Float64
    control: Float64
    p_value: Float64
    perplexity: Float64
    baseline: Float64
    size: list[int | None]

    @classmethod
    def of(cls, ds: xr.Dataset) -> "Effects":
        """Read a Dataset of effects."""
        by = str(ds.attrs.get("by", next(d for d in ds["effect"].dims if d != "network")))
        names = ("effect", "low", "high", "p_value", "perplexity")
        arrays = {v: np.asarray(ds[v].transpose("network", by).to_numpy(), dtype=np.float64) for v in names}
        size: list[int | None] = [None] * ds.sizes["network"]
        if "size" in ds:
            size = [int(n) for n in ds["size"].to_numpy()]
        return cls(
            networks=[str(n) for n in ds["network"].to_numpy()],
            conditions=[str(c) for c in ds[by].to_numpy()],
            control=np.asarray(ds["control"].transpose("network", "draw", by).to_numpy(), dtype=np.float64),
            baseline=np.asarray(ds["perplexity_baseline"].to_numpy(), dtype=np.float64),
            size=size,
            **arrays,
        )

    def own(self, i: int) -> int | None:
        """Return which condition bears a network's name."""
        return self.conditions.index(self.networks[i]) if self.networks[i] in self.conditions else None


def lesions(results: Results) -> Section | None:
    """Show bars of every network's effects, and the perplexities they lead to."""
    blocks: list[Block] = []
    for ds in results.of("effects"):
        effects = Effects.of(ds)
        kind = ds.attrs.get("lesion", "")
        scale = (
            ""
            if _scales(effects)[1]
            else " Mind that the panels have scales of their own: the effects differ too much for one."
        )
        blocks.append(Paragraph((f"Lesion: {kind}. " if kind else "") + _reach(effects) + scale))
        blocks += [
            _legend(effects),
            _bars(effects),
            *_perplexities(effects, str(ds.attrs.get("by", "condition"))),
        ]
    blocks += [_matching(ds) for ds in results.of("scores")]
    return Section("lesions", "Lesions", blocks) if blocks else None


def _reach(effects: Effects) -> str:
    draws = effects.control.shape[1]
    if not draws:
        return "There are no controls, so no p-values."
    smallest = probability(1 / (1 + draws))
    return f"{plural(draws, 'matched control')} a network; the smallest p they can give is {smallest}."


def _legend(effects: Effects) -> Legend:
    entries = [
        ("bar", OTHER, "effect on a condition"),
        ("line", "#333333", "95 % bootstrap interval over prompts"),
    ]
    if any(effects.own(i) is not None for i in range(len(effects.networks))):
        entries.insert(0, ("bar", OWN, "effect on the condition of the network's name"))
    if effects.control.shape[1]:
        entries += [("dot", CONTROL, "a matched control"), ("dash", CONTROL_MEAN, "mean of the controls")]
    return Legend(entries)


def _bars(effects: Effects) -> Gallery:
    limits, common = _scales(effects)
    pictures = [
        draw_lesion(
            effects.effect[i],
            (effects.low[i], effects.high[i]),
            effects.control[i],
            effects.conditions,
            own=effects.own(i),
            limits=limits[i],
            title=name if effects.size[i] is None else f"{name} ({plural(effects.size[i] or 0, 'neuron')})",
        )
        for i, name in enumerate(effects.networks)
    ]
    caption = "Rise of the loss under a lesion, nats per token above the model left whole; positive hurts. "
    caption += "The same scale in every panel." if common else "Scales differ between panels."
    _, key = drawable_labels(effects.conditions)
    return Gallery(pictures, f"{caption} {key}".strip(), len(effects.conditions) > 24)


def _scales(effects: Effects) -> tuple[list[tuple[float, float]], bool]:
    """Return the y limits of each panel, and whether one scale serves all without hiding the smallest."""
    ends = [
        np.concatenate([a[i].ravel() for a in (effects.effect, effects.low, effects.high, effects.control)])
        for i in range(len(effects.networks))
    ]
    finite = [e[np.isfinite(e)] for e in ends]
    spans = [(min(0.0, float(e.min(initial=0))), max(0.0, float(e.max(initial=0)))) for e in finite]
    sizes = [high - low for low, high in spans]
    common = max(sizes) <= 8 * min(sizes)
    if common:
        spans = [(min(low for low, _ in spans), max(high for _, high in spans))] * len(spans)
    padded = [(low - 0.05 * (high - low or 1), high + 0.05 * (high - low or 1)) for low, high in spans]
    return padded, common


def _perplexities(effects: Effects, by: str) -> list[Table]:
    """Tabulate network x condition, in as many tables as keep the columns readable."""
    n = len(effects.conditions)
    parts = np.array_split(np.arange(n), -(-n // _MAX_COLUMNS))
    caption = (
        f"Perplexity of each {by} under each lesion; p: share of the draws, the lesion among them, that hurt "
        "at least as much, not corrected for the number of cells. Darker: a larger rise of the loss. "
        f"Outlined: the {by} of the network's name."
    )
    return [
        _perplexity_table(effects, part, caption if part[-1] == n - 1 else "") for part in parts if part.size
    ]


def _perplexity_table(effects: Effects, part: npt.NDArray[np.intp], caption: str) -> Table:
    limit = float(effects.effect[np.isfinite(effects.effect)].max(initial=0.0))
    rows: list[tuple[str, Sequence[Cell]]] = [
        ("none (baseline)", [Cell(MISSING), *(Cell(decimal(p)) for p in effects.baseline[part])])
    ]
    for i, name in enumerate(effects.networks):
        size = effects.size[i]
        cells = [_perplexity_cell(effects, i, int(j), limit) for j in part]
        rows.append((name, [Cell(MISSING if size is None else count(size)), *cells]))
    return Table("removed", ["neurons", *(effects.conditions[j] for j in part)], rows, caption, True)


def _perplexity_cell(effects: Effects, i: int, j: int, limit: float) -> Cell:
    p = float(effects.p_value[i, j])
    return heat_cell(
        decimal(float(effects.perplexity[i, j])),
        float(effects.effect[i, j]),
        limit,
        palette="Oranges",
        note=f"p {probability(p)}" if np.isfinite(p) else "",
        marked=effects.own(i) == j,
        hint=_hint(effects, i, j),
    )


def _hint(effects: Effects, i: int, j: int) -> str:
    effect, low, high = (decimal(float(a[i, j])) for a in (effects.effect, effects.low, effects.high))
    return f"{effects.networks[i]} on {effects.conditions[j]}: {effect} nats per token, {low} to {high}"


def _matching(scores: xr.Dataset) -> Table:
    """Tabulate how well the controls match their networks."""
    role, target = (np.asarray(scores[c].to_numpy(), dtype=object).astype(str) for c in ("role", "target"))
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
    caption = (
        "How the controls match: all have the size and the layers of their network; the mismatch is the "
        f"relative difference of their mean magnitude from its ({MISSING} where magnitudes were not matched)."
    )
    return Table("network", ["neurons", "controls", "mean mismatch", "largest mismatch"], rows, caption)


def lesion_lines(ds: xr.Dataset) -> list[str]:
    """State the strongest effects, and how often a network's own condition is hit hardest."""
    effects = Effects.of(ds)
    values = np.where(np.isfinite(effects.effect), effects.effect, -np.inf)
    lines = []
    for flat in np.argsort(-values, axis=None, kind="stable")[:3]:
        i, j = np.unravel_index(int(flat), values.shape)
        if np.isfinite(values[i, j]):
            lines.append(_strongest(effects, int(i), int(j)))
    named = [i for i in range(len(effects.networks)) if effects.own(i) is not None]
    if named:
        hits = sum(int(values[i].argmax()) == effects.own(i) for i in named)
        lines.append(
            f"{hits} of the {plural(len(named), 'network')} named as a condition cost that condition most."
        )
    return lines


def _strongest(effects: Effects, i: int, j: int) -> str:
    effect, low, high = (decimal(float(a[i, j])) for a in (effects.effect, effects.low, effects.high))
    size = effects.size[i]
    text = f"Removing {isolate(effects.networks[i])}" + (
        "" if size is None else f" ({plural(size, 'neuron')})"
    )
    text += f" costs {isolate(effects.conditions[j])} {effect} nats per token (95 % interval {low} to {high})"
    draws = effects.control.shape[1]
    if not draws:
        return f"{text}."
    mean = decimal(float(effects.control[i, :, j].mean()))
    p = probability(float(effects.p_value[i, j]))
    return f"{text}, its controls {mean} on average (p = {p}, {plural(draws, 'control')})."
