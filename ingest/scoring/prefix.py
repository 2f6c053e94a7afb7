"""The blocks before a lesion: run once, and left out of every later pass.

A lesion changes nothing before the first layer that it touches. So the output of the block before is
kept, and under each lesion the forward of the blocks up to there is replaced by one that returns it.
Everything around the blocks, and all hooks, run as they do in any pass; no architecture has to be known.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn

Kept = dict[int, Any]  # number of a block -> what it gave: a Tensor, or a tuple of Tensors and others


@contextmanager
def keeping(blocks: Sequence[nn.Module], wanted: Collection[int]) -> Iterator[Kept]:
    """Keep what some blocks give in one forward pass; the blocks behind the last of them do not run.

    What hooks make of a block's output is not part of it: they see it again when it is used.
    """
    kept: Kept = {}
    last = max(wanted)

    def forward_of(i: int, forward: Callable[..., Any]) -> Callable[..., Any]:
        def keep(*args: Any, **kwargs: Any) -> Any:
            out = forward(*args, **kwargs)
            kept[i] = _copied(out, 1)  # a later block may add to it in place
            return out

        return keep

    with ExitStack() as stack:
        for i, block in enumerate(blocks):
            if i in wanted:
                stack.enter_context(_replaced(block, forward_of(i, block.forward)))
            elif i > last:
                stack.enter_context(_replaced(block, lambda *args, **kwargs: kept[last]))
        yield kept


@contextmanager
def resumed(blocks: Sequence[nn.Module], kept: Kept, n_skipped: int, times: int) -> Iterator[None]:
    """Leave the first blocks out as long as the ``with`` block lasts.

    Parameters
    ----------
    blocks
        All, in order.
    kept
        From `keeping`, for a batch of prompts.
    n_skipped
        How many do not run; the last of them is in `kept`.
    times
        How often the batch is repeated along its axis.
    """
    with ExitStack() as stack:
        if n_skipped:
            value = kept[n_skipped - 1]
            for block in blocks[: n_skipped - 1]:  # what they give goes into a block that does not look at it
                stack.enter_context(_replaced(block, lambda *args, **kwargs: value))
            last = blocks[n_skipped - 1]
            stack.enter_context(_replaced(last, lambda *args, **kwargs: _copied(value, times)))
        yield


@contextmanager
def _replaced(module: nn.Module, forward: Callable[..., Any]) -> Iterator[None]:
    """Give a module another forward, and then back what it had, be it its own or of its class."""
    own = module.__dict__.get("forward")
    module.forward = forward
    try:
        yield
    finally:
        if own is None:
            del module.forward
        else:
            module.forward = own


def _copied(value: Any, times: int) -> Any:
    """Copy tensors, repeated along the axis of the batch."""
    if isinstance(value, torch.Tensor):
        return value.repeat(times, *[1] * (value.ndim - 1)) if times > 1 else value.clone()
    if isinstance(value, (tuple, list)):
        return type(value)(_copied(part, times) for part in value)
    return value
