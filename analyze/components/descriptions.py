"""What a set of networks is like: sizes, layers, shared neurons, hubs."""

import numpy as np
import numpy.typing as npt
import xarray as xr

from ...store.errors import InputTypeError
from ...store.moments import Float64
from ..overlap import network_counts, overlap
from ..threshold import check_fraction


def describe_networks(masks: xr.DataArray, *, alpha: float = 0.05) -> xr.Dataset:
    """Describe networks: how large they are, where they lie, what they share, and which neurons are hubs.

    Parameters
    ----------
    masks
        bool (network, layer, neuron), from `networks`.
    alpha
        Chance that any neuron is called a hub where networks are placed independently.

    Returns
    -------
    Dataset

    size : (network), neurons
    layer_size : (network, layer), neurons in each layer
    profile : (network, layer), share of the network's neurons that lie in the layer; NaN for an empty one
    dice, intersection, expected, p_value : (network, network_other), as `overlap` gives them beside
        networks of the same sizes in each layer
    n_networks : (layer, neuron), networks that the neuron belongs to
    histogram : (membership), neurons that belong to so many networks, from 0 to all
    hub_p_value : (layer, neuron), chance of so many networks where each has its neurons anywhere in its
        layers, independently of the others: the number is then a sum of independent draws of unequal
        probability, whose distribution is exact
    hub : (layer, neuron), whether that is at most `alpha` over the number of neurons (Bonferroni)

    Raises
    ------
    InputTypeError
        The masks are not bool (network, layer, neuron).

    Examples
    --------
    >>> masks = xr.DataArray(np.eye(3, 40, dtype=bool)[:, None], dims=("network", "layer", "neuron"))
    >>> masks[:, 0, 9] = True
    >>> hubs = describe_networks(masks)["hub"]
    >>> hubs.values.nonzero()[1].tolist()
    [9]
    """
    check_fraction("alpha", alpha)
    if isinstance(masks, xr.DataArray) and "subject" in masks.dims:
        raise InputTypeError("describe_networks takes the networks of one subject; choose one with .sel")
    counts = network_counts(masks)
    shared = overlap(masks, null="layers")
    size = counts["size"].sum("layer")
    count = counts["count"].to_numpy()
    hub_p = _beyond_chance(counts["share"].to_numpy(), count)
    own = ("dice", "intersection", "expected", "p_value")
    return xr.Dataset(
        {
            "size": size,
            "layer_size": counts["size"],
            "profile": counts["size"] / size.where(size > 0),
            **{name: shared[name] for name in own},
            "n_networks": counts["count"],
            "histogram": ("membership", counts["histogram"].to_numpy()),
            "hub_p_value": (("layer", "neuron"), hub_p),
            "hub": (("layer", "neuron"), hub_p <= alpha / max(count.size, 1)),
        },
        coords={"membership": counts["n_networks"].to_numpy()},
        attrs={
            **counts.attrs,
            **{k: masks.attrs[k] for k in ("control", "two_sided") if k in masks.attrs},
            "kind": "networks",
            "alpha": alpha,
            "null": "layers",
            "assumption": "networks place their neurons independently of one another within their layers",
        },
    )


def _beyond_chance(share: Float64, count: npt.NDArray[np.int64]) -> Float64:
    """Chance of belonging to at least `count` (layer, neuron) networks of these shares (network, layer)."""
    out = np.ones(count.shape)
    for layer, shares in enumerate(share.T):
        mass = np.ones(1)
        for p in shares:
            mass = np.convolve(mass, [1.0 - p, p])
        tail = np.minimum(np.cumsum(mass[::-1])[::-1], 1.0)
        out[layer] = tail[count[layer]]
    return out
