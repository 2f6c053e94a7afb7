"""Multiple choice: the choices of a prompt as what may follow its text, and what an answer says."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from ...store.errors import InputError
from ..models import LoadedModel
from ..tokens import tokenize

NOT_ASKED, UNPARSED = -2, -1


@dataclass(frozen=True)
class Choices:
    """The choices of each prompt, from the paradigm's columns ``choices`` and ``answer``.

    Attributes
    ----------
    texts
        Per prompt; none where it is no question.
    answer
        (prompt,): place of the right one; -1 where there is none.
    """

    texts: tuple[tuple[str, ...], ...]
    answer: npt.NDArray[np.int64]

    @classmethod
    def of(cls, table: pd.DataFrame) -> "Choices | None":
        """Read the columns; None where no prompt has choices.

        Parameters
        ----------
        table
            Of a paradigm. ``choices`` holds them in one text, separated by ``|``; "" for a prompt that
            is no question. ``answer`` is the text of the right one, or its place from 0.

        Raises
        ------
        InputError
            One column is there without the other; a question has fewer than two choices, the same
            twice, or an answer that is none of them.
        """
        if "choices" not in table or not table["choices"].astype(bool).any():
            return None
        if "answer" not in table:
            raise InputError("the paradigm has a column 'choices' and none named 'answer'")
        texts, answers = [], []
        for name, listed, answer in zip(table["prompt"], table["choices"], table["answer"], strict=True):
            choices = tuple(part.strip() for part in str(listed).split("|")) if str(listed).strip() else ()
            if choices and (len(choices) < 2 or len(set(choices)) < len(choices) or "" in choices):
                raise InputError(
                    f"the choices of prompt {name!r} must be two or more that differ, separated by '|', got "
                    f"{listed!r}"
                )
            texts.append(choices)
            answers.append(_place(str(answer).strip(), choices, name) if choices else -1)
        return cls(tuple(texts), np.array(answers, dtype=np.int64))

    @property
    def most(self) -> int:
        """Choices of the question that has most."""
        return max(map(len, self.texts))


def _place(answer: str, choices: Sequence[str], name: str) -> int:
    if answer in choices:
        return choices.index(answer)
    if answer.isdecimal() and int(answer) < len(choices):
        return int(answer)
    raise InputError(
        f"the answer of prompt {name!r} must be one of its choices {list(choices)}, or its place from 0, "
        f"got {answer!r}"
    )


@dataclass(frozen=True)
class Continuations:
    """Texts each followed by one of its choices, as tokens.

    Attributes
    ----------
    prompt, choice
        (row,): which prompt, and which of its choices.
    token_id
        (row, token) int32, right-padded with -1.
    is_choice
        (row, token): the tokens that are the choice's.
    """

    prompt: npt.NDArray[np.int64]
    choice: npt.NDArray[np.int64]
    token_id: npt.NDArray[np.int32]
    is_choice: npt.NDArray[np.bool_]

    @classmethod
    def of(cls, model: LoadedModel, table: pd.DataFrame, choices: Choices) -> "Continuations":
        """Tokenize each text with each of its choices behind it, a space between them.

        A token belongs to the choice if its text ends behind that of the prompt, so that one which
        spans both does.
        """
        rows = [(i, k) for i, texts in enumerate(choices.texts) for k in range(len(texts))]
        prompt, choice = np.array(rows, dtype=np.int64).reshape(-1, 2).T
        if not len(rows):
            empty = np.zeros((0, 1), dtype=np.int32)
            return cls(prompt, choice, empty, empty.astype(bool))
        before = [table["text"].iloc[i] for i in prompt]
        gaps = ["" if text[-1:].isspace() else " " for text in before]
        joined = [
            f"{text}{gap}{choices.texts[i][k]}" for text, gap, (i, k) in zip(before, gaps, rows, strict=True)
        ]
        names = [f"{table['prompt'].iloc[i]} with choice {k}" for i, k in rows]
        tokens = tokenize(model, pd.DataFrame({"prompt": names, "text": joined}))
        ends = np.array([len(text) for text in before])[:, None]
        is_choice = (tokens.char_end > ends) & (tokens.token_id != -1)
        is_choice[:, 0] = False  # nothing foretells a first token
        return cls(prompt, choice, tokens.token_id, is_choice)


def parse_answer(text: str, choices: Sequence[str]) -> int:
    """Return which choice an answer names; -1 where it names none, or more than one.

    The one that it begins with counts, the longest where there are several; otherwise the only one that
    stands in it as a whole. Capital letters are not told from small ones.

    >>> parse_answer(" Paris, of course, not Rome", ["Rome", "Paris"])
    1
    >>> parse_answer("Rome or Paris?", ["Lisbon", "Paris"]), parse_answer("I cannot say", ["a", "b"])
    (1, -1)
    """

    def stands(choice: str, *, first: bool) -> bool:
        pattern = rf"(?<!\w){re.escape(choice.casefold())}(?!\w)"
        return bool((re.match if first else re.search)(pattern, text.strip().casefold()))

    begun = [k for k, choice in enumerate(choices) if stands(choice, first=True)]
    if begun:
        return max(begun, key=lambda k: len(choices[k]))
    found = [k for k, choice in enumerate(choices) if stands(choice, first=False)]
    return found[0] if len(found) == 1 else UNPARSED
