"""Gradients of the next-token loss, summed over batches into buffers of their own."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt
import torch
from torch.nn.functional import cross_entropy

from .forward import model_input
from .models import LoadedModel
from .parameters import Parameter


def summed_loss(model: LoadedModel, token_id: npt.NDArray[np.int32]) -> torch.Tensor:
    """Next-token loss of some prompts, summed over their tokens, padding and first tokens excluded: nats.

    Parameters
    ----------
    model
        Causal.
    token_id
        (prompt, token), right-padded with -1.
    """
    inputs = model_input(token_id, model.device)
    logits = model.module(**inputs, use_cache=False).logits[:, :-1]
    target = inputs["input_ids"].masked_fill(inputs["attention_mask"] == 0, -100)[:, 1:].to(logits.device)
    flat = logits.reshape(-1, logits.shape[-1]).float()
    return cross_entropy(flat, target.reshape(-1), ignore_index=-100, reduction="sum")


class GradientSum:
    """Sums of gradients, in float32 whatever the type of the weights.

    As soon as the gradient of a weight tensor is there it is added, and given up: beyond the model,
    one buffer of the size of its tensors is held.

    Parameters
    ----------
    parameters
        The tensors.
    absolute
        Add |gradient * weight| of each backward pass, in place of the gradient.
    """

    def __init__(self, parameters: Sequence[Parameter], *, absolute: bool) -> None:
        self.parameters, self.absolute = parameters, absolute
        self.sums = [torch.zeros_like(p.tensor, dtype=torch.float32) for p in parameters]

    def clear(self) -> None:
        """Begin again at zero."""
        for total in self.sums:
            total.zero_()

    @contextmanager
    def listening(self, model: LoadedModel) -> Iterator[None]:
        """Take the gradients of every backward pass within the ``with`` block.

        Which tensors want a gradient, and the gradients that they hold, are put back as they were.
        """
        everything = list(model.module.parameters())
        before = [(p, p.requires_grad, p.grad) for p in everything]
        handles = []
        try:
            for p in everything:
                p.requires_grad_(False)
                p.grad = None
            for parameter, total in zip(self.parameters, self.sums, strict=True):
                parameter.tensor.requires_grad_(True)
                handles.append(parameter.tensor.register_post_accumulate_grad_hook(self._adder(total)))
            yield
        finally:
            for handle in handles:
                handle.remove()
            for p, wanted, gradient in before:
                p.requires_grad_(wanted)
                p.grad = gradient

    def _adder(self, total: torch.Tensor):  # type: ignore[no-untyped-def]  # torch's own type is of a hook
        def add(tensor: torch.Tensor) -> None:
            if tensor.grad is None:
                return
            gradient = tensor.grad
            if self.absolute:
                gradient = (gradient.float() * tensor.detach().float()).abs_()
            total.add_(gradient)
            tensor.grad = None

        return add

    def importance(self, i: int, n_tokens: int) -> torch.Tensor:
        """Return the importance of the values of one tensor, a mean over tokens: in its shape, float32."""
        if self.absolute:
            return self.sums[i] / n_tokens
        weight = self.parameters[i].tensor.detach().float()
        return (weight * (self.sums[i] / n_tokens)).abs_()
