"""The parts of a transformer, found by structure: its blocks, and in a block the attention and the MLP."""

from collections.abc import Callable, Iterator
from typing import Any

from torch import nn
from transformers.pytorch_utils import Conv1D

from ..store.errors import InputError

# the linear map back to the hidden size, by the last parts of its name
_ATTENTION_OUT = ("o_proj", "out_proj", "c_proj", "dense", "out_lin", "wo", "Wo", "o", "attn_out")
_MLP_OUT = ("down_proj", "c_proj", "fc2", "fc_out", "dense_4h_to_h", "output.dense", "w2", "lin2", "wo", "Wo")
_OTHER_SENSES = ("vision", "visual", "image", "audio", "speech")

Block = tuple[str, nn.Module]


def text_config(module: nn.Module) -> Any:
    """Return the configuration of a model's text part."""
    config: Any = module.config
    return config.get_text_config() if hasattr(config, "get_text_config") else config


def linear_shape(module: nn.Module) -> tuple[int, int] | None:
    """Widths (in, out) of a linear map, quantised ones included; None for any other module."""
    if isinstance(module, Conv1D):
        return int(module.nx), int(module.nf)
    widths = getattr(module, "in_features", None), getattr(module, "out_features", None)
    return (widths[0], widths[1]) if isinstance(widths[0], int) and isinstance(widths[1], int) else None


def refuse_shared_layers(module: nn.Module) -> None:
    """Refuse a model such as ALBERT, which runs the same module as one layer after another."""
    config = text_config(module)
    n_layers, n_groups = config.num_hidden_layers, getattr(config, "num_hidden_groups", None)
    if n_groups is not None and n_groups < n_layers:
        raise InputError(
            f"{type(module).__name__} runs {n_groups} modules as {n_layers} layers that share their weights: "
            "a hook cannot tell these layers apart"
        )


def find_blocks(module: nn.Module) -> list[Block]:
    """Find the blocks of the text model, in order: (name, module).

    Raises
    ------
    InputError
        There is no list of as many blocks as the configuration says, or more than one.
    """
    kind, n_layers = type(module).__name__, int(text_config(module).num_hidden_layers)
    lists = _outermost(
        (name, child)
        for name, child in module.named_modules()
        if isinstance(child, nn.ModuleList) and len(child) == n_layers
    )
    for fits in (_of_text(module), _not_of_another_sense, _has_attention):
        lists = [item for item in lists if fits(item)] or lists
    if len(lists) != 1:
        found = f" ({', '.join(name for name, _ in lists)})" if lists else ""
        raise InputError(f"{kind} has {len(lists)} lists of {n_layers} blocks{found}, expected one")
    return [(f"{lists[0][0]}.{i}", block) for i, block in enumerate(lists[0][1].children())]


def attention_output(prefix: str, block: nn.Module, hidden: int) -> Block:
    """Find the output projection of a block's attention: what it adds, before any residual addition."""
    attentions = [(n, m) for n, m in block.named_children() if _is_attention(n, m) and "cross" not in n]
    attentions = [(n, m) for n, m in attentions if n != "encoder_attn"]
    if len(attentions) != 1:
        raise InputError(f"{prefix} has {len(attentions)} attention modules, expected one")
    name, attention = attentions[0]
    found = [
        (part, m, shape) for part, m, shape in _linear_maps(attention) if _ends_with(part, _ATTENTION_OUT)
    ]
    found = [item for item in found if item[2][1] == hidden]
    if len(found) != 1:
        raise InputError(
            f"{prefix}.{name} has {len(found)} output projections to {hidden} features, named like "
            f"{', '.join(_ATTENTION_OUT[:4])}; expected one"
        )
    return f"{prefix}.{name}.{found[0][0]}", found[0][1]


def down_projection(prefix: str, block: nn.Module, hidden: int) -> tuple[str, nn.Module, int]:
    """Find the linear map of the MLP back to the hidden size: (name, module, its input width)."""
    mlps = [(f"{n}.", m) for n, m in block.named_children() if _is_mlp(n, m) and any(_linear_maps(m))]
    found = []
    for start, part in mlps or [("", block)]:
        for name, child, (n_in, n_out) in _linear_maps(part):
            if _in_attention(block, start + name) or n_out != hidden:
                continue
            # without a module for the MLP it takes a known name: a Mamba block has a map back, but no MLP
            if (mlps and n_in != hidden) or _ends_with(start + name, _MLP_OUT):
                found.append((f"{prefix}.{start}{name}", child, n_in))
    if len(found) != 1:
        raise InputError(f"{prefix} has {len(found)} down-projections, expected one")
    return found[0]


def find_experts(block: nn.Module) -> str | None:
    """Name the experts among which a block's MLP chooses for each token; None where there are none."""
    for name, child in block.named_modules():
        if not name or _in_attention(block, name):
            continue
        fused = any(p.ndim == 3 for p in child.parameters(recurse=False)) and _is_mlp_part(block, name)
        if "expert" in name.rpartition(".")[2].lower() or "experts" in type(child).__name__.lower() or fused:
            return str(name)
    return None


def routed_mlp(prefix: str, block: nn.Module) -> Block:
    """Find the one module of a block that holds all its experts, so that its output is the MLP's."""
    parts = [
        (name, child)
        for name, child in block.named_children()
        if not _is_attention(name, child) and _holds_maps(child)
    ]
    if len(parts) != 1 or "experts" in parts[0][0]:
        names = [name for name, _ in parts]
        raise InputError(f"{prefix} has no one module that holds its whole MLP, its parts are {names}")
    return f"{prefix}.{parts[0][0]}", parts[0][1]


def _outermost(items: Iterator[Block]) -> list[Block]:
    """Leave out what lies within another item; a module comes before those in it."""
    kept: list[Block] = []
    for name, child in items:
        if not any(name.startswith(f"{above}.") for above, _ in kept):
            kept.append((name, child))
    return kept


def _linear_maps(module: nn.Module) -> Iterator[tuple[str, nn.Module, tuple[int, int]]]:
    """Yield every linear map (name, module, widths); those that an adapter puts within one are its own."""
    linear = ((n, m) for n, m in module.named_modules() if n and linear_shape(m) is not None)
    for name, child in _outermost(linear):
        shape = linear_shape(child)
        if shape is not None:
            yield name, child, shape


def _ends_with(name: str, endings: tuple[str, ...]) -> bool:
    return f".{name}".endswith(tuple(f".{ending}" for ending in endings))


def _is_attention(name: str, child: nn.Module) -> bool:
    named = "attn" in name or "attention" in name or "attention" in type(child).__name__.lower()
    return named and _holds_maps(child)  # a norm may have such a name too


def _holds_maps(child: nn.Module) -> bool:
    """Whether it mixes neurons; the weights of a quantised map may be no parameters."""
    return any(p.ndim > 1 for p in child.parameters()) or any(_linear_maps(child))


def _is_mlp(name: str, child: nn.Module) -> bool:
    kind = type(child).__name__.lower()
    return any(word in name or word in kind for word in ("mlp", "ffn", "feed_forward", "feedforward"))


def _in_attention(block: nn.Module, name: str) -> bool:
    top = name.partition(".")[0]
    return _is_attention(top, block.get_submodule(top)) or "attn" in name or "attention" in name


def _is_mlp_part(block: nn.Module, name: str) -> bool:
    top = name.partition(".")[0]
    return _is_mlp(top, block.get_submodule(top))


def _of_text(module: nn.Module) -> Callable[[Block], bool]:
    """Whether the nearest model around a list has the configuration of the text part."""
    wanted = type(text_config(module))

    def fits(item: Block) -> bool:
        name = item[0]
        while name:
            name = name.rpartition(".")[0]
            config = getattr(module.get_submodule(name), "config", None)
            if config is not None:
                return type(config) is wanted
        return False

    return fits


def _not_of_another_sense(item: Block) -> bool:
    return not any(word in item[0].lower() for word in _OTHER_SENSES)


def _has_attention(item: Block) -> bool:
    return any(_is_attention(n, m) for block in item[1].children() for n, m in block.named_children())
