"""From text to tokens: ids, character spans, and batches that depend on nothing but the prompts."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch

from ..store.errors import InputError
from .models import LoadedModel

_BATCH_TOKENS = 4096


@dataclass(frozen=True)
class Tokens:
    """The prompts as tokens: all (prompt, token), right-padded with -1.

    Attributes
    ----------
    token_id, char_start, char_end
        int32.
    n_tokens
        (prompt,) int64.
    """

    token_id: npt.NDArray[np.int32]
    char_start: npt.NDArray[np.int32]
    char_end: npt.NDArray[np.int32]

    @property
    def n_tokens(self) -> npt.NDArray[np.int64]:
        """Tokens of each prompt."""
        return np.asarray((self.token_id != -1).sum(axis=1), dtype=np.int64)

    def labels(self, unit: slice) -> dict[str, npt.NDArray[Any]]:
        """Return the root variables of some prompts."""
        return {
            "n_tokens": self.n_tokens[unit],
            "token_id": self.token_id[unit],
            "char_start": self.char_start[unit],
            "char_end": self.char_end[unit],
            "generated": np.zeros(self.token_id[unit].shape, dtype=bool),
        }


def tokenize(model: LoadedModel, table: pd.DataFrame) -> Tokens:
    """Tokenize the prompts of a paradigm, with the special tokens that the tokenizer adds by itself.

    Raises
    ------
    InputError
        A prompt is longer than the model's context, has no token, or has one that the model does not
        know.
    """
    encoded = model.tokenizer(table["text"].tolist(), return_offsets_mapping=True, add_special_tokens=True)
    lengths = np.array([len(ids) for ids in encoded["input_ids"]])
    limit = model.context
    for problem, bad in (
        (f"longer than the model's context of {limit} tokens", lengths > (limit or np.inf)),
        ("without a token", lengths == 0),
    ):
        if bad.any():
            first = table["prompt"].iloc[int(np.flatnonzero(bad)[0])]
            raise InputError(
                f"{int(bad.sum())} prompts are {problem}, the first is {first!r}; shorten or remove them"
            )
    shape = (len(lengths), int(lengths.max()))
    arrays = [np.full(shape, -1, dtype=np.int32) for _ in range(3)]
    for i, n in enumerate(lengths):
        arrays[0][i, :n] = encoded["input_ids"][i]
        spans = np.array(encoded["offset_mapping"][i])
        arrays[1][i, :n], arrays[2][i, :n] = spans[:, 0], spans[:, 1]
    if arrays[0].max() >= model.vocabulary:
        raise InputError(
            f"the tokenizer gives token {arrays[0].max()}, the model has {model.vocabulary}; "
            "the two do not belong together"
        )
    return Tokens(*arrays)


def batches(n_tokens: npt.NDArray[np.int64], batch_size: int | None) -> list[npt.NDArray[np.int64]]:
    """Group prompts of similar length: a pure function of the lengths, so that a resumed run repeats it.

    >>> [b.tolist() for b in batches(np.array([9, 2, 8, 3]), 2)]
    [[1, 3], [2, 0]]
    """
    order = np.argsort(n_tokens, kind="stable")
    size = batch_size or max(1, _BATCH_TOKENS // int(n_tokens.max()))
    return [order[i : i + size] for i in range(0, len(order), size)]


def model_input(token_id: npt.NDArray[np.int32], device: torch.device) -> dict[str, torch.Tensor]:
    """Make the model's input of some prompts, cut to the longest; padding is masked."""
    width = int((token_id != -1).sum(axis=1).max())
    ids = torch.from_numpy(token_id[:, :width].astype(np.int64)).to(device)
    return {"input_ids": ids.clamp(min=0), "attention_mask": (ids != -1).long()}


def next_token_logprob(logits: torch.Tensor, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    """Natural log p of each token given those before: (prompt, token), NaN on the first and on padding."""
    out = torch.full(inputs["input_ids"].shape, torch.nan, device=logits.device)
    for i, n in enumerate(inputs["attention_mask"].sum(dim=1).tolist()):
        scores = torch.log_softmax(logits[i, : n - 1].float(), dim=-1)
        out[i, 1:n] = scores.gather(1, inputs["input_ids"][i, 1:n, None])[:, 0]
    return out


def score_tokens(model: LoadedModel, token_id: npt.NDArray[np.int32]) -> npt.NDArray[np.float32]:
    """Run some prompts and return the log probability of their tokens: (prompt, token of the longest)."""
    inputs = model_input(token_id, model.device)
    with torch.inference_mode():
        logits = model.module(**inputs, use_cache=False).logits
        out: npt.NDArray[np.float32] = next_token_logprob(logits, inputs).cpu().numpy()
    return out
