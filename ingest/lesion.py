"""Lesions: neurons silenced or changed while the model runs, and put right afterwards."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
import xarray as xr
from torch import nn

from ..store.blocks import prompt_level
from ..store.errors import InputError, InputTypeError
from .models import ModelLike, load_model
from .sites import Tap, find_taps

Kind = Literal["zero", "mean", "scale", "add"]
_NEEDS = {"zero": None, "mean": "reference", "scale": "amount", "add": "amount"}
Mask = xr.DataArray | npt.NDArray[np.bool_]


@contextmanager
def lesion(
    model: ModelLike,
    mask: Mask,
    *,
    site: str = "mlp",
    kind: Kind = "zero",
    amount: float | None = None,
    reference: xr.Dataset | None = None,
) -> Iterator[nn.Module]:
    """Change some neurons of a model as long as the ``with`` block lasts.

    Parameters
    ----------
    model
        As for `record`; a loaded module is changed in place and restored at the end.
    mask
        (layer, neuron) bool: the neurons to change. A DataArray's ``layer`` and ``neuron`` numbers
        say which; an array covers all layers and neurons of the site.
    site
        A key of ``store.schema.SITES``.
    kind
        "zero"; "mean": the neuron's mean over `reference`; "scale": times `amount`; "add": plus
        `amount`.
    amount
        For "scale" and "add", in units of the activation for the latter.
    reference
        For "mean": a recording of the same site.

    Yields
    ------
    The module.

    Raises
    ------
    InputError, InputTypeError
        The mask does not fit the site, or the kind lacks what it needs.
    """
    check_kind(kind, amount, reference)
    loaded = load_model(model)
    taps = find_taps(loaded.module, site)
    shape = (len(taps), taps[0].width)
    full = full_mask(mask, *shape, site)
    means = mean_activation(reference, shape, site) if kind == "mean" and reference is not None else None
    with lesioned(taps, full, kind, amount, means):
        yield loaded.module


@contextmanager
def lesioned(
    taps: list[Tap],
    mask: npt.NDArray[np.bool_],
    kind: str,
    amount: float | None,
    means: npt.NDArray[np.float64] | None,
) -> Iterator[None]:
    """Apply a lesion that was checked; `mask` and `means` are (layer, neuron) of the whole site."""
    handles = []
    try:
        for layer in np.flatnonzero(mask.any(axis=1)):
            neurons = np.flatnonzero(mask[layer])
            value = None if means is None else torch.from_numpy(means[layer, neurons])
            handles.append(taps[layer].hook(_change(torch.from_numpy(neurons), kind, amount, value)))
        yield
    finally:
        for handle in handles:
            handle.remove()


def check_kind(kind: str, amount: float | None, reference: xr.Dataset | None) -> None:
    """Refuse an unknown kind of lesion, one that lacks what it needs, and a reference that is none."""
    if kind not in _NEEDS:
        raise InputError(f"kind must be one of {list(_NEEDS)}, got {kind!r}")
    if reference is not None and not isinstance(reference, xr.Dataset):
        raise InputTypeError(f"reference must be a Dataset from actome.open, got {type(reference).__name__}")
    need = _NEEDS[kind]
    if need and {"amount": amount, "reference": reference}[need] is None:
        raise InputError(f"kind={kind!r} needs `{need}`")


def _change(neurons: torch.Tensor, kind: str, amount: float | None, value: torch.Tensor | None) -> Any:
    def change(x: torch.Tensor) -> torch.Tensor:
        x, where = x.clone(), neurons.to(x.device)
        if kind == "zero":
            x[..., where] = 0
        elif kind == "mean" and value is not None:
            x[..., where] = value.to(x.device, x.dtype)
        elif kind == "scale" and amount is not None:
            x[..., where] *= amount
        elif kind == "add" and amount is not None:
            x[..., where] += amount
        return x

    return change


def full_mask(mask: Mask, n_layers: int, width: int, site: str) -> npt.NDArray[np.bool_]:
    """Spread a mask over all layers and neurons of a site: (layer, neuron) bool."""
    if not isinstance(mask, (xr.DataArray, np.ndarray)):
        raise InputTypeError(f"mask must be a DataArray or an array, got {type(mask).__name__}")
    if mask.dtype != bool:
        raise InputTypeError(f"mask must be bool, got {mask.dtype}; use actome.threshold or actome.networks")
    if isinstance(mask, np.ndarray):
        if mask.shape != (n_layers, width):
            raise InputError(f"mask must have shape {(n_layers, width)}, got {mask.shape}")
        return mask
    if mask.attrs.get("site", "") not in ("", site):
        raise InputError(f"the mask is of the site {mask.attrs['site']!r}, the lesion of {site!r}")
    if set(mask.dims) != {"layer", "neuron"}:
        raise InputError(f"mask must have dims (layer, neuron), got {mask.dims}; select one network")
    mask = mask.transpose("layer", "neuron")
    numbers = [mask[d].to_numpy() for d in ("layer", "neuron")]
    if any(n.min(initial=0) < 0 for n in numbers):
        raise InputError("mask has layers or neurons with a negative number; they count from 0")
    if numbers[0].max(initial=0) >= n_layers or numbers[1].max(initial=0) >= width:
        raise InputError(
            f"mask has layers up to {numbers[0].max()} and neurons up to {numbers[1].max()}; "
            f"the site has {n_layers} layers of {width} neurons"
        )
    out = np.zeros((n_layers, width), dtype=bool)
    out[np.ix_(*numbers)] = mask.to_numpy()
    return out


def mean_activation(
    reference: xr.Dataset, shape: tuple[int, int], site: str, *, magnitude: bool = False
) -> npt.NDArray[np.float64]:
    """Mean of each neuron over all tokens of a recording: (layer, neuron), by number.

    Raises
    ------
    InputError
        The reference is of another site, or lacks some of its layers or neurons.
    """
    if reference.attrs.get("site", site) != site:
        raise InputError(f"the reference is of the site {reference.attrs['site']!r}, the lesion of {site!r}")
    ds = prompt_level(reference)
    values = ds["mean_abs" if magnitude else "mean"]
    if values.shape[1:] != shape:
        raise InputError(f"the reference has (layer, neuron) {values.shape[1:]}, the site {shape}")
    for dim, n in zip(("layer", "neuron"), shape, strict=True):
        if sorted(values[dim].to_numpy().tolist()) != list(range(n)):
            raise InputError(f"the reference must hold each {dim} from 0 to {n - 1} once")
    values = values.sortby(["layer", "neuron"])
    weight = ds["count"] / ds["count"].sum()
    mean = (values.where(ds["count"] > 0, 0.0) * weight).sum("prompt").to_numpy()
    return np.asarray(mean, dtype=np.float64)
