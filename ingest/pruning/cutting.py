"""Cutting neurons out of a copy of a model: rows of the maps into the MLP, columns of the map back."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from ...store.errors import InputError
from ..sites import Tap
from ..structure import linear_shape, text_config

# model type -> where its configuration holds the width of the MLP, one number for all layers
WIDTH = {
    "llama": "intermediate_size",
    "mistral": "intermediate_size",
    "qwen2": "intermediate_size",
    "qwen3": "intermediate_size",
    "gemma2": "intermediate_size",
    "gemma3_text": "intermediate_size",
    "phi": "intermediate_size",
    "stablelm": "intermediate_size",
    "cohere": "intermediate_size",
    "olmo2": "intermediate_size",
    "gpt2": "n_inner",
    "gptj": "n_inner",
    "gpt_bigcode": "n_inner",
    "gpt_neo": "intermediate_size",
    "gpt_neox": "intermediate_size",
    "opt": "ffn_dim",
}
_BIAS = {"llama": "mlp_bias"}  # the switch that gives an MLP without biases one on each of its maps

Float64 = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Mlp:
    """The linear maps of one layer's MLP: those into the neurons (two where there is a gate), and back."""

    up: Sequence[Any]
    down: Any


def find_mlps(module: nn.Module, taps: list[Tap]) -> list[Mlp]:
    """Find what a neuron's cut touches in each layer, of the kinds of model that are known to be cut.

    Raises
    ------
    InputError
        The model is of another kind, or its linear maps are not plain ones: quantised, adapted, or
        spread over devices.
    """
    kind = text_config(module).model_type
    if kind not in WIDTH:
        raise InputError(f"a model of type {kind!r} cannot be pruned; known are {', '.join(WIDTH)}")
    if any(hasattr(part, "_hf_hook") for part in module.modules()):
        raise InputError("the model is spread over devices, which hooks tie together; load it on one")
    modules = dict(module.named_modules())
    return [_find_mlp(modules[tap.name.rpartition(".")[0]], tap) for tap in taps]


def _find_mlp(parent: nn.Module, tap: Tap) -> Mlp:
    parts = {name: part for name, part in parent.named_children() if part is not tap.module}
    up = {name: part for name, part in parts.items() if (linear_shape(part) or (0, 0))[1] == tap.width}
    for name, part in {**up, tap.name.rpartition(".")[2]: tap.module}.items():
        if type(part) not in (nn.Linear, Conv1D):
            raise InputError(
                f"{name} of {tap.name.rpartition('.')[0]} is a {type(part).__name__}, which cannot be cut: "
                "merge adapters, and load the weights unquantised"
            )
    return Mlp(list(up.values()), tap.module)


def cut(module: nn.Module, mlps: Sequence[Mlp], kept: Sequence[Sequence[int]], shifts: Float64 | None) -> Any:
    """Copy a model without the neurons that are not kept; what is given stays as it is.

    Parameters
    ----------
    module, mlps
        The model, and what `find_mlps` found in it.
    kept
        Numbers of the neurons kept in each layer. Layers that keep fewer than others are filled up
        with neurons whose weights are zero.
    shifts
        (layer, hidden): what is added to the bias of each map back; None adds no bias.

    Raises
    ------
    InputError
        The configuration of the model cannot describe the result, so it could not be loaded again.
    """
    if shifts is not None:
        _check_bias(module, mlps)
    width = max(map(len, kept))
    pieces: dict[int, Any] = {}  # what stands in the copy in place of a part of the original
    for layer, (mlp, neurons) in enumerate(zip(mlps, kept, strict=True)):
        index = torch.as_tensor(neurons, dtype=torch.int64)
        for part in mlp.up:
            pieces[id(part)] = _cut_map(part, index, width, outputs=True)
            if shifts is not None and part.bias is None:
                _shift_bias(pieces[id(part)], np.zeros(width))
        pieces[id(mlp.down)] = _cut_map(mlp.down, index, width, outputs=False)
        if shifts is not None:
            _shift_bias(pieces[id(mlp.down)], shifts[layer])
    smaller = copy.deepcopy(module, pieces)
    config = text_config(smaller)
    setattr(config, WIDTH[config.model_type], width)
    if shifts is not None and config.model_type in _BIAS:
        setattr(config, _BIAS[config.model_type], True)
    _check_described(smaller)
    return smaller


def down_weight(part: Any, neurons: npt.NDArray[np.intp]) -> Float64:
    """Return what some neurons write through the map back: (neuron, hidden)."""
    weight = _of_outputs(part).detach()[:, torch.as_tensor(neurons, device=part.weight.device)]
    return np.asarray(weight.T.cpu().double().numpy(), dtype=np.float64)


def _of_outputs(part: Any) -> torch.Tensor:
    """Weights with the outputs first, as Conv1D does not hold them."""
    weight: torch.Tensor = part.weight
    return weight.T if isinstance(part, Conv1D) else weight


def _cut_map(part: Any, index: torch.Tensor, width: int, *, outputs: bool) -> nn.Module:
    """Copy a linear map with some of its outputs or inputs, zeros behind them."""
    weight = _filled(_of_outputs(part).detach(), index, width, axis=0 if outputs else 1)
    bias = None if part.bias is None else part.bias.detach().clone()
    if outputs and bias is not None:
        bias = _filled(bias, index, width, axis=0)
    n_out, n_in = weight.shape
    with torch.device("meta"):  # the weights come from the original
        piece: Any = Conv1D(n_out, n_in) if isinstance(part, Conv1D) else nn.Linear(n_in, n_out)
    stored = weight.T if isinstance(part, Conv1D) else weight
    trained = part.weight.requires_grad
    piece.weight = nn.Parameter(stored.contiguous(), requires_grad=trained)
    piece.bias = None if bias is None else nn.Parameter(bias, requires_grad=trained)
    return piece.train(part.training)  # type: ignore[no-any-return]


def _filled(values: torch.Tensor, index: torch.Tensor, width: int, *, axis: int) -> torch.Tensor:
    shape = list(values.shape)
    shape[axis] = width
    out = values.new_zeros(shape)
    out.narrow(axis, 0, len(index)).copy_(values.index_select(axis, index.to(values.device)))
    return out


def _shift_bias(part: Any, shift: Float64) -> None:
    weight = part.weight
    before = np.zeros(len(shift)) if part.bias is None else part.bias.detach().cpu().double().numpy()
    bias = torch.from_numpy(before + shift).to(weight.device, weight.dtype)
    part.bias = nn.Parameter(bias, requires_grad=weight.requires_grad)


def _check_bias(module: Any, mlps: Sequence[Mlp]) -> None:
    """Refuse a model whose maps back have no bias, and whose configuration cannot give them one."""
    kind = text_config(module).model_type
    if kind not in _BIAS and any(mlp.down.bias is None for mlp in mlps):
        raise InputError(
            f"the MLP of this model of type {kind!r} has no biases, and its configuration knows none: with "
            "one it could not be loaded again. Leave compensate out"
        )


def _check_described(module: Any) -> None:
    """Refuse what its own configuration, read again, would build otherwise."""
    with torch.device("meta"):
        built = type(module)(module.config)
    shapes = [{name: value.shape for name, value in m.state_dict().items()} for m in (module, built)]
    differing = [name for name, shape in shapes[0].items() if shapes[1].get(name) != shape]
    if differing:
        raise InputError(
            f"the configuration of this model of type {module.config.model_type!r} does not describe it "
            f"without its neurons: {differing[0]!r} would be loaded in another shape"
        )
