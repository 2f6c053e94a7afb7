"""Which lesions are scored: the model left whole, each target, and its controls, at every dose."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import xarray as xr

from ...store.errors import InputError, InputTypeError
from ...store.seeds import seed_of
from ...store.selection import Selection, joined_selection
from ..controls import (
    layer_mismatch,
    least_selective,
    matched_controls,
    mismatch,
    shared,
    size_mismatch,
)
from ..lesions.masks import Mask, full_mask, read_mask

Bool = npt.NDArray[np.bool_]
Float64 = npt.NDArray[np.float64]
Networks: TypeAlias = xr.DataArray | Mapping[str, Mask]

MATCHED, LEAST_SELECTIVE = "matched", "least_selective"


@dataclass(frozen=True)
class Lesion:
    """One lesion to run, and why.

    Attributes
    ----------
    role
        "baseline", "target" or "control".
    target
        The network that it removes, or is a control of; "" for the baseline.
    control_kind
        "matched", "least_selective", or "" where it is no control.
    draw
        Number of a random control, -1 otherwise.
    dose
        The amount, None where the kind takes none.
    network
        (layer, neuron): what was asked to be removed, or to be kept.
    mismatches
        How a control differs from its target, by name.
    """

    role: str
    target: str
    network: Bool
    dose: float | None = None
    control_kind: str = ""
    draw: int = -1
    mismatches: Mapping[str, float] | None = None

    @property
    def name(self) -> str:
        """A name that no other has, where the dose is added for several."""
        if self.role == "baseline":
            return self.role
        which = self.control_kind if self.control_kind == LEAST_SELECTIVE else self.role
        return f"{self.target}/{which}{self.draw if self.draw >= 0 else ''}"


MISMATCHES = ("mismatch", "mismatch_size", "mismatch_layers", "shared")


def list_lesions(
    targets: Mapping[str, Bool],
    doses: Sequence[float | None],
    *,
    magnitude: Float64 | None,
    selectivity: Mapping[str, Float64] | None,
    controls: int,
    seed: int,
) -> list[Lesion]:
    """List every lesion: the baseline, then each target at each dose, followed by its controls.

    A control has the same neurons at every dose, and whichever networks are beside its own.
    """
    shape = next(iter(targets.values())).shape
    lesions = [Lesion("baseline", "", np.zeros(shape, dtype=bool), mismatches=_no_control(float("nan")))]
    for name, target in targets.items():
        rng = np.random.default_rng(seed_of(seed, "controls", name))
        draws = matched_controls(target, magnitude, controls, rng)
        least = None if selectivity is None else least_selective(target, selectivity[name])
        for dose in doses:
            lesions.append(Lesion("target", name, target, dose, mismatches=_no_control(0.0)))
            for i, control in enumerate(draws):
                found = _mismatches(target, control, magnitude)
                lesions.append(Lesion("control", name, control, dose, MATCHED, i, found))
            if least is not None:
                found = _mismatches(target, least, magnitude)
                lesions.append(Lesion("control", name, least, dose, LEAST_SELECTIVE, -1, found))
    return lesions


def _no_control(value: float) -> dict[str, float]:
    return {name: float("nan") if name == "shared" else value for name in MISMATCHES}


def _mismatches(target: Bool, control: Bool, magnitude: Float64 | None) -> dict[str, float]:
    values = (
        mismatch(target, control, magnitude),
        size_mismatch(target, control),
        layer_mismatch(target, control),
        shared(target, control),
    )
    return dict(zip(MISMATCHES, values, strict=True))


def as_networks(masks: Any) -> Networks:
    """Give masks their dimension ``network``, or take them by name; refuse what are no masks."""
    if isinstance(masks, Mapping):
        if not masks:
            raise InputError("masks must name at least one network, got none")
        _check_names([str(name) for name in masks])
        return {
            str(name): read_mask(m) if isinstance(m, (str, os.PathLike)) else m for name, m in masks.items()
        }
    if isinstance(masks, (str, os.PathLike)):
        masks = read_mask(masks)
    if not isinstance(masks, xr.DataArray) or masks.dtype != bool:
        raise InputTypeError(
            "masks must be a bool DataArray (network, layer, neuron), as threshold and networks give it, the "
            "path of a saved one, or a mapping from names to masks"
        )
    if "network" not in masks.dims:
        name = str(masks.coords["network"].item()) if "network" in masks.coords else "network"
        masks = masks.drop_vars("network", errors="ignore").expand_dims(network=[name])
    names = [str(n) for n in masks["network"].to_numpy()]
    _check_names(names)
    if not names:
        raise InputError("masks must hold at least one network, got none")
    found: xr.DataArray = masks
    return found


def _check_names(names: Sequence[str]) -> None:
    if len(set(names)) < len(names):
        raise InputError(f"the names of the networks must differ, got {list(names)}")


def spread(masks: Networks, shape: tuple[int, int], site: str) -> dict[str, Bool]:
    """Spread each network over all layers and neurons of the site: name -> (layer, neuron)."""
    if isinstance(masks, Mapping):
        return {name: full_mask(mask, *shape, site) for name, mask in masks.items()}
    names = [str(n) for n in masks["network"].to_numpy()]
    single = (masks.isel(network=k, drop=True).reset_coords(drop=True) for k in range(len(names)))
    return {name: full_mask(mask, *shape, site) for name, mask in zip(names, single, strict=True)}


def selection_of(masks: Networks) -> tuple[Selection | None, list[str]]:
    """Return the prompts that selected networks, None if no mask says, and the names of masks that do not."""
    parts = masks if isinstance(masks, Mapping) else {"": masks}
    attrs = {name: getattr(part, "attrs", {}) for name, part in parts.items()}
    silent = [name for name, noted in attrs.items() if Selection.noted(noted) is None]
    if len(silent) == len(parts):
        return None, []
    selected = joined_selection(*attrs.values())
    return Selection(tuple(sorted(selected.prompts))), silent


def selectivity_maps(
    selectivity: xr.DataArray | None, names: Sequence[str], shape: tuple[int, int]
) -> dict[str, Float64] | None:
    """Spread a map of selectivity over the site, NaN where it says nothing: name -> (layer, neuron).

    Parameters
    ----------
    selectivity
        (layer, neuron) numbers, the same for all networks, or (network, layer, neuron) by their names.
    names, shape
        Of the networks; of the site.

    Raises
    ------
    InputError, InputTypeError
        It is no such map, a network has none, or it does not fit the site.
    """
    if selectivity is None:
        return None
    if not isinstance(selectivity, xr.DataArray) or selectivity.dtype.kind not in "iuf":
        raise InputTypeError(
            "selectivity must be a DataArray of numbers (layer, neuron), such as the `stat` of a contrast"
        )
    dims = {"network", "layer", "neuron"} if "network" in selectivity.dims else {"layer", "neuron"}
    if set(selectivity.dims) != dims:
        raise InputError(f"selectivity must have dims (layer, neuron), got {selectivity.dims}")
    if "network" not in dims:
        return dict.fromkeys(names, _spread_numbers(selectivity, shape))
    known = [str(n) for n in selectivity["network"].to_numpy()]
    missing = [name for name in names if name not in known]
    if missing:
        raise InputError(f"selectivity has no map of the network {missing[0]!r}; it has {known}")
    maps = (selectivity.isel(network=known.index(name), drop=True) for name in names)
    return {name: _spread_numbers(values, shape) for name, values in zip(names, maps, strict=True)}


def _spread_numbers(values: xr.DataArray, shape: tuple[int, int]) -> Float64:
    values = values.transpose("layer", "neuron")
    numbers = [values[d].to_numpy() for d in ("layer", "neuron")]
    if any(n.min(initial=0) < 0 or n.max(initial=0) >= size for n, size in zip(numbers, shape, strict=True)):
        raise InputError(f"selectivity has layers or neurons beyond those of the site, {shape}")
    out = np.full(shape, np.nan)
    out[np.ix_(*numbers)] = values.to_numpy()
    return out
