"""From components to networks, and how strongly a network is used."""

import numpy as np
import numpy.typing as npt
import xarray as xr

from ... import _version
from ...store.blocks import prompt_level
from ...store.errors import InputError, InputTypeError
from ...store.provenance import ORIGIN
from ...store.selection import Selection
from ..threshold import P
from .map_thresholds import ASSUMPTIONS, FAR_OUT, FEWEST, MapThreshold, Mixture, far_out

_WHICH = {
    (True, False): "those that beat the null",
    (True, True): "all, those too that did not beat the null",
    (False, False): "all; none was compared with chance",
    (False, True): "all; none was compared with chance",
}


def networks(
    components: xr.Dataset,
    threshold: MapThreshold = FAR_OUT,
    two_sided: bool = False,
    *,
    keep_all: bool = False,
) -> xr.DataArray:
    """Keep the neurons that stand out in each component's map.

    Parameters
    ----------
    components
        From `group_ica`, or with a map for each subject from `dual_regression` and
        `individual_components`: ``component_map`` (..., component, layer, neuron), of zero mean and unit
        variance over neurons.
    threshold
        ``Z(3.6)``: so many standard deviations from the mean over neurons; ``Top(0.01)``: the largest, here
        those above the 99th percentile; ``OfMaximum(0.5)``: what reaches this share of the largest;
        ``Mixture(3)``: what a mixture of Gaussians takes for something else than the bulk of the neurons.
    two_sided
        Keep the negative end too; by default the longer tail, which is positive.
    keep_all
        Keep the components too that did not beat the null of `group_ica`, where there was one: only the
        others are called networks.

    Returns
    -------
    DataArray bool (..., network, layer, neuron)
        Lazy if the maps are. A neuron without a value is in no network. attrs hold ``selected_on``, the
        prompts that took part, ``assumption``, what the threshold rests on, and ``components``, whether
        these are all or those that beat the null.

    Raises
    ------
    InputError
        The threshold is of another type: a map of z has no p-value; or there are too few neurons for a
        mixture.
    """
    if not isinstance(components, xr.Dataset) or "component_map" not in components:
        raise InputTypeError("networks takes components from actome.group_ica")
    maps = components["component_map"]
    _check_threshold(threshold, maps)
    judged = "is_network" in components
    if judged and not keep_all:
        maps = maps.isel(component=np.flatnonzero(components["is_network"].to_numpy()))
    if maps.chunks is not None:
        maps = maps.chunk(layer=-1, neuron=-1)
    mask: xr.DataArray = xr.apply_ufunc(
        lambda values: far_out(values, threshold, two_sided),
        maps,
        input_core_dims=[["layer", "neuron"]],
        output_core_dims=[["layer", "neuron"]],
        vectorize=True,
        dask="parallelized",
        output_dtypes=[bool],
    )
    names = component_names(maps["component"])
    mask = mask.rename(component="network").assign_coords(network=names).rename("mask")
    return mask.transpose(..., "network", "layer", "neuron").assign_attrs(
        {k: components.attrs[k] for k in ORIGIN if k in components.attrs},
        **_selection(components),
        kind="mask",
        control=repr(threshold),
        two_sided=two_sided,
        assumption=ASSUMPTIONS[type(threshold)],
        components=_WHICH[judged, keep_all],
        actome=_version.__version__,
    )


def component_names(components: xr.DataArray) -> npt.NDArray[np.object_]:
    """Name networks after their components: by number, or as these are called.

    >>> component_names(xr.DataArray([0, 3])).tolist(), component_names(xr.DataArray(["syntax"])).tolist()
    (['ic0', 'ic3'], ['syntax'])
    """
    given = components.to_numpy()
    prefix = "ic" if given.dtype.kind in "iu" else ""
    return np.array([f"{prefix}{name}" for name in given.tolist()], dtype=object)


def _selection(components: xr.Dataset) -> dict[str, list[str]]:
    """List the prompts that the maps were made from, if known: the group's and, of subjects' maps, theirs."""
    known = Selection.noted(components.attrs)
    if known is None:
        return {}
    own = Selection.of(components) if "prompt" in components.dims else Selection()
    return (known | own).attrs


def _check_threshold(threshold: object, maps: xr.DataArray) -> None:
    if not isinstance(threshold, MapThreshold):
        why = "a component has no p-value" if isinstance(threshold, P) else "it is of another type"
        raise InputError(
            f"threshold must be Z(...), Top(...), OfMaximum(...) or Mixture(...), got {threshold!r}: {why}"
        )
    n = maps.sizes["layer"] * maps.sizes["neuron"]
    if isinstance(threshold, Mixture) and n < FEWEST:
        raise InputError(f"a mixture needs {FEWEST} neurons at least, got {n}; take Z(...) or Top(...)")


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
        each neuron over prompts, 0 for a neuron that does not vary or lacks a value; NaN for an empty
        network and for a prompt without tokens.

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
