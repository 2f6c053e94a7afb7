"""Paragraphs to token streams, and streams to training windows and held-out passages."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from corpus import Paragraph
from tokenizer import BOS, EOS
from transformers import PreTrainedTokenizerFast

ENCODED_AT_ONCE = 2000


@dataclass
class Stream:
    """The tokens of one domain, document after document, and where its paragraphs start."""

    tokens: np.ndarray
    starts: np.ndarray
    rng: np.random.Generator
    _order: list[int] = field(default_factory=list)

    def window(self, length: int) -> np.ndarray:
        """Return ``<bos>`` and the `length` tokens from the next paragraph start.

        The order of the paragraphs is shuffled anew after every pass.
        """
        if not self._order:
            self._order = list(self.rng.permutation(self.starts[self.starts < len(self.tokens) - 256]))
        start = self._order.pop()
        return np.concatenate([[BOS], self.tokens[start : start + length]])


def encode(texts: list[str], tokenizer: PreTrainedTokenizerFast) -> Iterator[list[int]]:
    """Token ids of each text, without special tokens."""
    for first in range(0, len(texts), ENCODED_AT_ONCE):
        yield from tokenizer(texts[first : first + ENCODED_AT_ONCE], add_special_tokens=False)["input_ids"]


def _documents(
    paragraphs: Iterable[Paragraph], tokenizer: PreTrainedTokenizerFast
) -> Iterator[list[list[int]]]:
    """Per document, the token ids of its paragraphs."""
    for _, group in itertools.groupby(paragraphs, key=lambda p: (p.package, p.document)):
        yield list(encode([paragraph.text for paragraph in group], tokenizer))


def build_stream(paragraphs: list[Paragraph], tokenizer: PreTrainedTokenizerFast, *, seed: int) -> Stream:
    """Join the paragraphs of one domain: a blank line between two, ``<eos>`` after a document."""
    line_break = tokenizer("\n", add_special_tokens=False)["input_ids"]
    tokens: list[int] = []
    starts: list[int] = []
    for document in _documents(paragraphs, tokenizer):
        for ids in document:
            starts.append(len(tokens))
            tokens += ids + line_break * 2
        tokens[-2:] = [EOS]
    return Stream(np.array(tokens, dtype=np.int64), np.array(starts), np.random.default_rng(seed))


def held_out_passages(
    paragraphs: list[Paragraph], tokenizer: PreTrainedTokenizerFast, *, length: int = 255
) -> list[list[int]]:
    """Cut held-out documents into passages of consecutive paragraphs.

    Every passage starts with ``<bos>`` and holds at most `length` further tokens.
    """
    line_break = tokenizer("\n", add_special_tokens=False)["input_ids"]
    passages: list[list[int]] = []
    for document in _documents(paragraphs, tokenizer):
        passage: list[int] = []
        for ids in document:
            if passage and len(passage) + 2 + len(ids) <= length:
                passage += line_break * 2 + ids
            else:
                passages.append([BOS, *passage])
                passage = ids[:length]
        passages.append([BOS, *passage])
    return [passage for passage in passages if len(passage) > 1]


def batches(
    streams: dict[str, Stream], *, tokens: int, temperature: float, seed: int, rank: int
) -> Iterator[torch.Tensor]:
    """Endless batches of windows that start at paragraphs.

    A domain is drawn in proportion to its size to the power `temperature`; the windows of one batch have one
    length, 64, 128 or 256 tokens, so that nothing is padded. Workers of other `rank` draw other windows of
    the same lengths, and so take the same time.
    """
    lengths, rng = np.random.default_rng(seed), np.random.default_rng([seed, rank])
    weights = np.array([len(stream.tokens) for stream in streams.values()], dtype=float) ** temperature
    domains = list(streams.values())
    while True:
        length = int(lengths.choice([64, 128, 256], p=[0.3, 0.4, 0.3]))
        drawn = rng.choice(len(domains), size=tokens // length, p=weights / weights.sum())
        yield torch.from_numpy(np.stack([domains[i].window(length) for i in drawn]))
