"""Which analysis suits some scores, and by which metrics they can be judged."""

import xarray as xr

from ..corrections import Correction
from .doses import amplification, dose_response, neutral_dose
from .effects import lesion_effects
from .measures import METRICS, Metric
from .preservation import preservation
from .rows import doses_of, inputs_of, keeps_only

SUITED = ("effects", "preservation", "dose_response", "amplification")  # kinds of results


def metrics_of(scores: xr.Dataset) -> list[Metric]:
    """Return the metrics that the scores allow, "loss" first."""
    return [name for name, (variable, _) in METRICS.items() if variable in scores.data_vars]


def suited_effects(
    scores: xr.Dataset,
    *,
    by: str = "condition",
    metric: Metric = "loss",
    correction: Correction = "fdr",
    n_bootstrap: int = 1000,
    seed: int = 0,
) -> xr.Dataset:
    """Effects by the analysis that suits the scores.

    Of several doses `dose_response`, called `amplification` where all are gains; of networks kept alone
    `preservation`; else `lesion_effects`.

    Parameters
    ----------
    scores
        From `actome.score`.
    by, metric, correction, n_bootstrap, seed
        As for `lesion_effects`.

    Raises
    ------
    InputError, InputTypeError
        As for that analysis.
    """
    if len(doses := doses_of(scores)) > 1:
        neutral = neutral_dose(scores)
        is_gain = inputs_of(scores).get("kind") in ("scale", "add") and not keeps_only(scores)
        amplifies = is_gain and neutral is not None and min(doses) >= neutral
        analysis = amplification if amplifies else dose_response
    else:
        analysis = preservation if keeps_only(scores) else lesion_effects
    return analysis(scores, by=by, metric=metric, correction=correction, n_bootstrap=n_bootstrap, seed=seed)
