"""Preservation: how much of a model is left when only some of its neurons are kept."""

import numpy as np
import xarray as xr

from ...store.errors import InputError
from ..corrections import Correction
from .comparison import compare
from .estimates import per_item
from .measures import Metric, measure
from .options import Options
from .rows import check_scores, keeps_only, rows_of


def preservation(
    scores: xr.Dataset,
    *,
    by: str = "condition",
    metric: Metric = "loss",
    dose: float | None = None,
    correction: Correction = "fdr",
    n_bootstrap: int = 1000,
    seed: int = 0,
) -> xr.Dataset:
    """How far a model holds up when all neurons but those of a series of networks are lesioned.

    Parameters
    ----------
    scores
        From `actome.score` with ``keep_only=True``, the networks being the points of the curve: see
        `unions` and `top_fractions`. The controls keep as many random neurons of each layer.
    by, metric, dose, correction, n_bootstrap, seed
        As for `lesion_effects`.

    Returns
    -------
    Dataset of kind "preservation", ``point`` in the order of the neurons kept

    effect, low, high : (point, condition), above the whole model, in units of the metric
    control : (point, draw, condition), the same of each random set
    p_value : (point, condition), (1 + sets that hold up at least as well) / (1 + sets)
    p_corrected : (point, condition)
    n_kept, share_kept : (point), neurons
    shared : (point), the mean share of a random set's neurons that are the network's own; the more of a
        layer is kept, the more
    baseline : (condition), the metric of the whole model

    Raises
    ------
    InputError, InputTypeError
        As for `lesion_effects`; the scores are of lesions that keep the others.
    """
    options = Options(by, metric, correction, n_bootstrap, seed)
    check_scores(scores, "preservation")
    if not keeps_only(scores):
        raise InputError(
            "preservation takes scores made with keep_only=True; these are of lesions: use lesion_effects"
        )
    rows = rows_of(scores, "preservation", dose)
    measured = measure(scores, metric, by, rows.baseline)
    change = measured.total - measured.total[rows.baseline]
    n_kept = scores["network"].sum(("layer", "neuron")).to_numpy()[rows.target]
    order = np.argsort(n_kept, kind="stable")
    target, control = rows.target[order], rows.control[order]
    compared = compare(change, measured, target, control, options, better=True)
    shared = {}
    if "shared" in scores.coords and control.size:
        shared["shared"] = ("point", scores["shared"].to_numpy()[control].mean(axis=1))
    n_neurons = scores.sizes["layer"] * scores.sizes["neuron"]
    ds = xr.Dataset(
        {
            **compared.variables(("point", by), options.units),
            "baseline": (by, per_item(measured.total[rows.baseline], measured)),
            "n_kept": ("point", n_kept[order]),
            "share_kept": ("point", n_kept[order] / n_neurons),
            **shared,
        },
        coords={
            "point": np.array(rows.names, dtype=object)[order],
            by: measured.values.astype(object),
        },
        attrs=options.attrs(scores, "preservation"),
    )
    return ds if dose is None else ds.assign_attrs(dose=float(dose))
