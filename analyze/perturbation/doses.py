"""Dose-response: how the effect of a lesion grows with its dose; amplification, where the dose is a gain."""

import numpy as np
import numpy.typing as npt
import xarray as xr

from ...store.errors import InputError
from ...store.moments import Float64
from .effects import attrs_of
from .estimates import (
    Correction,
    bootstrap,
    corrected,
    interval,
    intervals,
    p_against,
    per_item,
)
from .measures import METRICS, Metric, measure
from .rows import Rows, check_scores, doses_of, inputs_of, n_lesioned, rows_of

_NEUTRAL = {"scale": 1.0}  # the dose that changes nothing; of the other kinds it is 0


def dose_response(
    scores: xr.Dataset,
    *,
    by: str = "condition",
    metric: Metric = "loss",
    correction: Correction = "fdr",
    n_bootstrap: int = 1000,
    seed: int = 0,
) -> xr.Dataset:
    """Effect of each network's lesion at each dose, and how fast it grows.

    Parameters
    ----------
    scores
        From `actome.score` with several amounts.
    by, metric, correction, n_bootstrap, seed
        As for `lesion_effects`.

    Returns
    -------
    Dataset of kind "dose_response"

    effect, low, high, p_value, p_corrected : (network, dose, condition), as of `lesion_effects`, the
        correction for all of them
    control : (network, draw, dose, condition)
    slope, slope_low, slope_high : (network, condition), least squares of the effects on the distance of
        the dose from the one that changes nothing, through no effect there; per unit of dose
    slope_p : (network, condition), against the slopes of the controls
    baseline : (condition), the metric of the whole model
    size : (network), neurons changed

    Raises
    ------
    InputError, InputTypeError
        As for `lesion_effects`; the scores have fewer than two doses.
    """
    return _response(scores, "dose_response", by, metric, correction, n_bootstrap, seed)


def amplification(
    scores: xr.Dataset,
    *,
    by: str = "condition",
    metric: Metric = "loss",
    correction: Correction = "fdr",
    n_bootstrap: int = 1000,
    seed: int = 0,
) -> xr.Dataset:
    """Effect of amplifying each network, at each gain: `dose_response` of the kinds "scale" and "add".

    What amplification does to a condition may help it: an effect below 0 is a better prediction. p asks
    for harm, as everywhere.

    Parameters
    ----------
    scores
        From `actome.score` with kind "scale" (times the gain) or "add" (plus it), and several amounts.
    by, metric, correction, n_bootstrap, seed
        As for `lesion_effects`.

    Returns
    -------
    Dataset of kind "amplification", otherwise as of `dose_response`.

    Raises
    ------
    InputError, InputTypeError
        As for `dose_response`; the lesion is of another kind.
    """
    check_scores(scores, "amplification")
    kind = inputs_of(scores).get("kind", "")
    if kind not in ("scale", "add"):
        raise InputError(f"amplification takes scores of the kinds 'scale' and 'add', got {kind!r}")
    return _response(scores, "amplification", by, metric, correction, n_bootstrap, seed)


def _response(
    scores: xr.Dataset,
    kind: str,
    by: str,
    metric: Metric,
    correction: Correction,
    n_bootstrap: int,
    seed: int,
) -> xr.Dataset:
    check_scores(scores, kind)
    doses = doses_of(scores)
    if len(doses) < 2:
        raise InputError(f"{kind} needs scores of two doses at least, got {doses}; score several amounts")
    at = [rows_of(scores, kind, dose) for dose in doses]
    rows = at[0]
    if any(other.names != rows.names or other.control.shape != rows.control.shape for other in at):
        raise InputError(f"not every network and control was scored at every dose of {doses}")
    measured = measure(scores, metric, by, int(rows.baseline[0]))
    change = measured.total - measured.total[rows.baseline]
    effects = per_item(change, measured)
    target, control = _stacked(at)
    flat, shape = target.ravel(), (*target.shape, len(measured.values))
    means, n_prompts = bootstrap(change[flat], measured, n_bootstrap, seed)
    low, high = (side.reshape(shape) for side in intervals(means, n_prompts))
    effect, null = effects[target], effects[control]  # (network, dose, condition), with draws between
    p = p_against(effect, null)
    neutral = _NEUTRAL.get(str(inputs_of(scores).get("kind", "")), 0.0)
    distance = abs(np.asarray(doses) - neutral)
    slope = _slope(effect, distance)
    ends = _slope(means.reshape(*shape, -1), distance)  # (network, condition, bootstrap)
    sides = [interval(ends[:, v], int(n)) for v, n in enumerate(n_prompts)]
    dims, table = ("network", "dose", by), ("network", by)
    by_condition = [np.stack(side, axis=1) for side in zip(*sides, strict=True)]
    return xr.Dataset(
        {
            "effect": (dims, effect, {"units": METRICS[metric][1]}),
            "low": (dims, low),
            "high": (dims, high),
            "control": (("network", "draw", "dose", by), null),
            "p_value": (dims, p),
            "p_corrected": (dims, corrected(p, correction)),
            "slope": (table, slope, {"units": f"{METRICS[metric][1]}, per unit of dose"}),
            "slope_low": (table, by_condition[0]),
            "slope_high": (table, by_condition[1]),
            "slope_p": (table, p_against(slope, _slope(null, distance, axis=2))),
            "baseline": (by, per_item(measured.total[rows.baseline], measured)[0]),
            "size": ("network", n_lesioned(scores)[rows.target]),
        },
        coords={
            "network": np.array(rows.names, dtype=object),
            "dose": doses,
            by: measured.values.astype(object),
        },
        attrs={**attrs_of(scores, kind, by, metric, correction, n_bootstrap, seed), "neutral": neutral},
    )


def _stacked(at: list[Rows]) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Places of all doses: (network, dose) and (network, draw, dose)."""
    return np.stack([r.target for r in at], axis=1), np.stack([r.control for r in at], axis=2)


def _slope(effect: Float64, distance: Float64, axis: int = 1) -> Float64:
    """Least squares through the origin along the axis of the doses."""
    moved = np.moveaxis(effect, axis, -1)
    return np.asarray((moved * distance).sum(axis=-1) / (distance @ distance))
