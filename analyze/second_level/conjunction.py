"""Conjunction: the neurons that show every one of several effects."""

from collections.abc import Iterable, Mapping

import xarray as xr

from .aligned import aligned, common_attrs


def conjunction(contrasts: Mapping[str, xr.Dataset] | Iterable[xr.Dataset]) -> xr.Dataset:
    """Test whether a neuron shows all of several effects, by the weakest of them.

    The null is that any of them is absent (the conjunction null), so that the weakest statistic is
    compared with what it would be alone. Valid however the contrasts depend on each other: they may share
    prompts and conditions.

    Parameters
    ----------
    contrasts
        Two or more t contrasts of the same measure, site and neurons, from `compute_contrast` or
        `combine`; a mapping names them. Their degrees of freedom may differ.

    Returns
    -------
    Dataset (..., layer, neuron), lazy if the inputs are; NaN for a neuron that is NaN in any input

    stat : z of the weakest effect where all have one sign, the smallest or, of negative ones, the
        largest z; 0 where signs differ
    z_score : the same
    p_value : the largest p of the contrasts, two-sided as theirs, so that the one-sided p of `threshold` is
        their largest one-sided p; 1 where signs differ

    attrs hold ``selected_on``, the prompts of all inputs.

    Raises
    ------
    InputError, InputTypeError
        The inputs are fewer than two, no t contrasts, or not of the same neurons and measure.

    References
    ----------
    .. [1] Nichols, Brett, Andersson, Wager & Poline (2005), NeuroImage 25:653-660.
    """
    inputs = aligned("conjunction", contrasts, ("stat", "z_score", "p_value"), ("measure", "site"))
    z, p = (
        xr.concat([ds[name].reset_coords(drop=True) for ds in inputs.values()], "input")
        for name in ("z_score", "p_value")
    )
    low, high = z.min("input", skipna=False), z.max("input", skipna=False)
    agree = (low > 0) | (high < 0)
    weakest = low.where(low > 0, high).where(agree, 0.0).where(low.notnull())
    largest = p.max("input", skipna=False).where(agree, 1.0).where(low.notnull())
    titles = [str(ds.attrs.get("contrast") or name) for name, ds in inputs.items()]
    return xr.Dataset({"stat": weakest, "z_score": weakest, "p_value": largest}).assign_attrs(
        common_attrs(inputs),
        contrast=" & ".join(titles),
        contrasts=titles,
        assumption="none: the contrasts may depend on each other in any way",
    )
