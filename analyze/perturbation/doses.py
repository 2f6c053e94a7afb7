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
from .rows import check_scores, doses_of, inputs_of, keeps_only, n_lesioned, rows_of

_NEUTRAL = {"scale": 1.0, "add": 0.0, "noise": 0.0}  # the dose that changes nothing


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
    Dataset of kind "dose_response"; the attribute ``neutral`` is the dose that changes nothing, if there is
    one: 1 of "scale", 0 of "add" and of "noise" without a reference. With one, "noise" of dose 0 still sets
    neurons to their means.

    effect, low, high, p_value, p_corrected : (network, dose, condition), as of `lesion_effects`, the
        correction for all of them; as of `preservation` where the networks were kept
    control : (network, draw, dose, condition)
    slope, slope_low, slope_high : (network, condition), least squares of the effects on the distance of
        the dose from the neutral one, through no effect there; without a neutral dose on the dose itself,
        with an intercept; per unit of dose
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
        As for `dose_response`; the lesion is of another kind, or spares the networks.
    """
    options = Options(by, metric, correction, n_bootstrap, seed)
    check_scores(scores, "amplification")
    kind = inputs_of(scores).get("kind", "")
    if kind not in ("scale", "add"):
        raise InputError(f"amplification takes scores of the kinds 'scale' and 'add', got {kind!r}")
    if keeps_only(scores):
        raise InputError(
            "amplification takes scores of networks that were amplified; with keep_only=True all others "
            "were: use dose_response"
        )
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
    kept = keeps_only(scores)
    compared = compare(change, measured, target, control, options, better=kept)
    neutral = neutral_dose(scores)
    slope, of_controls, of_resamples = (
        _slope(effect, np.asarray(doses), neutral, axis)
        for effect, axis in ((compared.effect, 1), (compared.control, 2), (compared.resampled, 1))
    )
    low, high = intervals(of_resamples, compared.n_prompts)
    sign = -1.0 if kept else 1.0
    table = ("network", options.by)
    return xr.Dataset(
        {
            **compared.variables(("network", "dose", options.by), options.units),
            "slope": (table, slope, {"units": f"{options.units}, per unit of dose"}),
            "slope_low": (table, low),
            "slope_high": (table, high),
            "slope_p": (table, p_against(sign * slope, sign * of_controls)),
            "baseline": (options.by, per_item(measured.total[rows.baseline], measured)),
            "size": ("network", n_lesioned(scores)[rows.target]),
        },
        coords={
            "network": np.array(rows.names, dtype=object),
            "dose": doses,
            options.by: measured.values.astype(object),
        },
        attrs=options.attrs(scores, kind) | ({} if neutral is None else {"neutral": neutral}),
    )


def neutral_dose(scores: xr.Dataset) -> float | None:
    """Return the dose that changes nothing; None where there is none, or the kind of lesion is not known.

    Noise around the means of a reference puts the means in when there is none of it.
    """
    inputs = inputs_of(scores)
    kind = str(inputs.get("kind", ""))
    if kind == "noise" and inputs.get("reference") is not None:
        return None
    return _NEUTRAL.get(kind)


def _slope(effect: Float64, doses: Float64, neutral: float | None, axis: int) -> Float64:
    """Least squares along the axis of the doses: through no effect at the neutral one, if there is one."""
    away = doses - doses.mean() if neutral is None else abs(doses - neutral)
    return np.asarray((np.moveaxis(effect, axis, -1) * away).sum(axis=-1) / (away @ away))
