"""From text to tokens: what a model reads of each prompt, and which of its tokens are kept."""

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
from jinja2 import TemplateError

from ..store.arguments import whole_number
from ..store.errors import InputError, InputTypeError
from .models import LoadedModel

_AT_A_TIME = 1024  # prompts tokenized together: memory does not grow with their number

SpecialTokens = Literal["tokenizer", "bos", "none"]


@dataclass(frozen=True)
class Prompting:
    """How a text becomes what the model reads.

    Attributes
    ----------
    chat
        Put the text in the tokenizer's chat template, as a user's message that awaits its answer.
    special_tokens
        "tokenizer": those that it adds by itself; "bos": also the begin-of-sequence token where it
        does not add it; "none".
    truncate
        Keep this many tokens, from the side that the tokenizer keeps; None refuses a prompt that is
        longer than the model's context.
    """

    chat: bool = False
    special_tokens: SpecialTokens = "tokenizer"
    truncate: int | None = None

    def __post_init__(self) -> None:
        """Refuse what is no number of tokens."""
        if self.truncate is not None:
            object.__setattr__(self, "truncate", whole_number(self.truncate, "truncate", least=1))

    def inputs(self) -> dict[str, Any]:
        """For the provenance."""
        return asdict(self)

    def check(self, model: LoadedModel) -> None:
        """Refuse what the tokenizer cannot do.

        Raises
        ------
        InputError
            A value that is not allowed; no chat template; no begin-of-sequence token.
        """
        if self.special_tokens not in ("tokenizer", "bos", "none"):
            raise InputError(
                f"special_tokens must be 'tokenizer', 'bos' or 'none', got {self.special_tokens!r}"
            )
        own = 0 if self.chat or self.special_tokens == "none" else model.tokenizer.num_special_tokens_to_add()
        if self.truncate is not None and self.truncate < own:  # the tokenizer would not truncate at all
            raise InputError(f"truncate must be at least {own}, the tokenizer's own, got {self.truncate}")
        if self.chat and not model.tokenizer.chat_template:
            raise InputError(f"the tokenizer of {model.name!r} has no chat template; leave chat out")
        if self.special_tokens == "bos" and model.tokenizer.bos_token_id is None:
            raise InputError(f"the tokenizer of {model.name!r} has no begin-of-sequence token")


@dataclass(frozen=True)
class Tokens:
    """Some prompts as tokens: all (prompt, token), right-padded with -1.

    Attributes
    ----------
    token_id, char_start, char_end
        int32. The span of a token in the prompt's text; (0, 0) for a special token, -1 for one of
        the chat template.
    """

    token_id: npt.NDArray[np.int32]
    char_start: npt.NDArray[np.int32]
    char_end: npt.NDArray[np.int32]

    @property
    def n_tokens(self) -> npt.NDArray[np.int64]:
        """Tokens of each prompt."""
        return np.asarray((self.token_id != -1).sum(axis=1), dtype=np.int64)


def tokenize(model: LoadedModel, table: pd.DataFrame, prompting: Prompting | None = None) -> Tokens:
    """Tokenize the prompts of a paradigm.

    Raises
    ------
    InputError
        A prompt is longer than the model's context, has no token, or has one that the model does not
        know; the chat template changes its text.
    """
    prompting = prompting or Prompting()
    texts = table["text"].tolist()
    shown, starts = _in_template(model, texts) if prompting.chat else (texts, [0] * len(texts))
    encoded = model.tokenizer(
        shown,
        return_offsets_mapping=True,
        add_special_tokens=not prompting.chat and prompting.special_tokens != "none",
        truncation=prompting.truncate is not None,
        max_length=prompting.truncate,
    )
    ids, spans = encoded["input_ids"], encoded["offset_mapping"]
    if prompting.special_tokens == "bos":
        _add_bos(model, ids, spans, prompting.truncate)
    _check_lengths(model, table, np.array([len(row) for row in ids]))
    tokens = _padded(ids, spans)
    if tokens.token_id.max() >= model.vocabulary:
        raise InputError(
            f"the tokenizer gives token {tokens.token_id.max()}, the model has {model.vocabulary}; "
            "the two do not belong together"
        )
    return _relative(tokens, texts, starts) if prompting.chat else tokens


def _in_template(model: LoadedModel, texts: list[str]) -> tuple[list[str], list[int]]:
    """Put each text in the chat template, and say where it begins in the result."""

    def show(text: str) -> str:
        message = [{"role": "user", "content": text}]
        try:
            whole = model.tokenizer.apply_chat_template(message, tokenize=False, add_generation_prompt=True)
        except TemplateError as error:
            raise InputError(
                f"the chat template of {model.name!r} cannot show {text[:40]!r}: {error}"
            ) from error
        return str(whole)

    pairs = zip(show("a"), show("b"), strict=False)
    before = next((i for i, (a, b) in enumerate(pairs) if a != b), 0)  # its own words may be the text's too
    shown, starts = [], []
    for text in texts:
        whole = show(text)
        place = whole.find(text.strip(), before)
        if place < 0:
            raise InputError(f"the chat template of {model.name!r} changes the text {text[:40]!r}")
        shown.append(whole)
        starts.append(place - (len(text) - len(text.lstrip())))
    return shown, starts


def _add_bos(model: LoadedModel, ids: list[list[int]], spans: list[Any], most: int | None) -> None:
    bos = int(model.tokenizer.bos_token_id)
    for i, row in enumerate(ids):
        if row[:1] != [bos]:
            n = len(row) if most is None else min(len(row), most - 1)
            kept = slice(len(row) - n, None) if model.tokenizer.truncation_side == "left" else slice(n)
            ids[i], spans[i] = [bos, *row[kept]], [(0, 0), *spans[i][kept]]


def _check_lengths(model: LoadedModel, table: pd.DataFrame, lengths: npt.NDArray[np.int64]) -> None:
    limit = model.context
    for problem, bad, remedy in (
        (
            f"longer than the model's context of {limit} tokens",
            lengths > (limit or np.inf),
            "shorten or remove them, or truncate",
        ),
        ("without a token", lengths == 0, "shorten or remove them"),
    ):
        if bad.any():
            first = table["prompt"].iloc[int(np.flatnonzero(bad)[0])]
            raise InputError(f"{int(bad.sum())} prompts are {problem}, the first is {first!r}; {remedy}")


def _padded(ids: list[list[int]], spans: list[Any]) -> Tokens:
    shape = (len(ids), max(map(len, ids)))
    arrays = [np.full(shape, -1, dtype=np.int32) for _ in range(3)]
    for i, row in enumerate(ids):
        arrays[0][i, : len(row)] = row
        both = np.array(spans[i])
        arrays[1][i, : len(row)], arrays[2][i, : len(row)] = both[:, 0], both[:, 1]
    return Tokens(*arrays)


def _relative(tokens: Tokens, texts: list[str], starts: list[int]) -> Tokens:
    """Count characters from the beginning of the text, not of the template around it."""
    start, end = tokens.char_start.copy(), tokens.char_end.copy()
    for i, (text, first) in enumerate(zip(texts, starts, strict=True)):
        outside = (start[i] < first) | (end[i] > first + len(text)) | (tokens.token_id[i] == -1)
        start[i], end[i] = np.where(outside, -1, start[i] - first), np.where(outside, -1, end[i] - first)
    return Tokens(tokens.token_id, start, end)


class Prompts:
    """The prompts of a paradigm as tokens, made again whenever they are needed.

    Only their lengths are kept, so that memory does not grow with the texts.

    Attributes
    ----------
    n_tokens
        (prompt,) int64: tokens that the model reads.
    digest
        Of every token, in order.
    """

    def __init__(self, model: LoadedModel, table: pd.DataFrame, prompting: Prompting) -> None:
        prompting.check(model)
        self.model, self.table, self.prompting = model, table, prompting
        lengths, h = [], hashlib.sha256()
        for rows in self._parts():
            tokens = self[rows]
            lengths.append(tokens.n_tokens)
            for ids, n in zip(tokens.token_id, tokens.n_tokens, strict=True):
                h.update(ids[:n].astype("<i4").tobytes() + b"\xff\xff\xff\xff")
        self.n_tokens = np.concatenate(lengths)
        self.digest = f"sha256:{h.hexdigest()}"

    def _parts(self) -> Iterator[slice]:
        for i in range(0, len(self.table), _AT_A_TIME):
            yield slice(i, i + _AT_A_TIME)

    def __getitem__(self, rows: slice | npt.NDArray[np.int64]) -> Tokens:
        """Tokenize some of the prompts."""
        return tokenize(self.model, self.table.iloc[rows], self.prompting)


@dataclass(frozen=True)
class Selection:
    """Which tokens of a prompt are kept.

    Attributes
    ----------
    name
        "prompt", "generated", "last", or a slice of the prompt's tokens as Python writes it, such as
        "1:" (without the first), "::4" (every fourth) or "2:10".
    """

    name: str

    @classmethod
    def of(cls, tokens: str) -> "Selection":
        """Check what the user asks for.

        Raises
        ------
        InputError, InputTypeError
            It is none of the above.
        """
        if not isinstance(tokens, str):
            raise InputTypeError(f"tokens must be a text such as 'prompt' or '1:', got {tokens!r}")
        slice_like = re.fullmatch(r"(-?\d+)?:(-?\d+)?(:[1-9]\d*)?", tokens)
        if tokens not in ("prompt", "generated", "last") and not slice_like:
            raise InputError(
                "tokens must be 'prompt', 'generated', 'last', or a slice such as '1:', '::4' or '2:10', "
                f"got {tokens!r}"
            )
        return cls(tokens)

    @property
    def is_generated(self) -> bool:
        """Whether the tokens are the model's own."""
        return self.name == "generated"

    def positions(self, n_tokens: int) -> npt.NDArray[np.int64]:
        """Return the kept positions of a prompt of `n_tokens`.

        >>> Selection.of("::4").positions(10).tolist(), Selection.of("last").positions(10).tolist()
        ([0, 4, 8], [9])
        """
        text = {"prompt": ":", "last": "-1:"}.get(self.name, self.name)
        bounds = [int(part) if part else None for part in text.split(":")]
        return np.arange(n_tokens)[slice(*bounds)]

    def check(self, n_tokens: npt.NDArray[np.int64], names: Sequence[str]) -> npt.NDArray[np.int64]:
        """Count the kept tokens of each prompt: (prompt,).

        Raises
        ------
        InputError
            A prompt is too short to have any.
        """
        kept = {int(n): len(self.positions(int(n))) for n in np.unique(n_tokens)}
        counts = np.array([kept[int(n)] for n in n_tokens], dtype=np.int64)
        if (counts == 0).any():
            first = names[int(np.flatnonzero(counts == 0)[0])]
            raise InputError(
                f"{int((counts == 0).sum())} prompts have no token in {self.name!r}, the first is {first!r}"
            )
        return counts
