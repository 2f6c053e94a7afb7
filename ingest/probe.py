"""A small forward pass that shows what modules take and give: whether they run, and how wide they are."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn

from ..store.errors import InputError

_SHAPE = (2, 3)  # prompts, tokens


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Turn dropout off as long as the ``with`` block lasts; each part then gets its mode back."""
    training = [part for part in module.modules() if part.training]
    module.eval()
    try:
        yield
    finally:
        for part in training:
            part.training = True


def measure_widths(module: nn.Module, parts: Sequence[tuple[str, nn.Module]], side: str) -> list[int]:
    """Run two prompts of three tokens, and return the width of what each part takes or gives.

    Parameters
    ----------
    module
        A model of the transformers library.
    parts
        Modules in it: (name, module).
    side
        "input" or "output".

    Raises
    ------
    InputError
        The model does not run on tokens alone; a part does not run exactly once; it takes or gives
        something else than one vector a token.
    """
    seen: dict[str, list[Any]] = {name: [] for name, _ in parts}

    def hook_of(name: str) -> Any:
        def look(part: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
            first = output[0] if isinstance(output, tuple) else output
            seen[name].append(_taken(args, kwargs) if side == "input" else _given(first))

        return look

    with ExitStack() as stack:
        for name, part in parts:
            stack.callback(part.register_forward_hook(hook_of(name), with_kwargs=True).remove)
        _run(module)
    return [_width(name, calls, side) for name, calls in seen.items()]


def _taken(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[int, ...] | str:
    tensors = [x for x in (*args, *kwargs.values()) if isinstance(x, torch.Tensor)]
    if len(tensors) == 1 and args and tensors[0] is args[0]:
        return tuple(tensors[0].shape)
    return f"{len(tensors)} tensors" if len(tensors) != 1 else "its tensor by keyword"


def _given(value: Any) -> tuple[int, ...] | str:
    return tuple(value.shape) if isinstance(value, torch.Tensor) else f"a {type(value).__name__}"


def _run(module: nn.Module) -> None:
    embedding: Any = module.get_input_embeddings()  # type: ignore[operator]
    rows = int(embedding.weight.shape[0])
    ids = (torch.arange(_SHAPE[0] * _SHAPE[1], device=embedding.weight.device) % rows).reshape(_SHAPE)
    try:
        with evaluating(module), torch.inference_mode():
            module(input_ids=ids, attention_mask=torch.ones_like(ids))
    except (RuntimeError, TypeError, ValueError) as error:
        raise InputError(
            f"{type(module).__name__} does not run on tokens alone, so the modules that were named cannot "
            f"be looked at: {error}"
        ) from error


def _width(name: str, calls: list[tuple[int, ...] | str], side: str) -> int:
    if len(calls) != 1:
        raise InputError(f"module {name!r} runs {len(calls)} times in a forward pass, expected once")
    shape = calls[0]
    if isinstance(shape, str):
        what = "takes" if side == "input" else "gives"
        raise InputError(f"module {name!r} {what} {shape}, expected a single tensor as its {side}")
    if shape[:-1] not in (_SHAPE, (_SHAPE[0] * _SHAPE[1],)):
        raise InputError(
            f"the {side} of module {name!r} has shape {shape} for {_SHAPE[0]} prompts of {_SHAPE[1]} tokens; "
            f"expected {_SHAPE} and a width"
        )
    return shape[-1]
