"""Cross-entropy over a large vocabulary without ever holding all logits, and the two optimisers."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

ROWS = 384


class _TiedCrossEntropy(torch.autograd.Function):
    """Mean cross-entropy of ``hidden @ weight.T``, with its gradient, some rows at a time.

    On a processor the logits of a batch (6144 x 8192) do not fit the caches; 384 rows do, which makes a step
    half as long. The gradients are made on the way forward and scaled on the way back.
    """

    @staticmethod
    def forward(ctx, hidden: Tensor, weight: Tensor, target: Tensor) -> Tensor:  # type: ignore[override]
        small = weight.bfloat16()
        d_hidden, d_weight = torch.empty_like(hidden), torch.zeros_like(weight)
        total = hidden.new_zeros((), dtype=torch.float32)
        for first in range(0, len(hidden), ROWS):
            rows = hidden[first : first + ROWS].bfloat16()
            wanted = target[first : first + ROWS, None]
            log_p = F.log_softmax((rows @ small.T).float(), dim=-1)  # (token, vocabulary)
            total -= log_p.gather(1, wanted).sum()
            d_logits = log_p.exp_().scatter_add_(1, wanted, torch.full_like(wanted, -1, dtype=log_p.dtype))
            d_logits = (d_logits / len(hidden)).bfloat16()
            d_hidden[first : first + ROWS] = d_logits @ small
            d_weight += d_logits.T @ rows
        ctx.save_for_backward(d_hidden, d_weight)
        return total / len(hidden)

    @staticmethod
    def backward(ctx, scale: Tensor) -> tuple[Tensor, Tensor, None]:  # type: ignore[override]
        d_hidden, d_weight = ctx.saved_tensors
        return d_hidden * scale, d_weight * scale, None


def cross_entropy(hidden: Tensor, weight: Tensor, target: Tensor) -> Tensor:
    """Mean natural-log cross-entropy.

    Parameters
    ----------
    hidden
        The last hidden states (batch, token, d_model).
    weight
        The output embedding (vocabulary, d_model), float32.
    target
        Token ids (batch, token).
    """
    return _TiedCrossEntropy.apply(hidden.reshape(-1, hidden.shape[-1]), weight, target.reshape(-1))


def optimisers(model: nn.Module, *, muon: float, adam: float) -> list[torch.optim.Optimizer]:
    """Muon for the matrices of the blocks, AdamW for embeddings and norms.

    Parameters
    ----------
    model
        The model to train.
    muon, adam
        Peak learning rates.
    """
    matrices = [p for name, p in model.named_parameters() if p.ndim == 2 and ".layers." in name]
    others = [p for name, p in model.named_parameters() if not (p.ndim == 2 and ".layers." in name)]
    return [
        torch.optim.Muon(matrices, lr=muon, weight_decay=0.05),
        torch.optim.AdamW(others, lr=adam, betas=(0.9, 0.95), weight_decay=0.01),
    ]


def rate(progress: float, *, warm_up: float = 0.02, flat: float = 0.3) -> float:
    """Share of the peak learning rate at `progress` in [0, 1]: up, level, then down to zero in a line."""
    if progress < warm_up:
        return max(progress / warm_up, 0.01)
    return min(1.0, max(0.0, (1 - progress) / (1 - flat)))
