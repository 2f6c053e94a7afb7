"""The losses of texts under a model as it is now, whatever was done to its parameters."""

from typing import Final

import numpy as np
import numpy.typing as npt

from ...store.errors import InputError
from ...store.paradigm import Paradigm
from ..batches import batches
from ..forward import score_tokens
from ..models import LoadedModel
from ..tokens import Tokens, tokenize

BATCH_TOKENS: Final = 4096  # on every device: the numbers stay the same


def check_scorable(model: LoadedModel) -> None:
    """Refuse a model that gives no probability of the next token."""
    if not model.is_causal:
        raise InputError(f"{model.name!r} gives no probability of a next token; give a causal language model")


def scorable_tokens(model: LoadedModel, paradigm: Paradigm) -> Tokens:
    """Tokenize texts of which at least one has a token to foretell."""
    tokens = tokenize(model, paradigm.table)
    if tokens.n_tokens.max() < 2:
        raise InputError(
            "no prompt has a second token, so there is no prediction to score; give longer texts"
        )
    return tokens


def score_all(model: LoadedModel, tokens: Tokens) -> npt.NDArray[np.float32]:
    """Score every token by the model as it is now: (prompt, token) nats, NaN on the first and on padding."""
    out = np.full(tokens.token_id.shape, np.nan, dtype=np.float32)
    for rows in batches(tokens.n_tokens, BATCH_TOKENS):
        logprob = score_tokens(model, tokens.token_id[rows])
        out[rows, : logprob.shape[1]] = logprob
    return out


def scored_tokens(tokens: Tokens) -> npt.NDArray[np.bool_]:
    """Say which tokens are foretold, all but the first and padding: (prompt, token)."""
    is_scored: npt.NDArray[np.bool_] = tokens.token_id != -1
    is_scored[:, 0] = False
    return is_scored


def summed_losses(model: LoadedModel, tokens: Tokens) -> npt.NDArray[np.float64]:
    """Loss of each prompt, summed over its scored tokens: (prompt,) nats.

    NaN where the model gives one of them no log probability.
    """
    logprob = np.where(scored_tokens(tokens), score_all(model, tokens), 0.0)
    return np.asarray(0.0 - logprob.sum(axis=1, dtype=np.float64))
