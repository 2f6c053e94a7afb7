"""Finding the neurons: which module's input or output a site is, in any architecture."""

import difflib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn

from ..store.errors import InputError
from ..store.schema import SITES
from .probe import measure_widths
from .structure import (
    attention_output,
    down_projection,
    find_blocks,
    find_experts,
    refuse_shared_layers,
    routed_mlp,
    text_config,
)


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


def find_taps(module: nn.Module, site: str, names: str | Sequence[str] | None = None) -> list[Tap]:
    """Find where a site is read in each block of a model, by structure or by the names given.

    Parameters
    ----------
    module
        A language model of the transformers library.
    site
        A key of ``schema.SITES``.
    names
        The modules, where the structure does not show them or others are wanted: a pattern with
        ``{}`` for the number of the layer, such as ``"model.layers.{}.mlp.down_proj"``, or their
        names, one a layer. Their input is read for ``mlp``, their output for the other sites. One
        small forward pass then shows that they run, and how wide they are.

    Returns
    -------
    One tap a block, in order.

    Raises
    ------
    InputError
        The site is unknown, or the structure of the model does not show it; the message says which
        sites it does show. A name is not a module of the model, a layer is left out, or a module
        has not one vector a token.

    Notes
    -----
    ``attention_out`` and ``mlp_out`` are the outputs of the projections back to the hidden size. A
    norm that some models (Gemma 2, OLMo 2) put behind these is not part of them.
    """
    if site not in SITES:
        raise InputError(f"site must be one of {list(SITES)}, got {site!r}")
    if names is not None:
        return _named_taps(module, site, names)
    refuse_shared_layers(module)
    try:
        taps = _find(module, site)
    except InputError as error:
        raise InputError(f"{error}; {_what_works(module, site)}") from None
    return taps


def _find(module: nn.Module, site: str) -> list[Tap]:
    hidden = int(text_config(module).hidden_size)
    blocks = find_blocks(module)
    if site == "mlp":
        _refuse_experts(module, blocks)
    taps = []
    for prefix, block in blocks:
        if site == "residual":
            taps.append(Tap(prefix, block, "output", hidden))
        elif site == "attention_out":
            taps.append(Tap(*attention_output(prefix, block, hidden), "output", hidden))
        elif site == "mlp":
            name, projection, width = down_projection(prefix, block, hidden)
            taps.append(Tap(name, projection, "input", width))
        elif find_experts(block):
            taps.append(Tap(*routed_mlp(prefix, block), "output", hidden))
        else:
            name, projection, _ = down_projection(prefix, block, hidden)
            taps.append(Tap(name, projection, "output", hidden))
    _check_alike(taps)
    return taps


def _refuse_experts(module: nn.Module, blocks: list[tuple[str, nn.Module]]) -> None:
    experts = {i: f"{name}.{e}" for i, (name, block) in enumerate(blocks) if (e := find_experts(block))}
    if experts:
        which = "every layer" if len(experts) == len(blocks) else f"the layers {_shortly(list(experts))}"
        raise InputError(
            f"{type(module).__name__} sends each token to some of many experts in {which} "
            f"({next(iter(experts.values()))}): no module's input holds their hidden activations"
        )


def _shortly(items: list[Any]) -> str:
    return ", ".join(map(str, items[:8])) + (f" and {len(items) - 8} more" if len(items) > 8 else "")


def _what_works(module: nn.Module, site: str) -> str:
    """Say which other sites the structure does show, by trying them."""
    works = []
    for other in SITES:
        try:
            if other != site:
                _find(module, other)
                works.append(repr(other))
        except InputError:
            continue
    try:
        stem = find_blocks(module)[0][0].removesuffix("0") + "{}"
    except InputError:
        stem = "model.layers.{}"
    by_hand = f"modules can be named by hand: sites={{{site!r}: {stem + '.NAME'!r}}}"
    return f"the sites that do work here: {', '.join(works)}; {by_hand}" if works else by_hand


def _check_alike(taps: list[Tap]) -> None:
    if len({id(tap.module) for tap in taps}) < len(taps):
        raise InputError(f"{taps[0].name} is shared between layers, so that a hook cannot tell them apart")
    widths = sorted({tap.width for tap in taps})
    if len(widths) > 1:
        raise InputError(f"the layers have different widths, {_shortly(widths)}; a site must have one")


def _named_taps(module: nn.Module, site: str, names: str | Sequence[str]) -> list[Tap]:
    modules = dict(module.named_modules(remove_duplicate=False))
    listed = _expand(names, list(modules)) if isinstance(names, str) else list(names)
    if not listed or not all(isinstance(name, str) for name in listed):
        raise InputError(
            f"the modules of site {site!r} must be a pattern or names, one a layer, got {names!r}"
        )
    for name in listed:
        if not name or name not in modules:
            raise InputError(f"{type(module).__name__} has no module {name!r}{_close(name, list(modules))}")
    if len(set(listed)) < len(listed):
        raise InputError(f"the modules of site {site!r} must differ, one a layer, got {_shortly(listed)}")
    _check_numbers(listed)
    side: Literal["input", "output"] = "input" if site == "mlp" else "output"
    widths = measure_widths(module, [(name, modules[name]) for name in listed], side)
    taps = [Tap(name, modules[name], side, width) for name, width in zip(listed, widths, strict=True)]
    _check_alike(taps)
    return taps


def _expand(pattern: str, modules: list[str]) -> list[str]:
    """Names that a pattern stands for: one for each member of the list that it counts through."""
    if pattern.count("{}") != 1:
        raise InputError(
            f"a pattern of modules has one {{}} for the number of the layer, got {pattern!r}; several "
            "modules can be given as a sequence of names"
        )
    stem = pattern.partition("{}")[0]
    counted = re.compile(re.escape(stem) + r"(\d+)")
    numbers = sorted({int(m[1]) for name in modules if (m := counted.fullmatch(name))})
    expected = [pattern.replace("{}", str(i)) for i in numbers]
    there = set(modules)
    missing = [i for i, name in zip(numbers, expected, strict=True) if name not in there]
    if not numbers or len(missing) == len(numbers):
        first = pattern.replace("{}", "0")
        raise InputError(f"no module is named {pattern!r}{_close(first, modules)}")
    if missing or numbers != list(range(len(numbers))):
        gaps = missing or sorted(set(range(numbers[-1])) - set(numbers))
        raise InputError(
            f"{pattern!r} is no module in the layers {_shortly(gaps)}; every layer must have one"
        )
    return expected


def _check_numbers(names: list[str]) -> None:
    """Refuse names that count layers otherwise than 0, 1, 2: the recording would number them so."""
    numbers = [re.findall(r"\d+", name) for name in names]
    alike = len({re.sub(r"\d+", "{}", name) for name in names}) == 1
    moving = [column for column in zip(*numbers, strict=True) if len(set(column)) > 1] if alike else []
    if len(moving) == 1 and [int(n) for n in moving[0]] != list(range(len(names))):
        raise InputError(
            f"the modules named are of the layers {_shortly(list(moving[0]))}; they must be 0, 1, 2 and so "
            "on, one a layer (choose among them with `layers`)"
        )


def _close(name: str, modules: list[str]) -> str:
    close = difflib.get_close_matches(name, modules, n=3)
    return f"; did you mean {' or '.join(map(repr, close))}?" if close else ""
