"""Curves over doses, gains or neurons kept, with their intervals and the band of the controls."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from .figures import CONTROL, CONTROL_MEAN, OTHER, OWN, drawable_labels, fit, new_figure, picture, quiet
from .page import Picture

Float64 = npt.NDArray[np.float64]


def draw_dose_curves(
    doses: Float64,
    effect: Float64,
    interval: tuple[Float64, Float64],
    control: Float64,
    names: Sequence[str],
    *,
    own: int | None,
    neutral: float | None,
    dose: str,
    units: str,
    title: str,
) -> Picture:
    """Draw one network's effects (dose, condition), beside its controls' (draw, dose, condition).

    With an own condition the others stay pale, and the band is that of the controls on it; without one
    the band is over all conditions.
    """
    figure = new_figure(520, 250)
    axes = quiet(figure.add_subplot())
    beside = control if own is None else control[:, :, [own]]
    if len(control):
        low, high = np.nanmin(beside, axis=(0, 2)), np.nanmax(beside, axis=(0, 2))
        axes.fill_between(doses, low, high, color=CONTROL, alpha=0.3, linewidth=0)
        axes.plot(doses, np.nanmean(beside, axis=(0, 2)), color=CONTROL_MEAN, linewidth=1.1, linestyle="--")
    for j in range(len(names)):
        if j != own:
            axes.plot(doses, effect[:, j], color=OTHER, linewidth=1.1, marker="o", markersize=2.5)
    if own is not None:
        axes.fill_between(doses, interval[0][:, own], interval[1][:, own], color=OWN, alpha=0.2, linewidth=0)
        axes.plot(doses, effect[:, own], color=OWN, linewidth=1.6, marker="o", markersize=3.5)
    axes.axhline(0, color="#999999", linewidth=0.7)
    if neutral is not None:
        axes.axvline(neutral, color="#999999", linewidth=0.7, linestyle=":")
    axes.set(xlabel=dose, ylabel=f"harm, {units}")
    axes.set_xticks(doses, [f"{d:.3g}" for d in doses])
    fit(figure)
    return picture(figure, f"Effects of {len(doses)} doses on {len(names)} conditions", title)


def draw_preservation(
    n_kept: Float64,
    effect: Float64,
    interval: tuple[Float64, Float64],
    control: Float64,
    *,
    limits: tuple[float, float],
    units: str,
    title: str,
) -> Picture:
    """Draw what one condition loses (point) by the neurons kept, beside random sets (point, draw)."""
    figure = new_figure(520, 230)
    axes = quiet(figure.add_subplot())
    if control.shape[1]:
        axes.fill_between(
            n_kept, control.min(axis=1), control.max(axis=1), color=CONTROL, alpha=0.3, linewidth=0
        )
        axes.plot(n_kept, control.mean(axis=1), color=CONTROL_MEAN, linewidth=1.1, linestyle="--")
    axes.fill_between(n_kept, *interval, color=OWN, alpha=0.2, linewidth=0)
    axes.plot(n_kept, effect, color=OWN, linewidth=1.6, marker="o", markersize=3.5)
    axes.axhline(0, color="#999999", linewidth=0.7)
    if n_kept.min() > 0 and n_kept.max() > 20 * n_kept.min():
        axes.set_xscale("log")
    axes.set(xlabel="neurons kept", ylabel=f"harm, {units}", ylim=limits)
    fit(figure)
    name = drawable_labels([title])[0][0]
    return picture(figure, f"Loss of {name} against the neurons kept", title)


def draw_arms(
    steps: Float64,
    values: Float64,
    interval: tuple[Float64, Float64],
    colours: Sequence[str],
    *,
    units: str,
    title: str,
) -> Picture:
    """Draw one curve (arm, step) an arm, its interval shaded."""
    figure = new_figure(520, 250)
    axes = quiet(figure.add_subplot())
    for own, low, high, colour in zip(values, *interval, colours, strict=True):
        axes.fill_between(steps, low, high, color=colour, alpha=0.12, linewidth=0)
        axes.plot(steps, own, color=colour, linewidth=1.5, marker="o", markersize=3)
    axes.axhline(0, color="#999999", linewidth=0.7)
    axes.set(xlabel="updates", ylabel=f"change of the loss, {units}")
    if len(steps) <= 12:
        axes.set_xticks(steps, [f"{s:g}" for s in steps])
    fit(figure)
    return picture(figure, f"Loss of {len(values)} arms by updates", title)


def draw_dissociation(
    loss: Float64,
    accuracy: Float64,
    end: tuple[Float64, Float64] | None,
    colours: Sequence[str],
    *,
    title: str,
) -> Picture:
    """Draw accuracy against change of the loss, both (arm, step), the end of each arm ringed.

    `end` is the interval (arm) of the accuracies there.
    """
    figure = new_figure(520, 250)
    axes = quiet(figure.add_subplot())
    for i, (x, y, colour) in enumerate(zip(loss, 100 * accuracy, colours, strict=True)):
        axes.plot(x, y, color=colour, linewidth=0.8, marker="o", markersize=3, alpha=0.8)
        axes.plot(x[-1:], y[-1:], color=colour, marker="o", markersize=8, markerfacecolor="none")
        if end is not None:
            axes.vlines(x[-1], 100 * end[0][i], 100 * end[1][i], color=colour, linewidth=1.0)
    axes.set(xlabel="change of the loss, nats per token", ylabel="right answers, %", ylim=(0, 105))
    axes.margins(x=0.08)
    fit(figure)
    return picture(figure, f"Accuracy of {len(loss)} arms against their loss", title)
