"""The sections on curves: effects by dose or gain, and what is left when only some neurons are kept."""

import numpy as np
import xarray as xr

from .curve_figures import draw_dose_curves, draw_preservation
from .effects import Float64
from .figures import CONTROL, CONTROL_MEAN, OTHER, OWN
from .gather import Results
from .heat import heat_cell
from .page import Block, Cell, Gallery, Legend, Paragraph, Section, Table, headed
from .wording import MISSING, count, decimal, plural, probability, share, smallest_p

_MOST = 12  # panels
_MEANING = {
    "scale": "the activations of the network's neurons are multiplied by the dose",
    "add": "the dose is added to the activations of the network's neurons",
    "noise": "the dose is the amount of noise in the network's neurons",
}


def doses(results: Results) -> Section | None:
    """Show the effects of each network by dose."""
    return _of_doses(results, "dose_response", "doses", "Dose-response")


def gains(results: Results) -> Section | None:
    """Show the effects of amplifying each network by gain."""
    return _of_doses(results, "amplification", "gains", "Amplification")


def _of_doses(results: Results, kind: str, anchor: str, title: str) -> Section | None:
    blocks: list[Block] = []
    for ds in results.of(kind):
        by = str(ds.attrs.get("by", "condition"))
        lesion = str(ds.attrs.get("lesion", ""))
        text = f"Lesion: {lesion}; {_MEANING[lesion]}. " if lesion in _MEANING else ""
        blocks += headed(str(ds.attrs.get("title", "")))
        blocks += [Paragraph(text + _reach(ds)), _legend(ds, by), _panels(ds, by), _slopes(ds, by)]
    return Section(anchor, title, blocks) if blocks else None


def _reach(ds: xr.Dataset) -> str:
    draws = ds.sizes["draw"]
    if not draws:
        return "There are no controls, so no p-values."
    text = f"{plural(draws, 'control')} each; {smallest_p(draws)}"
    return text + (f" Assumed: {ds.attrs['assumption']}." if "assumption" in ds.attrs else "")


def _own(ds: xr.Dataset, by: str, name: str) -> int | None:
    conditions = [str(c) for c in ds[by].to_numpy()]
    return conditions.index(name) if name in conditions else None


def _legend(ds: xr.Dataset, by: str) -> Legend:
    named = any(_own(ds, by, str(n)) is not None for n in ds["network"].to_numpy())
    entries = [("bar", OTHER, f"each {by}")]
    if named:
        entries = [
            ("bar", OWN, f"the {by} of the network's name, its 95 % interval shaded"),
            ("bar", OTHER, f"every other {by}"),
        ]
    if ds.sizes["draw"]:
        of = f"that {by}" if named else f"every {by}"
        entries += [
            ("bar", CONTROL, f"range of the controls on {of}"),
            ("dash", CONTROL_MEAN, "their mean"),
        ]
    return Legend(entries)


def _panels(ds: xr.Dataset, by: str) -> Gallery:
    names = [str(n) for n in ds["network"].to_numpy()]
    neutral = float(ds.attrs.get("neutral", 0.0))
    curve = _through_no_change(ds[["effect", "low", "high", "control"]], neutral)
    effect, low, high = (_numbers(curve[v], "network", "dose", by) for v in ("effect", "low", "high"))
    control = _numbers(curve["control"], "network", "draw", "dose", by)
    pictures = [
        draw_dose_curves(
            np.asarray(curve["dose"].to_numpy(), dtype=np.float64),
            effect[i],
            (low[i], high[i]),
            control[i],
            [str(c) for c in ds[by].to_numpy()],
            own=_own(ds, by, name),
            neutral=neutral,
            units=str(ds["effect"].attrs.get("units", "")),
            title=f"{name} ({plural(int(ds['size'][i]), 'neuron')})" if "size" in ds else name,
        )
        for i, name in enumerate(names[:_MOST])
    ]
    caption = "Harm at each dose, beyond the model left whole; below 0 it helps. Dotted: no change."
    if len(names) > _MOST:
        caption += f" The first {_MOST} of {len(names)} networks are drawn."
    return Gallery(pictures, caption)


def _through_no_change(ds: xr.Dataset, neutral: float) -> xr.Dataset:
    """Add the dose that changes nothing, where by definition there is no effect."""
    if neutral in ds["dose"].to_numpy():
        return ds
    nothing = xr.zeros_like(ds.isel(dose=[0])).assign_coords(dose=[neutral])
    return xr.concat([ds, nothing], "dose").sortby("dose")


def _slopes(ds: xr.Dataset, by: str) -> Table:
    slope, low, high, p = (
        _numbers(ds[v], "network", by) for v in ("slope", "slope_low", "slope_high", "slope_p")
    )
    conditions = [str(c) for c in ds[by].to_numpy()]
    limit = float(slope[np.isfinite(slope)].max(initial=0.0))
    rows = []
    for i, name in enumerate(ds["network"].to_numpy()):
        cells = []
        for j, condition in enumerate(conditions):
            text = decimal(float(slope[i, j]))
            hint = (
                f"{name} on {condition}: {text}, {decimal(float(low[i, j]))} to {decimal(float(high[i, j]))}"
            )
            note = f"p {probability(float(p[i, j]))}" if np.isfinite(p[i, j]) else ""
            cells.append(
                heat_cell(
                    text,
                    float(slope[i, j]),
                    limit,
                    palette="Oranges",
                    note=note,
                    marked=str(name) == condition,
                    hint=hint,
                )
            )
        rows.append((str(name), cells))
    caption = (
        "Slope: harm per unit of distance from the dose that changes nothing "
        f"({ds['slope'].attrs.get('units', '')}). p: against the slopes of the controls, not corrected. "
        f"Intervals show when the mouse rests on a cell. Outlined: the {by} of the network's name."
    )
    return Table("network", conditions, rows, caption, True)


def preservations(results: Results) -> Section | None:
    """Show what is left of each condition when only some neurons are kept."""
    blocks: list[Block] = []
    for ds in results.of("preservation"):
        by = str(ds.attrs.get("by", "condition"))
        text = "All neurons but those of a network are silenced. The controls keep as many of each layer. "
        entries = [("bar", OWN, "the network kept, its 95 % interval shaded")]
        if ds.sizes["draw"]:
            entries += [("bar", CONTROL, "range of the random sets"), ("dash", CONTROL_MEAN, "their mean")]
        blocks += headed(str(ds.attrs.get("title", "")))
        blocks += [Paragraph(text + _reach(ds)), Legend(entries), _kept_panels(ds, by), _kept_table(ds, by)]
    return Section("preservation", "Preservation", blocks) if blocks else None


def _kept_panels(ds: xr.Dataset, by: str) -> Gallery:
    effect, low, high = (_numbers(ds[v], "point", by) for v in ("effect", "low", "high"))
    control = _numbers(ds["control"], "point", "draw", by)
    conditions = [str(c) for c in ds[by].to_numpy()]
    drawn = slice(0, _MOST)
    ends = [a[..., drawn] for a in (effect, low, high, control)]
    lowest, highest = (f([f(e[np.isfinite(e)], initial=0.0) for e in ends]) for f in (np.min, np.max))
    pad = 0.05 * (highest - lowest or 1.0)
    pictures = [
        draw_preservation(
            np.asarray(ds["n_kept"].to_numpy(), dtype=np.float64),
            effect[:, j],
            (low[:, j], high[:, j]),
            control[:, :, j],
            limits=(float(lowest - pad), float(highest + pad)),
            units=str(ds["effect"].attrs.get("units", "")),
            title=condition,
        )
        for j, condition in enumerate(conditions[drawn])
    ]
    caption = "Harm beyond the model left whole, by the neurons kept; the same scale in every panel."
    if len(conditions) > _MOST:
        caption += f" The first {_MOST} of {len(conditions)} are drawn."
    return Gallery(pictures, caption)


def _kept_table(ds: xr.Dataset, by: str) -> Table:
    """Tabulate point x condition: the metric itself where it is the loss, as perplexity."""
    effect, p = (_numbers(ds[v], "point", by) for v in ("effect", "p_value"))
    baseline = _numbers(ds["baseline"], by)
    as_perplexity = ds.attrs.get("metric", "loss") == "loss"
    shown = np.exp(effect + baseline) if as_perplexity else effect
    limit = float(effect[np.isfinite(effect)].max(initial=0.0))
    conditions = [str(c) for c in ds[by].to_numpy()]
    rows = []
    for i, name in enumerate(ds["point"].to_numpy()):
        cells = [Cell(count(int(ds["n_kept"][i]))), Cell(share(float(ds["share_kept"][i]), 1))]
        cells += [Cell(share(float(ds["shared"][i]), 1))] if "shared" in ds else []
        for j in range(len(conditions)):
            note = f"p {probability(float(p[i, j]))}" if np.isfinite(p[i, j]) else ""
            value = float(effect[i, j])
            cells.append(heat_cell(decimal(float(shown[i, j])), value, limit, palette="Oranges", note=note))
        rows.append((str(name), cells))
    if as_perplexity:
        whole = [Cell(decimal(float(v))) for v in np.exp(baseline)]
        rest = [Cell(MISSING)] if "shared" in ds else []
        rows.append(("all (baseline)", [Cell("all"), Cell(share(1, 1)), *rest, *whole]))
    caption = (
        f"{'Perplexity' if as_perplexity else 'Harm'} of each {by} when only these neurons are kept. p: "
        "share of the draws, the network among them, that hold up at least as well, not corrected. Darker: "
        "more harm."
    )
    columns = ["neurons", "share"]
    if "shared" in ds:
        columns.append("shared")
        caption += " Shared: how much of a random set is the network's own, for want of other neurons."
    return Table("kept", [*columns, *conditions], rows, caption, True)


def _numbers(values: xr.DataArray, *dims: str) -> Float64:
    return np.asarray(values.transpose(*dims).to_numpy(), dtype=np.float64)
