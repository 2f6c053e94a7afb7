"""Held-out bits per byte, which compares models whatever their tokenizers."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from tokenizer import PAD, SPECIAL
from transformers import PreTrainedModel, PreTrainedTokenizerFast


def token_bytes(tokenizer: PreTrainedTokenizerFast) -> torch.Tensor:
    """Length in bytes of every token; special tokens count none (token,)."""
    # A byte-level vocabulary writes each byte as one character.
    pieces = tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))
    return torch.tensor([0 if piece in SPECIAL else len(piece) for piece in pieces])


@torch.inference_mode()
def bits_per_byte(
    model: PreTrainedModel, passages: list[list[int]], sizes: torch.Tensor, *, at_once: int = 32
) -> float:
    """Bits that `model` needs per byte of `passages`, each read from its ``<bos>`` on.

    Parameters
    ----------
    passages
        Token ids, ``<bos>`` first; not scored itself.
    sizes
        From `token_bytes`.
    """
    nats, n_bytes = 0.0, 0
    passages = sorted(passages, key=len)
    for first in range(0, len(passages), at_once):
        group = passages[first : first + at_once]
        longest = max(map(len, group))
        ids = torch.tensor([passage + [PAD] * (longest - len(passage)) for passage in group])
        logits = model(ids[:, :-1], use_cache=False).logits.float()
        nats += F.cross_entropy(logits.transpose(1, 2), ids[:, 1:], ignore_index=PAD, reduction="sum").item()
        n_bytes += int(sizes[ids[:, 1:]].sum())
    return nats / math.log(2) / n_bytes
