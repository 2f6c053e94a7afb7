"""The figures, drawn off screen with Matplotlib; text given by the user stays out of them where it can.

Matplotlib's font lacks many scripts, so labels that it cannot draw are replaced by numbers, and the
caption, which the browser draws, says what the numbers stand for.
"""

import base64
import io
from collections.abc import Sequence
from functools import cache

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font

from .gather import Bool, Float32, Float64
from .maps import MAX_COLUMNS, aggregate, any_kept, paint
from .page import PIXELS, Picture
from .wording import shorten

OWN, OTHER, CONTROL, CONTROL_MEAN = "#0072b2", "#a6bddb", "#7f7f7f", "#d55e00"
# after Okabe and Ito, for the colour-blind
PALETTE = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#8c8c00", "#666666")
INK = "#333333"
_DPI = 100 * PIXELS
_FONT = FontProperties(family="DejaVu Sans")
_LABEL_LENGTH = 18


def new_figure(width: float, height: float) -> Figure:
    """Start a figure of so many CSS pixels."""
    figure = Figure(figsize=(width / 100, height / 100), dpi=_DPI, facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def picture(figure: Figure, alt: str, title: str = "", caption: str = "") -> Picture:
    """Draw a figure into a data URI."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=_DPI)
    source = "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
    return Picture(source, round(figure.get_figwidth() * 100), alt, title, caption)


@cache
def _drawable() -> frozenset[int]:
    return frozenset(get_font(findfont(_FONT)).get_charmap())


def drawable_labels(names: Sequence[str]) -> tuple[list[str], str]:
    """Return labels that the font can draw, and the key to those that became numbers ("" if none)."""
    labels, key = [], []
    for i, name in enumerate(names, start=1):
        short = shorten(name, _LABEL_LENGTH)
        if short and all(ord(c) in _drawable() for c in short):
            labels.append(short.replace("$", r"\$"))  # no formula is meant
        else:
            labels.append(f"({i})")
            key.append(f"({i}) = {name}")
    return labels, "; ".join(key)


def fit(figure: Figure) -> None:
    """Leave just the room that the labels need; twice, as ticks change with the room."""
    for _ in range(2):
        figure.tight_layout(pad=0.4)


def quiet(axes: Axes) -> Axes:
    """Take away what carries no information."""
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color("#999999")
    axes.tick_params(labelsize=7.5, color="#999999", labelcolor=INK, length=3)
    axes.xaxis.label.set(fontsize=8, color=INK)
    axes.yaxis.label.set(fontsize=8, color=INK)
    return axes


def draw_map(
    values: Float32, mask: Bool | None, layers: Sequence[int], limit: float, title: str, caption: str
) -> Picture:
    """Draw a layer x neuron map, the neurons of `mask` marked under each layer."""
    shown = aggregate(values)
    kept = None if mask is None else any_kept(mask)
    column = max(1, round((2000 if is_wide(values.shape[1]) else 960) / shown.shape[1]))
    row = PIXELS * int(np.clip(300 / len(shown), 6, 21))
    pixels = paint(shown, kept, limit, row, column)
    left, right, top, bottom = 76, 18, 6, 86  # device pixels around the map
    height, width = pixels.shape[0] + top + bottom, pixels.shape[1] + left + right
    figure = new_figure(width / PIXELS, height / PIXELS)
    axes = figure.add_axes((left / width, bottom / height, pixels.shape[1] / width, pixels.shape[0] / height))
    extent = (0, shown.shape[1] * values.shape[1] / shown.shape[1], len(layers), 0)
    axes.imshow(pixels, extent=extent, aspect="auto", interpolation="nearest")
    step = max(1, round(len(layers) / 8))
    ticks = range(0, len(layers), step)
    axes.set_yticks([t + 0.5 for t in ticks], [str(layers[t]) for t in ticks])
    axes.set(xlabel="neuron", ylabel="layer")
    quiet(axes)
    axes.xaxis.labelpad = axes.yaxis.labelpad = 2
    alt = f"Map of {len(layers)} layers by {values.shape[1]} neurons: {shorten(title, 60)}"
    return picture(figure, alt, title, caption)


def is_wide(n_neurons: int) -> bool:
    """Say whether maps of so many neurons need the whole width of the page."""
    return min(n_neurons, MAX_COLUMNS) > 600


def draw_scale(limit: float, label: str) -> Picture:
    """Draw the colour scale that maps share."""
    figure = new_figure(360, 52)
    axes = figure.add_axes((0.04, 0.68, 0.92, 0.24))
    colours = ScalarMappable(Normalize(-limit, limit), cmap="RdBu_r")
    bar = figure.colorbar(
        colours, cax=axes, orientation="horizontal", extend="both", ticks=np.linspace(-limit, limit, 5)
    )
    bar.ax.tick_params(labelsize=7.5, length=2, labelcolor=INK)
    bar.set_label(label, fontsize=8, color=INK, labelpad=2)
    bar.outline.set_visible(False)
    return picture(figure, f"Colour scale: {label} from {-limit:g} to {limit:g}")


def draw_timeline(conditions: Sequence[str], runs: Sequence[str] | None) -> tuple[Picture, str]:
    """Draw which condition each prompt had, in order, and the runs; and the key to the labels."""
    names = list(dict.fromkeys(conditions))
    labels, key = drawable_labels(names)
    n_rows = len(names) + (runs is not None)
    figure = new_figure(1060, 66 + 17 * n_rows)
    axes = quiet(figure.add_subplot())
    for y, name in enumerate(names):
        axes.broken_barh(
            _stretches(conditions, name), (y - 0.4, 0.8), color=PALETTE[y % len(PALETTE)], linewidth=0
        )
    if runs is not None:
        labels = [*labels, "run"]
        _draw_runs(axes, runs, len(names))
    axes.set_yticks(range(n_rows), labels)
    axes.set(xlim=(0, len(conditions)), ylim=(n_rows - 0.4, -0.6), xlabel="prompt, in the order shown")
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="y", color="#eeeeee", linewidth=0.6)
    axes.set_axisbelow(True)
    fit(figure)
    return picture(figure, f"Condition of {len(conditions)} prompts in order"), key


def _stretches(labels: Sequence[str], name: str) -> list[tuple[float, float]]:
    """Return starts and lengths of the stretches of a label."""
    is_name = np.array([label == name for label in labels])
    edges = np.flatnonzero(np.diff(np.concatenate([[False], is_name, [False]]).astype(np.int8)))
    return [(float(a), float(b - a)) for a, b in zip(edges[::2], edges[1::2], strict=True)]


def _draw_runs(axes: Axes, runs: Sequence[str], y: int) -> None:
    """Draw a row of alternating greys, one a run, and lines between runs where those are few."""
    names = list(dict.fromkeys(runs))
    for i, (run, label) in enumerate(zip(names, drawable_labels(names)[0], strict=True)):
        stretches = _stretches(runs, run)
        axes.broken_barh(stretches, (y - 0.4, 0.8), color=("#cfcfcf", "#efefef")[i % 2], linewidth=0)
        for start, length in stretches:
            if length > len(runs) / 40 * max(1, len(label) / 4):
                axes.text(start + length / 2, y, label, ha="center", va="center", fontsize=7, color=INK)
    changes = [i for i in range(1, len(runs)) if runs[i] != runs[i - 1]]
    if len(changes) <= 40:
        for change in changes:
            axes.axvline(change, color="#777777", linewidth=0.6)


def draw_design(design: Float64, regressors: Sequence[str], row: str) -> tuple[Picture, str]:
    """Draw the design matrix, each regressor scaled to its largest magnitude; and the key to the labels."""
    labels, key = drawable_labels(regressors)
    largest = np.abs(design).max(axis=0)
    scaled = design / np.where(largest > 0, largest, 1.0)
    drawing = "nearest" if len(design) < 600 else "auto"  # smoothed where rows outnumber pixels
    figure = new_figure(min(1060, 150 + 34 * len(regressors)), 380)
    axes = quiet(figure.add_subplot())
    axes.imshow(scaled, aspect="auto", interpolation=drawing, cmap="RdBu_r", vmin=-1.3, vmax=1.3)
    axes.set_xticks(range(len(labels)), labels, rotation=90 if max(map(len, labels)) > 3 else 0)
    axes.set_xticks(np.arange(len(labels) - 1) + 0.5, minor=True)
    axes.grid(axis="x", which="minor", color="#dddddd", linewidth=0.6)
    axes.tick_params(which="minor", length=0)
    axes.set(ylabel=row)
    fit(figure)
    return picture(figure, f"Design matrix of {len(design)} {row}s by {len(labels)} regressors"), key


def draw_null(null: Float64, accuracy: float) -> Picture:
    """Draw the accuracies under permuted labels, and where the true one lies."""
    figure = new_figure(420, 250)
    axes = quiet(figure.add_subplot())
    axes.hist(null, bins=np.linspace(0, 1, 51).tolist(), color=CONTROL, label="labels permuted")
    axes.axvline(accuracy, color=CONTROL_MEAN, linewidth=1.6, label="true labels")
    axes.set(xlim=(0, 1.01), xlabel="accuracy (share named rightly)", ylabel="permutations")
    axes.legend(fontsize=7.5, frameon=False, loc="upper center", bbox_to_anchor=(0.5, 1.16), ncols=2)
    fit(figure)
    return picture(
        figure,
        f"Histogram of {len(null)} accuracies under permuted labels; the true accuracy is {accuracy:.2f}",
    )


def draw_lesion(
    effect: Float64,
    interval: tuple[Float64, Float64],
    control: Float64,
    names: Sequence[str],
    *,
    own: int | None,
    limits: tuple[float, float],
    units: str,
    title: str,
) -> Picture:
    """Draw one network's effects (condition) with their intervals, beside its controls (draw, condition)."""
    labels, _ = drawable_labels(names)
    x = np.arange(len(names))
    long = max(map(len, labels)) * len(labels) > 70
    width, below = 1060 if len(names) > 24 else 520, 10 + 6 * max(map(len, labels)) if long else 24
    height = 180 + below
    figure = new_figure(width, height)
    axes = quiet(figure.add_axes((64 / width, below / height, 1 - 70 / width, 172 / height)))
    colours = [OWN if i == own else OTHER for i in x]
    axes.bar(x - 0.14, effect, width=0.5, color=colours)
    axes.vlines(x - 0.14, *interval, color=INK, linewidth=1.0)
    if len(control):
        beside = np.broadcast_to(x + 0.3, control.shape)
        axes.scatter(
            beside, control, s=7, color=CONTROL, alpha=max(0.25, min(0.8, 6 / len(control))), linewidths=0
        )
        axes.hlines(control.mean(axis=0), x + 0.18, x + 0.42, color=CONTROL_MEAN, linewidth=1.4)
    axes.axhline(0, color="#999999", linewidth=0.7)
    axes.set_xticks(
        x, labels, rotation=60 if long else 0, ha="right" if long else "center", rotation_mode="anchor"
    )
    axes.set(ylabel=f"harm, {units}", xlim=(-0.6, len(names) - 0.4), ylim=limits)
    axes.yaxis.set_label_coords(-52 / (width - 70), 0.5)
    return picture(figure, f"Effects of the lesion of {shorten(title, 60)} on {len(names)} conditions", title)
