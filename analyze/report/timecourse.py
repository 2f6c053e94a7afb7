"""The section on time courses: one neuron over the tokens of a run, with its fit and the blocks."""

from itertools import pairwise

import numpy as np
import xarray as xr
from matplotlib.axes import Axes

from .figures import CONTROL_MEAN, INK, OWN, drawable_labels, new_figure, picture, quiet
from .gather import Float64, Results
from .page import Block, Gallery, Legend, Picture, Section
from .wording import decimal, plural

_WIDTH, _HEIGHT, _LEFT = 1060, 300, 58  # CSS pixels
_LETTER = 6  # CSS pixels that a letter of a name takes
_SHADES = ("#e3e3e3", "#f3f3f3")
_MAX_NAMED = 60  # blocks that have room for their name


def time_courses(results: Results) -> Section | None:
    """Draw each neuron's activation in the order of the tokens, and what the fit predicts."""
    blocks: list[Block] = []
    for ds in results.of("time_course"):
        rest = str(ds.attrs.get("rest", ""))
        figure, key = _draw(ds, rest)
        entries = [
            ("dash", OWN, "activation, token by token"),
            ("dash", CONTROL_MEAN, "what the fit predicts"),
            ("", _SHADES[0], "a block" + (f" (white: {rest})" if rest else "")),
        ]
        blocks += [Legend(entries), Gallery([figure], f"{_caption(ds)} {key}".strip(), wide=True)]
    return Section("timecourse", "Time course", blocks) if blocks else None


def _caption(ds: xr.Dataset) -> str:
    attrs = ds.attrs
    site = f" of the site {attrs['site']}" if attrs.get("site") else ""
    what = "Magnitude of the activation" if attrs.get("measure") == "magnitude" else "Activation"
    text = f"{what} of neuron {attrs['neuron']} in layer {attrs['layer']}{site}, "
    text += f"over {plural(ds.sizes['row'], 'token')}"
    text += f" of run {ds['run'].to_numpy()[0]}" if "run" in ds and ds.sizes["row"] else ""
    text += f". {attrs['chosen']}" if "chosen" in attrs else "."
    r = float(ds["correlation"])
    return text + (f" Correlation with the prediction: r = {decimal(r)}." if np.isfinite(r) else "")


def _draw(ds: xr.Dataset, rest: str) -> tuple[Picture, str]:
    """Draw one time course; and the key to the names of blocks that the font cannot draw."""
    value, prediction = (ds[v].to_numpy().astype(np.float64) for v in ("value", "prediction"))
    tasks = _tasks(ds, rest)
    labels, key = drawable_labels([name for _, _, name in tasks])
    pixels = (_WIDTH - _LEFT - 10) / max(len(value), 1)  # a token
    fits = all(_LETTER * len(s) < pixels * (b - a) for s, (a, b, _) in zip(labels, tasks, strict=True))
    above = 20 if fits else 20 + 3 * max(map(len, labels))
    height = _HEIGHT + above
    figure = new_figure(_WIDTH, height)
    axes = quiet(figure.add_axes((_LEFT / _WIDTH, 40 / height, 1 - (_LEFT + 10) / _WIDTH, 260 / height)))
    for i, (label, (a, b, _)) in enumerate(zip(labels, tasks, strict=True)):
        axes.axvspan(a, b, color=_SHADES[i % 2], linewidth=0)
        if len(tasks) <= _MAX_NAMED:
            _name_block(axes, (a + b) / 2, label, upright=fits)
    axes.plot(np.arange(len(value)), value, color=OWN, linewidth=0.6)
    axes.step(np.arange(len(value)), prediction, where="mid", color=CONTROL_MEAN, linewidth=1.8)
    axes.set(xlim=(0, max(len(value), 1)), xlabel="token, in the order shown", ylabel=_unit(ds))
    axes.set_ylim(*_limits(value, prediction))
    alt = (
        f"Time course of neuron {ds.attrs['neuron']} in layer {ds.attrs['layer']} over {len(value)} tokens, "
        "with the fitted mean of each block's condition"
    )
    return picture(figure, alt), key


def _name_block(axes: Axes, x: float, label: str, *, upright: bool) -> None:
    """Write the name of a block above it, slanted where it has not the room."""
    angle, side = (0, "center") if upright else (30, "left")
    where = axes.get_xaxis_transform()
    axes.text(
        x,
        1.02,
        label,
        transform=where,
        rotation=angle,
        ha=side,
        rotation_mode="anchor",
        fontsize=7.5,
        color=INK,
    )


def _unit(ds: xr.Dataset) -> str:
    return "|activation|" if ds.attrs.get("measure") == "magnitude" else "activation"


def _limits(value: Float64, prediction: Float64) -> tuple[float, float]:
    """Leave out the farthest 0.1 % of the values, which would press all others together."""
    finite = value[np.isfinite(value)]
    if not finite.size:
        return (0.0, 1.0)
    kept = np.r_[np.quantile(finite, [0.0005, 0.9995]), prediction[np.isfinite(prediction)]]
    low, high = kept.min(), kept.max()
    room = 0.04 * (high - low) or 1.0
    return (float(low - room) if low < 0 else 0.0, float(high + room))


def _tasks(ds: xr.Dataset, rest: str) -> list[tuple[int, int, str]]:
    """Return the blocks but those of rest: first row, end, condition."""
    if "condition" not in ds.coords:
        return []
    condition = ds["condition"].to_numpy().astype(str)
    block = ds["block"].to_numpy() if "block" in ds.coords else condition
    changes = np.flatnonzero((block[1:] != block[:-1]) | (condition[1:] != condition[:-1])) + 1
    edges = [0, *changes.tolist(), len(condition)]
    return [(a, b, str(condition[a])) for a, b in pairwise(edges) if b > a and condition[a] != rest]
