"""The weight tensors of a model: which there are, where, and of what type of matrix."""

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from ..store.errors import InputError
from ..store.tensors import Tensor
from .structure import find_blocks

Which = Literal["blocks", "all"]

# types of matrix by the last parts of their names; some names mean another thing within the attention
_IN_ATTENTION = {
    "q": ("q_proj", "query", "q_lin", "wq"),
    "k": ("k_proj", "key", "k_lin", "wk"),
    "v": ("v_proj", "value", "v_lin", "wv"),
    "qkv": ("qkv_proj", "query_key_value", "c_attn", "Wqkv", "qkv"),
    "o": ("o_proj", "out_proj", "c_proj", "dense", "out_lin", "wo", "Wo", "attn_out"),
}
_ELSEWHERE = {
    "gate": ("gate_proj", "w1"),
    "up": ("up_proj", "fc1", "c_fc", "dense_h_to_4h", "fc_in", "lin1", "w3", "intermediate.dense"),
    "gate_up": ("gate_up_proj", "Wi"),
    "down": (
        "down_proj", "c_proj", "fc2", "fc_out", "dense_4h_to_h", "output.dense", "w2", "lin2", "wo", "Wo",
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Parameter:
    """A weight tensor, looked at as rows and columns.

    Attributes
    ----------
    name
        The first of the names that the model has for it.
    tensor
        The parameter itself, of any number of dimensions.
    matrix
        Its type: "q", "k", "v", "o", "gate", "up", "down"; "qkv" and "gate_up" where several are
        stored as one; "embedding", "head", "norm", "bias", or "other".
    layer
        The block that it belongs to; -1 outside of the blocks.
    rows
        What the rows are: "out" or "in", the neurons that the matrix writes or reads.
    """

    name: str
    tensor: nn.Parameter
    matrix: str
    layer: int
    rows: str

    @property
    def shape(self) -> tuple[int, int]:
        """(row, column): all dimensions but the last are rows; a vector is one row."""
        columns = int(self.tensor.shape[-1]) if self.tensor.ndim else 1
        return self.tensor.numel() // max(1, columns), columns

    def stored(self) -> Tensor:
        """Describe it for the archive."""
        attrs = {"matrix": self.matrix, "layer": self.layer, "rows": self.rows}
        return Tensor(self.name, self.shape, {**attrs, "shape": list(self.tensor.shape)})


def find_parameters(module: nn.Module, which: Which = "blocks") -> list[Parameter]:
    """Find the weight tensors of a model, each once, in its own order.

    Parameters
    ----------
    module
        A model of the transformers library.
    which
        "blocks": the matrices within the blocks; "all": also norms, biases, embeddings and the head.

    Raises
    ------
    InputError
        Its blocks are not found, or their weights are quantised, so that they have no gradient.
    """
    if which not in ("blocks", "all"):
        raise InputError(f"parameters must be 'blocks' or 'all', got {which!r}")
    prefixes = [f"{name}." for name, _ in find_blocks(module)]
    found = []
    for name, tensor in module.named_parameters():
        layer = next((i for i, prefix in enumerate(prefixes) if name.startswith(prefix)), -1)
        if which == "blocks" and (layer < 0 or tensor.ndim < 2):
            continue
        if not tensor.is_floating_point():
            raise InputError(
                f"the weights {name} are {str(tensor.dtype).removeprefix('torch.')}, quantised, and have no "
                "gradient; load the model in float32, bfloat16 or float16"
            )
        found.append(
            Parameter(name, tensor, _matrix(module, name, tensor, layer), layer, _rows(module, name))
        )
    if not found:
        raise InputError(
            f"{type(module).__name__} has no weight matrices in its blocks; where it is quantised, load it "
            "in float32, bfloat16 or float16"
        )
    return found


def parameters_by_name(module: nn.Module) -> dict[str, nn.Parameter]:
    """Return every parameter under each of its names: tied weights have several."""
    return dict(module.named_parameters(remove_duplicate=False))


def _matrix(module: nn.Module, name: str, tensor: nn.Parameter, layer: int) -> str:
    if tensor.ndim < 2:
        return "bias" if name.endswith("bias") else "norm"
    if layer < 0:
        for kind, of in (("embedding", "get_input_embeddings"), ("head", "get_output_embeddings")):
            part: Any = getattr(module, of, lambda: None)()
            if part is not None and getattr(part, "weight", None) is tensor:
                return kind
        return "other"
    inner = name.removesuffix(".weight")
    attention = any("attn" in part or "attention" in part for part in inner.split("."))
    for kind, endings in (_IN_ATTENTION if attention else _ELSEWHERE).items():
        if f".{inner}".endswith(tuple(f".{ending}" for ending in endings)):
            return kind
    return "other"


def _rows(module: nn.Module, name: str) -> str:
    parent: nn.Module = module.get_submodule(name.rpartition(".")[0])
    return "in" if isinstance(parent, Conv1D) else "out"


def as_rows(tensor: torch.Tensor) -> torch.Tensor:
    """Look at a tensor as (row, column), as `Parameter.shape` counts them."""
    return tensor.reshape(-1, tensor.shape[-1]) if tensor.ndim else tensor.reshape(1, 1)
