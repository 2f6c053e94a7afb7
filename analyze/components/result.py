"""The result of a decomposition, whatever the method: maps of standard scores, and what is known of each."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr

from ... import _version
from ...store.moments import Bool, Float64
from ...store.provenance import unfinished_of, weights_of
from ...store.selection import Selection


def standard_scores(maps: Float64) -> Float64:
    """Give maps (component, neuron) zero mean and unit variance over neurons; the sign by skewness."""
    maps = maps - maps.mean(axis=1, keepdims=True)
    maps /= maps.std(axis=1, keepdims=True)
    skew = (maps**3).mean(axis=1, keepdims=True)
    return np.asarray(maps * np.where(skew < 0, -1.0, 1.0))


def components(
    like: xr.Dataset, maps: Float64, usable: Bool, values: Mapping[str, Any], extra: Mapping[str, Any]
) -> xr.Dataset:
    """Label maps (component, usable neuron) as those of a recording; NaN for every other neuron.

    Parameters
    ----------
    like
        A recording with these layers and neurons.
    maps
        Any scale and sign.
    usable
        (layer * neuron,).
    values
        By name, one for each component.
    extra
        Other variables, with their dims.
    """
    n = len(maps)
    full = np.full((n, usable.size), np.nan)
    full[:, usable] = standard_scores(maps)
    shape = (n, like.sizes["layer"], like.sizes["neuron"])
    layers = like["layer"].to_numpy()
    return xr.Dataset(
        {
            "component_map": (("component", "layer", "neuron"), full.reshape(shape)),
            **{name: ("component", value) for name, value in values.items()},
            **extra,
        },
        coords={
            "component": np.arange(n),
            "layer": layers,
            "neuron": like["neuron"].to_numpy(),
            "window": ("component", np.full(n, layers[0])),
        },
    )


def stacked(parts: Sequence[xr.Dataset]) -> xr.Dataset:
    """Put the components of windows of layers one after the other; NaN outside a component's window."""
    if len(parts) == 1:
        return parts[0].drop_vars("window")
    each = [p[[v for v in p if "component" in p[v].dims]] for p in parts]
    shared = [p[[v for v in p if "component" not in p[v].dims]] for p in parts]
    out = xr.concat(each, "component", join="outer", data_vars="all", fill_value={"component_map": np.nan})
    firsts = xr.DataArray([int(p["layer"][0]) for p in parts], dims="of_window")
    others = xr.concat([s.drop_vars(["layer", "neuron"], errors="ignore") for s in shared], firsts)
    n = out.sizes["component"]
    return out.merge(others).assign_coords(component=np.arange(n))


def component_attrs(recordings: Sequence[xr.Dataset], method: str) -> dict[str, Any]:
    """Say what a decomposition was made of."""
    return {
        "kind": "components",
        "method": method,
        "measure": "signed",
        "source": [r.attrs.get("manifest_digest", "") for r in recordings],
        "source_name": ", ".join(r.attrs.get("name", "") for r in recordings),
        "site": ", ".join(sorted({r.attrs.get("site", "") for r in recordings})),
        **unfinished_of(*(r.attrs for r in recordings)),
        "weights_digest": [weights_of(r.attrs) for r in recordings],
        **Selection(tuple(p for r in recordings for p in Selection.of(r).prompts)).attrs,
        "actome": _version.__version__,
    }
