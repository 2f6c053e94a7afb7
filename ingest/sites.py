"""Finding the neurons: which module's input or output a site is, in any architecture, by structure."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from ..store.errors import InputError
from ..store.schema import SITES

_DOWN_NAMES = ("down_proj", "fc2", "c_proj", "dense_4h_to_h", "fc_out", "output.dense", "w2")


@dataclass(frozen=True)
class Tap:
    """Where one layer of a site is read: a module, by name, and which side of it."""

    name: str
    module: nn.Module
    side: Literal["input", "output"]
    width: int

    def hook(self, function: Callable[[torch.Tensor], torch.Tensor | None]) -> Any:
        """Call `function` with the activations (batch, token, neuron); what it returns replaces them."""

        def before(module: nn.Module, args: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...] | None:
            changed = function(args[0])
            return None if changed is None else (changed, *args[1:])

        def after(module: nn.Module, args: Any, output: Any) -> Any:
            first = output[0] if isinstance(output, tuple) else output
            changed = function(first)
            if changed is None:
                return None
            return (changed, *output[1:]) if isinstance(output, tuple) else changed

        if self.side == "input":
            return self.module.register_forward_pre_hook(before)
        return self.module.register_forward_hook(after)


def find_taps(module: nn.Module, site: str) -> list[Tap]:
    """Find where a site is read in each block of a model.

    Parameters
    ----------
    module
        A causal language model of the transformers library.
    site
        A key of ``schema.SITES``.

    Returns
    -------
    One tap a block, in order.

    Raises
    ------
    InputError
        The site is unknown, or the structure of the model does not show it.
    """
    if site not in SITES:
        raise InputError(f"site must be one of {list(SITES)}, got {site!r}")
    config = text_config(module)
    hidden = int(config.hidden_size)
    taps = []
    for prefix, block in _blocks(module, int(config.num_hidden_layers)):
        if site == "residual":
            taps.append(Tap(prefix, block, "output", hidden))
        elif site == "attention_out":
            name, attention = _attention(prefix, block)
            taps.append(Tap(name, attention, "output", hidden))
        else:
            name, projection, width = _down_projection(prefix, block, hidden)
            inner = site == "mlp"
            taps.append(Tap(name, projection, "input" if inner else "output", width if inner else hidden))
    return taps


def text_config(module: nn.Module) -> Any:
    """Return the configuration of a model's text part."""
    config: Any = module.config
    return config.get_text_config() if hasattr(config, "get_text_config") else config


def _blocks(module: nn.Module, n_layers: int) -> list[tuple[str, nn.Module]]:
    for name, child in module.named_modules():
        if isinstance(child, nn.ModuleList) and len(child) == n_layers:
            return [(f"{name}.{i}", block) for i, block in enumerate(child)]
    raise InputError(
        f"{type(module).__name__} has no list of {n_layers} blocks; it is not a known kind of transformer"
    )


def _is_attention(name: str) -> bool:
    return "attn" in name or "attention" in name


def _attention(prefix: str, block: nn.Module) -> tuple[str, nn.Module]:
    found = [(n, m) for n, m in block.named_children() if "attention" in type(m).__name__.lower()]
    if len(found) != 1:
        raise InputError(f"{prefix} has {len(found)} attention modules, expected one")
    return f"{prefix}.{found[0][0]}", found[0][1]


def _down_projection(prefix: str, block: nn.Module, hidden: int) -> tuple[str, nn.Module, int]:
    """Find the linear map back to the hidden size, outside the attention: (name, module, its input width)."""
    found = []
    for name, child in block.named_modules():
        if _is_attention(name) or not isinstance(child, (nn.Linear, Conv1D)):
            continue
        n_out, n_in = child.weight.shape if isinstance(child, nn.Linear) else child.weight.shape[::-1]
        if n_out == hidden and (n_in != hidden or name.endswith(_DOWN_NAMES)):
            found.append((f"{prefix}.{name}", child, int(n_in)))
    if len(found) != 1:
        raise InputError(
            f"{prefix} has {len(found)} down-projections, expected one (fused or routed experts have no "
            "single module to hook); the sites 'residual' and 'attention_out' do work"
        )
    return found[0]
