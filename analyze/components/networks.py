"""From components to networks, and how strongly a network is used."""

import numpy as np
import xarray as xr

from ...store.blocks import prompt_level
from ...store.errors import InputError, InputTypeError
from ..threshold import P, Top, Z, top_fraction

_DEFAULT = Z(3.6)


def networks(components: xr.Dataset, threshold: Z | Top = _DEFAULT, two_sided: bool = False) -> xr.DataArray:
    """Keep the neurons that stand out in each component's map.

    Parameters
    ----------
    components
        From `group_ica`: maps of zero mean and unit variance over neurons.
    threshold
        ``Z(3.6)``: so many standard deviations from the mean over neurons; ``Top(0.01)``: the largest.
    two_sided
        Keep the negative end too; by default the longer tail, which is positive.

    Returns
    -------
    DataArray bool (network, layer, neuron)
        Lazy if the maps are, but for `Top`, which ranks here. attrs hold ``selected_on``, the prompts
        that took part.

    Raises
    ------
    InputError
        The threshold is of another type: a map of z has no p-value.
    """
    if not isinstance(components, xr.Dataset) or "component_map" not in components:
        raise InputTypeError("networks takes components from actome.group_ica")
    _check_threshold(threshold)
    maps: xr.DataArray = components["component_map"]
    values = abs(maps) if two_sided else maps
    mask = (
        values >= threshold.value if isinstance(threshold, Z) else _top(values.compute(), threshold.fraction)
    )
    names = np.array([f"ic{int(i)}" for i in components["component"].to_numpy()], dtype=object)
    keep = ("source", "source_name", "site", "selected_on")
    attrs = {k: components.attrs[k] for k in keep if k in components.attrs}
    mask = mask.rename(component="network").assign_coords(network=names).rename("mask")
    return mask.transpose("network", "layer", "neuron").assign_attrs(
        attrs, kind="mask", control=repr(threshold), two_sided=two_sided
    )


def _check_threshold(threshold: object) -> None:
    if not isinstance(threshold, Z | Top):
        why = "a component has no p-value" if isinstance(threshold, P) else "it is of another type"
        raise InputError(f"threshold must be Z(...) or Top(...), got {threshold!r}: {why}")


def _top(values: xr.DataArray, fraction: float) -> xr.DataArray:
    out: xr.DataArray = xr.apply_ufunc(
        lambda v: top_fraction(v, fraction),
        values,
        input_core_dims=[["layer", "neuron"]],
        output_core_dims=[["layer", "neuron"]],
        vectorize=True,
    )
    return out


def expression(ds: xr.Dataset, masks: xr.DataArray) -> xr.DataArray:
    """How strongly each network is used in each prompt.

    Parameters
    ----------
    ds
        A recording at either level.
    masks
        bool (network, layer, neuron).

    Returns
    -------
    DataArray (network, prompt), lazy
        Mean over the network's neurons of the prompt's mean |activation|, in standard deviations of
        each neuron over prompts, 0 for a neuron that does not vary; NaN for an empty network and for
        a prompt without tokens.

    Raises
    ------
    InputError
        The masks cover other layers or neurons than the recording.
    """
    moments = prompt_level(ds)
    for dim in ("layer", "neuron"):
        if not np.array_equal(masks[dim].to_numpy(), moments[dim].to_numpy()):
            raise InputError(
                f"the masks and the recording differ in {dim}: "
                f"{masks.sizes[dim]} and {moments.sizes[dim]} of them, or others"
            )
    some = xr.DataArray(moments["count"].to_numpy() > 0, dims="prompt")
    n = int(some.sum())
    magnitude = moments["mean_abs"].where(some, 0.0)
    mean: xr.DataArray = magnitude.sum("prompt", skipna=False) / max(n, 1)
    away = (magnitude - mean).where(some, 0.0)
    sd = ((away**2).sum("prompt", skipna=False) / max(n, 1)) ** 0.5
    z = (away / sd.where(sd > 1e-12 * mean)).fillna(0.0)
    size = masks.sum(("layer", "neuron"))
    used = xr.dot(masks.astype(np.float64), z, dim=("layer", "neuron")) / size.where(size > 0)
    out: xr.DataArray = used.where(some).rename("expression")
    return out
