"""Dose-response: how the effect of a lesion grows with its dose; amplification, where the dose is a gain."""

import numpy as np
import xarray as xr

from ...store.errors import InputError
from ...store.moments import Float64
from ..corrections import Correction
from .comparison import compare
from .estimates import intervals, p_against, per_item
from .measures import Metric, measure
from .options import Options
from .rows import check_scores, doses_of, inputs_of, n_lesioned, rows_of

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
    return _response(scores, "dose_response", Options(by, metric, correction, n_bootstrap, seed))


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
    options = Options(by, metric, correction, n_bootstrap, seed)
    check_scores(scores, "amplification")
    kind = inputs_of(scores).get("kind", "")
    if kind not in ("scale", "add"):
        raise InputError(f"amplification takes scores of the kinds 'scale' and 'add', got {kind!r}")
    return _response(scores, "amplification", options)


def _response(scores: xr.Dataset, kind: str, options: Options) -> xr.Dataset:
    check_scores(scores, kind)
    doses = doses_of(scores)
    if len(doses) < 2:
        raise InputError(f"{kind} needs scores of two doses at least, got {doses}; score several amounts")
    at = [rows_of(scores, kind, dose) for dose in doses]
    rows = at[0]
    if any(other.names != rows.names or not np.array_equal(other.draws, rows.draws) for other in at):
        raise InputError(f"not every network and control was scored at every dose of {doses}")
    measured = measure(scores, options.metric, options.by, rows.baseline)
    change = measured.total - measured.total[rows.baseline]
    target = np.stack([r.target for r in at], axis=1)  # (network, dose)
    control = np.stack([r.control for r in at], axis=2)  # (network, draw, dose)
    compared = compare(change, measured, target, control, options)
    neutral = _NEUTRAL.get(str(inputs_of(scores).get("kind", "")), 0.0)
    distance = abs(np.asarray(doses) - neutral)
    slope, of_controls, of_resamples = (
        _slope(effect, distance, axis)
        for effect, axis in ((compared.effect, 1), (compared.control, 2), (compared.resampled, 1))
    )
    low, high = intervals(of_resamples, compared.n_prompts)
    table = ("network", options.by)
    return xr.Dataset(
        {
            **compared.variables(("network", "dose", options.by), options.units),
            "slope": (table, slope, {"units": f"{options.units}, per unit of dose"}),
            "slope_low": (table, low),
            "slope_high": (table, high),
            "slope_p": (table, p_against(slope, of_controls)),
            "baseline": (options.by, per_item(measured.total[rows.baseline], measured)),
            "size": ("network", n_lesioned(scores)[rows.target]),
        },
        coords={
            "network": np.array(rows.names, dtype=object),
            "dose": doses,
            options.by: measured.values.astype(object),
        },
        attrs={**options.attrs(scores, kind), "neutral": neutral},
    )


def _slope(effect: Float64, distance: Float64, axis: int) -> Float64:
    """Least squares through the origin along the axis of the doses."""
    moved = np.moveaxis(effect, axis, -1)
    return np.asarray((moved * distance).sum(axis=-1) / (distance @ distance))
