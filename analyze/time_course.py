"""Time course: one neuron, token by token in the order shown, beside what a fit predicts of it."""

import numpy as np
import xarray as xr

from ..store.blocks import level_of, valid_tokens
from ..store.errors import InputError, InputTypeError
from ..store.moments import Float64
from ..store.provenance import source_attrs
from ..store.selection import Selection

_LABELS = ("condition", "block", "run")


def time_course(ds: xr.Dataset, fit: xr.Dataset, *, layer: int, neuron: int) -> xr.Dataset:
    """Activation of one neuron over the tokens of some prompts, and its fitted mean in their conditions.

    Parameters
    ----------
    ds
        A recording with its tokens and ``condition``, whole or in part. Prompts are taken in their order.
    fit
        From `fit_glm` with a label as formula, of the same neurons. A fit of other prompts than those of
        `ds` makes the prediction an honest one.
    layer, neuron
        Which one, by the numbers that the recording gives.

    Returns
    -------
    Dataset, computed here

    value : (row), one row a token: the activation, or its magnitude where that was fitted
    prediction : (row), the fitted mean of the token's condition, in the same units; confounds are left out
    correlation : of the two over the rows; NaN where one does not vary
    prompt, condition, block, run : (row), where the recording has them

    attrs ``selected_on`` lists the prompts of the fit.

    Raises
    ------
    InputError, InputTypeError
        There is no such layer or neuron, `ds` has no tokens, or the fit lacks one of its conditions.
    """
    if not isinstance(fit, xr.Dataset) or "beta" not in fit:
        raise InputTypeError("time_course takes a fit from actome.fit_glm")
    if level_of(ds) != "token":
        raise InputError("a time course needs the tokens; open the recording with level='token'")
    for given in (ds, fit):
        for dim, number in (("layer", layer), ("neuron", neuron)):
            if number not in given[dim].to_numpy():
                raise InputError(f"there is no {dim} {number}; there are {given.sizes[dim]}")
    mean = _fitted_means(ds, fit.sel(layer=layer, neuron=neuron)["beta"], list(fit.attrs["conditions"]))
    valid = valid_tokens(ds)
    activation = ds["activation"].sel(layer=layer, neuron=neuron).transpose("prompt", "token")
    value = activation.to_numpy()[valid].astype(np.float64)
    if fit.attrs["measure"] == "magnitude":
        value = np.abs(value)
    prompt = np.repeat(np.arange(ds.sizes["prompt"]), valid.sum(axis=1))
    prediction = mean[prompt]
    labels = {c: ("row", ds[c].to_numpy()[prompt]) for c in ("prompt", *_LABELS) if c in ds.coords}
    return xr.Dataset(
        {
            "value": ("row", value),
            "prediction": ("row", prediction),
            "correlation": _correlation(value, prediction),
        },
        coords=labels,
        attrs={
            "kind": "time_course",
            "layer": layer,
            "neuron": neuron,
            "measure": fit.attrs["measure"],
            "formula": fit.attrs["formula"],
            **Selection.made(fit).attrs,
            **source_attrs(ds.attrs),
        },
    )


def _fitted_means(ds: xr.Dataset, beta: xr.DataArray, conditions: list[str]) -> Float64:
    """Fitted mean of every prompt's condition: (prompt,)."""
    if "condition" not in ds.coords:
        raise InputError("the recording has no label 'condition' to predict from")
    shown = ds["condition"].to_numpy()
    missing = sorted(set(shown.tolist()) - set(conditions))
    if missing:
        raise InputError(f"the fit has no mean of the conditions {missing}; it has those of {conditions}")
    return np.asarray(beta.sel(regressor=shown).to_numpy(), dtype=np.float64)


def _correlation(x: Float64, y: Float64) -> float:
    if len(x) < 2 or not (np.ptp(x) > 0 and np.ptp(y) > 0):
        return float("nan")
    return float(np.corrcoef(x, y)[0, 1])
