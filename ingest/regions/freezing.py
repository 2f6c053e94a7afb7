"""Freezing: which values of a model a training moves, and the bits of all others kept."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from ..parameters import parameters_by_name
from .lesions import Places

Free = list[tuple[nn.Parameter, torch.Tensor | None]]  # each parameter, and which of its values; None: all
Started = dict[int, torch.Tensor]  # by the id of a parameter, its values before


@contextmanager
def restored(module: nn.Module) -> Iterator[Started]:
    """Give every parameter its bits, its gradient and its wish for one back at the end; yield the values."""
    before = [(p, p.detach().clone(), p.requires_grad, p.grad) for p in module.parameters()]
    try:
        yield {id(p): values for p, values, _, _ in before}
    finally:
        with torch.no_grad():
            for p, values, wanted, gradient in before:
                p.copy_(values)
                p.requires_grad_(wanted)
                p.grad = gradient


def trainable(module: nn.Module, region: Places, arm: str) -> Free:
    """Say what an arm of `train_frozen` trains: each parameter, and which of its values."""
    known = parameters_by_name(module)
    inside: dict[int, torch.Tensor] = {}
    for name, own in region.items():
        p = known[name]
        mask = inside.setdefault(id(p), torch.zeros(p.shape, dtype=torch.bool, device=p.device))
        mask.view(-1)[torch.from_numpy(own).to(p.device)] = True
    out: Free = []
    for p in module.parameters():
        mask = inside.get(id(p), torch.zeros((), dtype=torch.bool, device=p.device))
        if arm == "none" or not (mask.any() or arm == "rest"):
            out.append((p, None))
        elif arm in ("region", "random"):
            out.append((p, ~mask))
        elif mask.any():
            out.append((p, mask))
    return out


def want_gradients(module: nn.Module, free: Free) -> None:
    """Let the parameters that are trained want a gradient, and no others; none holds one."""
    chosen = {id(p) for p, _ in free}
    for p in module.parameters():
        p.requires_grad_(id(p) in chosen)
        p.grad = None


def update(optimiser: torch.optim.Optimizer, free: Free, started: Started) -> None:
    """Take one step, in which the values that are frozen keep their bits.

    Parameters
    ----------
    optimiser
        With the gradients of the batch.
    free
        From `trainable`.
    started
        The values before the training, from `restored`.
    """
    partly = [(p, mask) for p, mask in free if mask is not None]
    for p, mask in partly:
        if p.grad is not None:
            p.grad.masked_fill_(~mask, 0.0)
    optimiser.step()
    with torch.no_grad():
        for p, mask in partly:  # weight decay moves what has no gradient too
            p.copy_(torch.where(mask, p, started[id(p)]))
    optimiser.zero_grad(set_to_none=True)


def n_free(free: Free) -> int:
    """Count the values that are trained."""
    return sum(p.numel() if mask is None else int(mask.sum()) for p, mask in free)
