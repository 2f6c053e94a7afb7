"""How strongly maps or networks are present at every token."""

import numpy as np
import xarray as xr

from ...store.blocks import activation_array, valid_tokens
from ...store.errors import InputError, InputTypeError
from ...store.moments import Bool, Float64, Measure, check_measure
from ...store.provenance import source_attrs
from ...store.selection import SELECTION
from ..components.scaling import Scaling, scaling
from .checks import Int, check_neurons, labels_of, recording_with_tokens
from .projection import over_neurons


def network_time_courses(
    ds: xr.Dataset, masks: xr.DataArray, *, measure: Measure = "signed", standardize: bool = True
) -> xr.Dataset:
    """Mean over the neurons of each network, token by token.

    Parameters
    ----------
    ds
        A recording at the level of tokens.
    masks
        bool (network, layer, neuron).
    measure
        "signed" or "magnitude": of the activations that are averaged.
    standardize
        Give every neuron unit variance over tokens first; otherwise neurons are only centred.

    Returns
    -------
    Dataset; the cube is read once here, and once more when the courses are computed

    time_course : (network, prompt, token), lazy, in standard deviations of a neuron (activation units
        without `standardize`); NaN on padding, and everywhere for a network without a usable neuron
    size : (network), neurons averaged: those of the network that are finite everywhere; a neuron that never
        varies counts as 0

    Prompts without tokens are left out. The labels of prompts and tokens are kept.

    Raises
    ------
    InputError, InputTypeError
        The masks are not bool or cover other neurons, or the recording has no tokens.
    """
    check_measure(measure)
    if (
        not isinstance(masks, xr.DataArray)
        or masks.dtype != bool
        or set(masks.dims) != {"network", "layer", "neuron"}
    ):
        raise InputTypeError("network_time_courses takes bool masks (network, layer, neuron)")
    ds = recording_with_tokens(ds, "network_time_courses")
    check_neurons(ds, masks, "masks")
    if measure == "magnitude":
        ds = ds.assign(activation=abs(ds["activation"]))
    scale = scaling(ds, standardize=standardize)
    usable = scale.usable.reshape(ds.sizes["layer"], -1)
    kept = masks.transpose("layer", "neuron", "network").to_numpy() & usable[..., None]
    size = kept.sum(axis=(0, 1))
    courses = over_neurons(activation_array(ds), valid_tokens(ds), scale, kept / np.maximum(size, 1))
    course = xr.DataArray(courses, dims=("prompt", "token", "network")).where(
        xr.DataArray(size > 0, dims="network")
    )
    return xr.Dataset(
        {"time_course": course.transpose("network", "prompt", "token"), "size": ("network", size)},
        coords={"network": masks["network"].variable, **labels_of(ds, "prompt", "token")},
        attrs={
            "kind": "time_courses",
            "measure": measure,
            "standardize": standardize,
            **{k: masks.attrs[k] for k in (*SELECTION, "control") if k in masks.attrs},
            **source_attrs(ds.attrs),
        },
    )


def regressed(
    ds: xr.Dataset, valid: Bool, scale: Scaling, maps: Float64, usable: Bool, window: Int
) -> Float64:
    """Least-squares coefficients of every token's neurons on maps and a constant.

    Parameters
    ----------
    maps, usable
        (component, layer, neuron), and the neurons of each map that are regressed.
    window
        (component,), numbers: maps of one window of layers are regressed together.

    Returns
    -------
    (prompt, token, component), NaN on padding, computed here.
    """
    weights = np.zeros((*maps.shape[1:], len(maps)))
    for own in (np.flatnonzero(window == w) for w in np.unique(window)):
        inside = maps[own][:, usable[own[0]]]  # (component, column)
        inside = inside - inside.mean(axis=1, keepdims=True) if inside.size else inside
        if not inside.size or np.linalg.matrix_rank(inside) < len(inside):
            raise InputError(
                f"the {len(own)} maps are linearly dependent over the {inside.shape[1]} neurons that have "
                "values in the maps and in the recording; leave the redundant ones out"
            )
        place = np.ix_(np.flatnonzero(usable[own[0]].ravel()), own)
        weights.reshape(-1, len(maps))[place] = np.linalg.pinv(inside)
    courses: Float64 = over_neurons(activation_array(ds), valid, scale, weights).compute()  # type: ignore[no-untyped-call]
    return courses
