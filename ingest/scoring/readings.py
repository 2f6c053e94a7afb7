"""What is read off the logits of some prompts under several lesions, token by token."""

from collections.abc import Collection
from typing import Any, Final, Literal

import torch
from torch.nn.functional import kl_div

from ..forward import next_token_logprob

Reading = Literal["logprob", "hit", "kl"]

DTYPES: Final[dict[Reading, Any]] = {"logprob": "float32", "hit": "int8", "kl": "float32"}
MISSING: Final[dict[Reading, float]] = {"logprob": float("nan"), "hit": -1, "kl": float("nan")}


def read_logits(
    logits: torch.Tensor,
    inputs: dict[str, torch.Tensor],
    whole: torch.Tensor | None,
    also: Collection[Reading],
) -> dict[Reading, torch.Tensor]:
    """Read what is wanted: (lesion x prompt, token) each, missing on the first token and on padding.

    Parameters
    ----------
    logits
        (lesion x prompt, token, vocabulary).
    inputs
        Of the model.
    whole
        (prompt, token, vocabulary): log probabilities of the model left whole, for "kl".
    also
        Beside the log probability of each token: "hit", whether it was the likeliest; "kl", the
        divergence of what the model left whole foretold from what this one does.
    """
    logprob = next_token_logprob(logits, inputs)
    out: dict[Reading, torch.Tensor] = {"logprob": logprob}
    if "hit" in also:
        out["hit"] = _hits(logits, inputs, logprob)
    if "kl" in also and whole is not None:
        padding = inputs["attention_mask"].to(logits.device) == 0
        out["kl"] = _divergence(logits, whole).masked_fill_(padding, torch.nan)
    return out


def _hits(logits: torch.Tensor, inputs: dict[str, torch.Tensor], logprob: torch.Tensor) -> torch.Tensor:
    out = torch.full(logprob.shape, -1, dtype=torch.int8, device=logits.device)
    ids = inputs["input_ids"].to(logits.device)
    out[:, 1:] = (logits[:, :-1].argmax(dim=-1) == ids[:, 1:]).to(torch.int8)
    return out.masked_fill_(logprob.isnan(), -1)


def _divergence(logits: torch.Tensor, whole: torch.Tensor) -> torch.Tensor:
    """Kullback-Leibler divergence, nats, of the next token's distributions; at the token foretold."""
    out = torch.full(logits.shape[:2], torch.nan, device=logits.device)
    for i in range(len(logits)):  # prompt by prompt, as the scores of a batch would not fit in a cache
        p = whole[i % len(whole), :-1]
        q = torch.log_softmax(logits[i, :-1].float(), dim=-1)
        out[i, 1:] = kl_div(q, p, reduction="none", log_target=True).sum(dim=-1).clamp(min=0)
    return out
