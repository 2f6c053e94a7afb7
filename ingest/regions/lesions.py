"""Lesions of parameters: a region changed as long as it is looked at, and put back bit by bit."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
import xarray as xr
from torch import nn

from ...store.arguments import real_number, whole_number
from ...store.errors import InputError, InputTypeError
from ...store.regions import check_regions, masks, region_names
from ..models import LoadedModel, ModelLike, load_model
from ..parameters import as_rows, parameters_by_name
from ..scoring.untrained import untrained_copy

RegionKind = Literal["zero", "reset", "scale", "noise", "swap"]
KINDS = ("zero", "reset", "scale", "noise", "swap")
_DOSED = ("scale", "noise")
Places = Mapping[str, npt.NDArray[np.int64]]  # of each tensor, counted through its rows


@contextmanager
def region_lesion(
    model: ModelLike,
    region: xr.DataTree | Mapping[str, npt.NDArray[np.bool_]],
    *,
    kind: RegionKind = "zero",
    amount: float | None = None,
    other: ModelLike | Literal["initial"] | None = None,
    seed: int = 0,
) -> Iterator[nn.Module]:
    """Change a region of a model's parameters as long as the ``with`` block lasts.

    Afterwards every parameter has the bits that it had, also after an error. A tensor that the model
    holds under several names is changed once, wherever it is used.

    Parameters
    ----------
    model
        As for `record`; a loaded module is changed in place and restored at the end.
    region
        One region from `actome.region`, or weight tensor name -> bool (row, column), in which all
        dimensions of a tensor but the last are rows: a mask with one true row is the lesion of a row,
        with one true value of a single parameter.
    kind
        "zero"; "reset": the values that `other` has there; "scale": times `amount`; "noise": plus
        Gaussian noise of `amount` times the standard deviation of the tensor; "swap": each value
        changes places with one outside of the region, drawn in the same tensor, so that the values of
        the tensor as a whole stay the same; the region is at most half of it.
    amount
        For "scale" and "noise".
    other
        For "reset": another model of the same shape, such as an earlier checkpoint, or "initial": random
        weights as its class draws them at the beginning of training.
    seed
        Draws the noise, the places, and the initial weights.

    Yields
    ------
    The module.

    Raises
    ------
    InputError, InputTypeError
        The region does not fit the model, the kind lacks what it needs, or more than half of a tensor is
        to be swapped.
    """
    check_kind(kind, amount, other)
    seed = whole_number(seed, "seed", least=0)
    places = places_of(region)
    loaded = load_model(model)
    check_places(loaded.module, region)
    if kind == "swap":
        check_swap(loaded.module, places)
    source = values_of(other, loaded, seed)
    with changed(loaded.module, places, kind, amount, source, seed):
        yield loaded.module


def check_kind(kind: str, amount: float | None, other: Any) -> None:
    """Refuse an unknown kind of lesion, one that lacks what it needs, and what it does not take."""
    if kind not in KINDS:
        raise InputError(f"kind must be one of {list(KINDS)}, got {kind!r}")
    if (amount is None) is (kind in _DOSED):
        need = "needs `amount`" if amount is None else f"takes no amount, got {amount!r}"
        raise InputError(f"kind={kind!r} {need}")
    if (other is None) is (kind == "reset"):
        need = "needs `other`: a model, or 'initial'" if other is None else "takes no `other`"
        raise InputError(f"kind={kind!r} {need}")
    if amount is None:
        return
    value = real_number(amount, "amount")
    if not abs(value) < float("inf") or (kind == "noise" and value < 0):
        raise InputError(f"amount must be a finite number, of noise 0 or more; got {amount!r}")


def places_of(region: xr.DataTree | Mapping[str, npt.NDArray[np.bool_]]) -> Places:
    """Where a region is: tensor name -> places counted through its rows."""
    if isinstance(region, Mapping) and not isinstance(region, xr.DataTree):
        return {name: np.flatnonzero(mask) for name, mask in region.items()}
    names = region_names(check_regions(region))
    if len(names) != 1:
        raise InputError(f"a lesion takes one region, got {names}; select one with `pick_region`")
    return {name: np.flatnonzero(mask.to_numpy()) for name, mask in masks(region)}


def pick_region(regions: xr.DataTree, name: str) -> xr.DataTree:
    """Return one region of several, lazily.

    Raises
    ------
    InputError, InputTypeError
        There is none of that name; they are no regions.
    """
    names = region_names(check_regions(regions))
    if name not in names:
        raise InputError(f"there is no region {name!r}; there are {names}")
    place = [names.index(name)]
    nodes = {"/": regions.to_dataset(inherit=False).isel(region=place)}
    nodes |= {str(n): xr.Dataset({"mask": m.isel(region=place)}, attrs=m.attrs) for n, m in masks(regions)}
    return xr.DataTree.from_dict(nodes)


def check_places(module: nn.Module, region: xr.DataTree | Mapping[str, Any]) -> None:
    """Refuse a region of tensors that the model does not have in this shape."""
    known = parameters_by_name(module)
    if isinstance(region, xr.DataTree):
        shapes = {name: mask.shape[1:] for name, mask in masks(region)}
    else:
        for name, mask in region.items():
            if not isinstance(mask, np.ndarray) or mask.dtype != bool:
                raise InputTypeError(f"the mask of {name!r} must be a bool array (row, column)")
        shapes = {name: mask.shape for name, mask in region.items()}
    for name, shape in shapes.items():
        if name not in known:
            raise InputError(
                f"the model has no weight tensor {name!r}; its first are {list(known)[:3]}. Was the region "
                "selected on another architecture?"
            )
        expected = tuple(as_rows(known[name].detach()).shape)
        if tuple(shape) != expected:
            raise InputError(f"the region of {name} has shape {tuple(shape)}, the tensor {expected}")


def check_swap(module: nn.Module, places: Places) -> None:
    """Refuse a region of which some values would find no place outside to go to.

    Raises
    ------
    InputError
        It is more than half of a tensor.
    """
    for tensor, name, own in _by_tensor(module, places):
        if 2 * len(own) > tensor.numel():
            raise InputError(
                f"kind='swap' exchanges a region with places outside of it, and of {name} the region is more "
                f"than half: {len(own)} of {tensor.numel()} values; swap a smaller one, or use another kind"
            )


def values_of(other: Any, loaded: LoadedModel, seed: int) -> dict[str, torch.Tensor]:
    """Parameters of the model from which a region is reset, by every name; {} where there is none."""
    if other is None:
        return {}
    is_new = isinstance(other, str) and other == "initial"
    source = untrained_copy(loaded, [seed]) if is_new else load_model(other)
    values = {name: p.detach() for name, p in parameters_by_name(source.module).items()}
    for name, p in parameters_by_name(loaded.module).items():
        if name not in values or values[name].shape != p.shape:
            raise InputError(f"the model to reset from has no weight tensor {name} of shape {tuple(p.shape)}")
    return values


@contextmanager
def changed(
    module: nn.Module,
    places: Places,
    kind: str,
    amount: float | None,
    source: Mapping[str, torch.Tensor],
    seed: int,
) -> Iterator[None]:
    """Apply a lesion that was checked."""
    undo: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]] = []
    try:
        for number, (tensor, name, own) in enumerate(_by_tensor(module, places)):
            rng = np.random.default_rng([seed, number])
            touched = _exchanged(own, tensor.numel(), rng) if kind == "swap" else own
            where = torch.from_numpy(touched).to(tensor.device)
            before = _get(tensor, where).clone()
            undo.append((tensor, where, before))
            _set(tensor, where, _new_values(tensor, where, before, kind, amount, source.get(name), rng))
        yield
    finally:
        for tensor, where, before in reversed(undo):
            _set(tensor, where, before)


def _by_tensor(module: nn.Module, places: Places) -> list[tuple[torch.Tensor, str, npt.NDArray[np.int64]]]:
    """Merge what is named twice: tied weights are one tensor."""
    known = parameters_by_name(module)
    merged: dict[int, tuple[torch.Tensor, str, npt.NDArray[np.int64]]] = {}
    for name, own in places.items():
        tensor = known[name].detach()
        key = id(known[name])
        if key in merged:
            own = np.union1d(merged[key][2], own)
        if len(own):
            merged[key] = (tensor, name, own)
    return list(merged.values())


def _exchanged(own: npt.NDArray[np.int64], size: int, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """Places of a region, and behind them as many drawn outside of it: half of what is exchanged each."""
    outside = np.ones(size, dtype=bool)
    outside[own] = False
    others = rng.permutation(np.flatnonzero(outside))
    return np.concatenate([rng.permutation(own), others[: len(own)]])


def _new_values(
    tensor: torch.Tensor,
    where: torch.Tensor,
    before: torch.Tensor,
    kind: str,
    amount: float | None,
    source: torch.Tensor | None,
    rng: np.random.Generator,
) -> torch.Tensor:
    if kind == "reset" and source is not None:
        return _get(source, where.to(source.device)).to(before.device, before.dtype)
    if kind == "scale" and amount is not None:
        return before * amount
    if kind == "noise" and amount is not None:
        drawn = torch.from_numpy(rng.standard_normal(len(before))).to(before.device)
        return (before.double() + drawn * (amount * tensor.double().std())).to(before.dtype)
    if kind == "swap":
        return before.roll(len(before) // 2)
    return torch.zeros_like(before)


def _get(tensor: torch.Tensor, where: torch.Tensor) -> torch.Tensor:
    return tensor[torch.unravel_index(where, tensor.shape)]


def _set(tensor: torch.Tensor, where: torch.Tensor, values: torch.Tensor) -> None:
    with torch.no_grad():
        tensor[torch.unravel_index(where, tensor.shape)] = values
