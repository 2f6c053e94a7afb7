"""The section on time courses: one neuron over the tokens of a run, with its fit and the blocks."""

import numpy as np
import xarray as xr
from matplotlib.axes import Axes

from .figures import CONTROL_MEAN, OWN, drawable_labels, new_figure, picture, quiet
from .gather import Float64, Results
from .page import Block, Gallery, Legend, Picture, Section
from .wording import decimal, plural

_WIDTH, _HEIGHT, _ABOVE = 1060, 300, 62  # CSS pixels; the names of the blocks stand above
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
    text = f"{what} of neuron {attrs['neuron']} in layer {attrs['layer']}{site}, over {plural(ds.sizes['row'], 'token')}"
    text += f" of run {ds['run'].to_numpy()[0]}" if "run" in ds and ds.sizes["row"] else ""
    text += f". {attrs['chosen']}" if "chosen" in attrs else "."
    r = float(ds["correlation"])
    return text + (f" Correlation with the prediction: r = {decimal(r)}." if np.isfinite(r) else "")


def _draw(ds: xr.Dataset, rest: str) -> tuple[Picture, str]:
    """Draw one time course; and the key to the names of blocks that the font cannot draw."""
    value, prediction = (ds[v].to_numpy().astype(np.float64) for v in ("value", "prediction"))
    figure = new_figure(_WIDTH, _HEIGHT + _ABOVE)
    axes = quiet(
        figure.add_axes((0.055, 40 / (_HEIGHT + _ABOVE), 0.935, (_HEIGHT - 40) / (_HEIGHT + _ABOVE)))
    )
    key = _shade(axes, ds, rest)
    x = np.arange(len(value))
    axes.plot(x, value, color=OWN, linewidth=0.6)
    axes.step(x, prediction, where="mid", color=CONTROL_MEAN, linewidth=1.8)
    axes.set(xlim=(0, max(len(value), 1)), xlabel="token, in the order shown", ylabel=_unit(ds))
    axes.set_ylim(*_limits(value, prediction))
    alt = (
        f"Time course of neuron {ds.attrs['neuron']} in layer {ds.attrs['layer']} over {len(value)} tokens, "
        "with the fitted mean of each block's condition"
    )
    return picture(figure, alt), key


def _unit(ds: xr.Dataset) -> str:
    return "|activation|" if ds.attrs.get("measure") == "magnitude" else "activation"


def _limits(value: Float64, prediction: Float64) -> tuple[float, float]:
    """Leave out the farthest 0.1 % of the values, which would press all others together."""
    finite = value[np.isfinite(value)]
    if not finite.size:
        return (0.0, 1.0)
    low, high = np.quantile(finite, [0.0005, 0.9995])
    low, high = min(low, float(np.nanmin(prediction))), max(high, float(np.nanmax(prediction)))
    room = 0.04 * (high - low) or 1.0
    return (float(low - room) if low < 0 else 0.0, float(high + room))


def _shade(axes: Axes, ds: xr.Dataset, rest: str) -> str:
    """Shade the blocks, rest left white, with the name of each above."""
    if "condition" not in ds.coords:
        return ""
    condition = ds["condition"].to_numpy().astype(str)
    block = ds["block"].to_numpy() if "block" in ds.coords else condition
    starts = np.flatnonzero(np.r_[True, (block[1:] != block[:-1]) | (condition[1:] != condition[:-1])])
    ends = np.r_[starts[1:], len(condition)]
    tasks = [(a, b) for a, b in zip(starts.tolist(), ends.tolist(), strict=True) if condition[a] != rest]
    names = list(dict.fromkeys(str(condition[a]) for a, _ in tasks))
    labels, key = drawable_labels(names)
    for i, (a, b) in enumerate(tasks):
        axes.axvspan(a, b, color=_SHADES[i % 2], linewidth=0)
        if len(tasks) <= _MAX_NAMED:
            axes.text(
                (a + b) / 2, 1.01, labels[names.index(str(condition[a]))], transform=axes.get_xaxis_transform(),
                rotation=30, ha="left", va="bottom", fontsize=7.5, color="#333333", rotation_mode="anchor",
            )  # fmt: skip
    return key
