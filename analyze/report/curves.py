"""The sections on curves: effects by dose or gain, and what is left when only some neurons are kept."""

from collections.abc import Callable, Mapping

import numpy as np
import xarray as xr

from .curve_figures import draw_dose_curves, draw_preservation
from .effects import METRICS, Float64, span
from .figures import CONTROL, CONTROL_MEAN, OTHER, OWN
from .gather import Results
from .heat import heat_cell
from .page import Block, Cell, Gallery, Legend, Paragraph, Section, Table, headed, once
from .wording import MISSING, count, decimal, plural, probability, share, smallest_p

_MOST = 12  # panels
_WITH_INTERVAL = 6  # conditions with which the intervals of slopes fit
_KEPT = {"neurons": "n_kept", "share": "share_kept", "shared": "shared"}  # columns of the table
_LEVELS: Mapping[str, tuple[str, Callable[[Float64], Float64]]] = {  # what harm is counted from
    "loss": ("perplexity", np.exp),
    **dict.fromkeys(("hit", "accuracy", "answer"), ("accuracy", lambda harm: 0.0 - harm)),  # no minus zero
}
_MEANING = {
    "scale": "the activations of {neurons} are multiplied by the dose",
    "add": "the dose is added to the activations of {neurons}",
    "noise": "the dose is the amount of noise in {neurons}",
}
_ABOUT_MEANS = (
    "{neurons} are set to their means in the reference, with noise of as many of their standard deviations "
    "as the dose says: no dose leaves the model as it is"
)
_OTHERS = {  # what has become of what was not kept
    "zero": "silenced",
    "mean": "set to their means in the reference",
    "resample": "given the values of other tokens of the reference",
    "noise": "made noisy",
    "scale": "multiplied by one number",
    "add": "shifted by one number",
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
        blocks += headed(str(ds.attrs.get("title", "")))
        text = _dosed(ds) + _by_metric(ds) + _reach(ds)
        blocks += [Paragraph(text), _legend(ds, by), _panels(ds, by), _slopes(ds, by)]
    return Section(anchor, title, once(blocks)) if blocks else None


def _dosed(ds: xr.Dataset) -> str:
    """Say what a dose does, and to which neurons."""
    lesion = str(ds.attrs.get("lesion", ""))
    meaning = _ABOUT_MEANS if lesion == "noise" and "neutral" not in ds.attrs else _MEANING.get(lesion)
    if meaning is None:
        return ""
    neurons = "all neurons but the network's" if ds.attrs.get("keep_only") else "the network's neurons"
    return f"Lesion: {lesion}; {meaning.format(neurons=neurons)}. "


def _by_metric(ds: xr.Dataset) -> str:
    metric = METRICS.get(str(ds.attrs.get("metric", "")))
    return f"Measured by {metric}. " if metric else ""


def _reach(ds: xr.Dataset) -> str:
    draws = ds.sizes["draw"]
    if not draws:
        return "There are no controls, so no p-values."
    text = f"{plural(draws, 'control')} each; {smallest_p(draws)}"
    return text + (f" Assumed: {ds.attrs['assumption']}." if "assumption" in ds.attrs else "")


def _own(ds: xr.Dataset, by: str, name: str) -> int | None:
    """Place of the condition that a network's panel is about: that of its name, or the only one."""
    conditions = [str(c) for c in ds[by].to_numpy()]
    if name in conditions:
        return conditions.index(name)
    return 0 if len(conditions) == 1 else None


def _legend(ds: xr.Dataset, by: str) -> Legend:
    label, alone = by.replace("_", " "), ds.sizes[by] == 1
    named = any(_own(ds, by, str(n)) is not None for n in ds["network"].to_numpy())
    own = "effect" if alone else f"the {label} of the network's name"
    entries = [("bar", OWN, f"{own}, its 95 % interval shaded")] if named else []
    if not alone:
        entries.append(("bar", OTHER, f"every other {label}" if named else f"each {label}"))
    if ds.sizes["draw"]:
        of = "" if alone else f" on that {label}" if named else f" on every {label}"
        entries += [("bar", CONTROL, f"range of the controls{of}"), ("dash", CONTROL_MEAN, "their mean")]
    return Legend(entries)


def _panels(ds: xr.Dataset, by: str) -> Gallery:
    names = [str(n) for n in ds["network"].to_numpy()]
    neutral = ds.attrs.get("neutral")
    curve = _through_no_change(ds[["effect", "low", "high", "control"]], neutral)
    changed = "{} changed" if ds.attrs.get("keep_only") else "{}"
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
            dose=", ".join(filter(None, ["dose", str(ds["dose"].attrs.get("units", ""))])),
            units=str(ds["effect"].attrs.get("units", "")),
            title=f"{name} ({changed.format(plural(int(ds['size'][i]), 'neuron'))})"
            if "size" in ds
            else name,
        )
        for i, name in enumerate(names[:_MOST])
    ]
    caption = "Harm at each dose, beyond the model left whole; below 0 it helps."
    caption += "" if neutral is None else " Dotted: no change."
    if len(names) > _MOST:
        caption += f" The first {_MOST} of {len(names)} networks are drawn."
    return Gallery(pictures, caption)


def _through_no_change(ds: xr.Dataset, neutral: float | None) -> xr.Dataset:
    """Add the dose that changes nothing, if there is one: by definition there is no effect."""
    if neutral is None or neutral in ds["dose"].to_numpy():
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
            interval = span(float(low[i, j]), float(high[i, j]))
            hint = f"{name} on {condition}: {text}, {interval}"
            notes = [interval] if len(conditions) <= _WITH_INTERVAL else []
            notes += [f"p {probability(float(p[i, j]))}"] if np.isfinite(p[i, j]) else []
            cells.append(
                heat_cell(
                    text,
                    float(slope[i, j]),
                    limit,
                    palette="Oranges",
                    note="\n".join(notes),
                    marked=str(name) == condition,
                    hint=hint,
                )
            )
        rows.append((str(name), cells))
    of = "distance from the dose that changes nothing" if "neutral" in ds.attrs else "dose"
    caption = f"Slope: harm per unit of {of} ({ds['slope'].attrs.get('units', '')})"
    caption += (
        ", and its 95 % interval."
        if len(conditions) <= _WITH_INTERVAL
        else ". Intervals show when the mouse rests on a cell."
    )
    if np.isfinite(p).any():
        caption += " p: against the slopes of the controls, not corrected"
        caption += ", small where the network holds up better." if ds.attrs.get("keep_only") else "."
    if set(conditions) & {str(n) for n in ds["network"].to_numpy()}:
        caption += f" Outlined: the {by.replace('_', ' ')} of the network's name."
    return Table("network", conditions, rows, caption, True)


def preservations(results: Results) -> Section | None:
    """Show what is left of each condition when only some neurons are kept."""
    blocks: list[Block] = []
    for ds in results.of("preservation"):
        by = str(ds.attrs.get("by", "condition"))
        interval = ", the 95 % interval shaded" if np.isfinite(ds["low"]).any() else ""
        entries = [("bar", OWN, f"the neurons kept{interval}")]
        lesion = str(ds.attrs.get("lesion", ""))
        text = f"The networks are kept; all other neurons are {_OTHERS.get(lesion, 'lesioned')}. "
        text += _by_metric(ds)
        if ds.sizes["draw"]:
            text += "The controls keep as many of each layer. "
            entries += [("bar", CONTROL, "range of the random sets"), ("dash", CONTROL_MEAN, "their mean")]
        blocks += headed(str(ds.attrs.get("title", "")))
        if not ds.attrs.get("published"):
            blocks.append(Paragraph(text + _reach(ds)))
        blocks += [Legend(entries), _kept_panels(ds, by), _kept_table(ds, by)]
    return Section("preservation", "Preservation", once(blocks)) if blocks else None


def _kept(ds: xr.Dataset, variable: str, by: str) -> Float64:
    """Return how many or what share is kept, (point, condition); conditions may have sets of their own."""
    return _numbers(ds[variable].broadcast_like(ds["effect"]), "point", by)


def _kept_panels(ds: xr.Dataset, by: str) -> Gallery:
    effect, low, high = (_numbers(ds[v], "point", by) for v in ("effect", "low", "high"))
    control, n_kept = _numbers(ds["control"], "point", "draw", by), _kept(ds, "n_kept", by)
    conditions = [str(c) for c in ds[by].to_numpy()]
    drawn = slice(0, _MOST)
    ends = [a[..., drawn] for a in (effect, low, high, control)]
    lowest, highest = (f([f(e[np.isfinite(e)], initial=0.0) for e in ends]) for f in (np.min, np.max))
    pad = 0.05 * (highest - lowest or 1.0)
    order = n_kept.argsort(axis=0, kind="stable")
    pictures = [
        draw_preservation(
            n_kept[order[:, j], j],
            effect[order[:, j], j],
            (low[order[:, j], j], high[order[:, j], j]),
            control[order[:, j], :, j],
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
    """Tabulate point x condition: the perplexity or accuracy that is left, where the metric is one."""
    effect, p = (_numbers(ds[v], "point", by) for v in ("effect", "p_value"))
    baseline = _numbers(ds["baseline"], by)
    what, level = _LEVELS.get(str(ds.attrs.get("metric", "loss")), ("harm", None))
    shown = effect if level is None else level(effect + baseline)
    limit = float(effect[np.isfinite(effect)].max(initial=0.0))
    conditions = [str(c) for c in ds[by].to_numpy()]
    alike = by not in ds["n_kept"].dims  # the same neurons for every condition
    columns = {name: v for name, v in _KEPT.items() if v in ds and alike}
    rows = []
    for i, name in enumerate(ds["point"].to_numpy()):
        about = {name: float(ds[v][i]) for name, v in columns.items()}
        cells = [Cell(count(v) if name == "neurons" else share(v, 1)) for name, v in about.items()]
        for j in range(len(conditions)):
            notes = [] if alike else [plural(float(_kept(ds, "n_kept", by)[i, j]), "neuron")]
            notes += [f"p {probability(float(p[i, j]))}"] if np.isfinite(p[i, j]) else []
            text, note = decimal(float(shown[i, j])), "\n".join(notes)
            cells.append(heat_cell(text, float(effect[i, j]), limit, palette="Oranges", note=note))
        rows.append((str(name), cells))
    if level is not None:
        whole = [Cell(decimal(float(v))) for v in level(baseline)]
        rows.append(("all (baseline)", [*[Cell(MISSING)] * len(columns), *whole]))
    caption = f"{what.capitalize()} of each {by.replace('_', ' ')} when only these neurons are kept."
    if np.isfinite(p).any():
        caption += (
            " p: share of the draws, the network among them, that hold up at least as well, not corrected."
        )
    caption += " Darker: more harm."
    if "shared" in columns:
        caption += " Shared: how much of a random set is the network's own."
    return Table("kept", [*columns, *conditions], rows, caption, True)


def _numbers(values: xr.DataArray, *dims: str) -> Float64:
    return np.asarray(values.transpose(*dims).to_numpy(), dtype=np.float64)
