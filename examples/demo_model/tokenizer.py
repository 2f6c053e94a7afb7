"""The demo model's tokenizer: byte-level BPE, with ``<bos>`` before every text."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator

from corpus import Paragraph
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

SPECIAL = ("<bos>", "<eos>", "<pad>")
BOS, EOS, PAD = range(3)


def _sample(paragraphs: Iterable[Paragraph], characters: int, seed: int) -> Iterator[str]:
    """About as many characters of every domain, so that each gets a fair part of the vocabulary."""
    by_domain: dict[str, list[str]] = {}
    for paragraph in paragraphs:
        by_domain.setdefault(paragraph.domain, []).append(paragraph.text)
    for texts in by_domain.values():
        random.Random(seed).shuffle(texts)
        left = characters
        for text in texts:
            if left > 0:
                left -= len(text)
                yield text


def train_tokenizer(
    paragraphs: Iterable[Paragraph], *, vocabulary: int = 8192, characters: int = 1_500_000, seed: int = 0
) -> PreTrainedTokenizerFast:
    """Train the tokenizer on a balanced sample of `paragraphs`.

    A line break is always a token of its own, so that joining tokenized paragraphs and tokenizing joined
    paragraphs give the same ids. Digits are single tokens.

    Parameters
    ----------
    paragraphs
        The training split.
    vocabulary
        Number of tokens, special ones included.
    characters
        At most so many characters of each domain.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex("\n"), "isolated"),
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=list(SPECIAL),
        max_token_length=24,
        show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    tokenizer.train_from_iterator(_sample(paragraphs, characters, seed), trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<bos> $A", pair="<bos> $A $B", special_tokens=[("<bos>", BOS)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<bos>",
        eos_token="<eos>",
        pad_token="<pad>",
        model_max_length=256,
        clean_up_tokenization_spaces=False,
    )
