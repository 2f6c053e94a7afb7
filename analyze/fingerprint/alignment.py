"""Two tokenizers' courses over one text, brought to the same stretches of characters.

A stretch ends wherever a token of each model ends. Ends alone are compared, as tokenizers differ in
whether the space before a word belongs to it.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from ...store.errors import InputError
from ...store.moments import Float64

Int = npt.NDArray[np.integer[Any]]


@dataclass(frozen=True)
class Pair:
    """Courses of two models over the texts that both were shown: for each text (stretch, network).

    `kept` (text,): places of these texts among the prompts that were asked for.
    """

    first: list[Float64]
    second: list[Float64]
    kept: npt.NDArray[np.int64]

    @property
    def n_stretches(self) -> int:
        """Stretches of all texts together."""
        return sum(map(len, self.first))


def shared_prompts(signatures: list[xr.Dataset]) -> list[str]:
    """List the prompts that all have, in the order of the first.

    Raises
    ------
    InputError
        There are fewer than two, or one has another text.
    """
    sets = [set(s["prompt"].to_numpy().tolist()) for s in signatures[1:]]
    both = [str(p) for p in signatures[0]["prompt"].to_numpy() if all(p in s for s in sets)]
    if len(both) < 2:
        raise InputError(
            f"the recordings have {len(both)} prompts in common; show the models the same paradigm"
        )
    texts = [s["text"].sel(prompt=both).to_numpy() for s in signatures if "text" in s.coords]
    for other in texts[1:]:
        different = np.flatnonzero(other != texts[0])
        if different.size:
            raise InputError(
                f"the prompt {both[different[0]]!r} has different texts in two recordings; "
                "show the models the same paradigm"
            )
    return both


def align(a: xr.Dataset, b: xr.Dataset, prompts: list[str]) -> Pair:
    """Average the courses of two signatures over the stretches of characters that they share.

    Texts that share no end of a token are left out.

    Raises
    ------
    InputError
        No text is left.
    """
    first, second, kept = [], [], []
    for i, (one, other) in enumerate(zip(_texts(a, prompts), _texts(b, prompts), strict=True)):
        ends = np.intersect1d(one[1], other[1])
        if ends.size:
            kept.append(i)
            first.append(_averaged(*one, ends))
            second.append(_averaged(*other, ends))
    if not first:
        raise InputError(
            "no token of one recording ends where one of the other does; show the models the same paradigm"
        )
    return Pair(first, second, np.array(kept))


def _texts(signature: xr.Dataset, prompts: list[str]) -> list[tuple[Int, Int, Float64]]:
    """First character and end of every token that has characters, and its courses, of each text."""
    chosen = signature.sel(prompt=prompts)
    start, end = (chosen[v].transpose("prompt", "token").to_numpy() for v in ("char_start", "char_end"))
    course = chosen["course"].transpose("prompt", "token", "network").to_numpy()
    some = (start >= 0) & (end > start)
    return [(s[m], e[m], c[m]) for s, e, c, m in zip(start, end, course, some, strict=True)]


def _averaged(start: Int, end: Int, course: Float64, ends: Int) -> Float64:
    """Mean over the tokens of each stretch, each counted by its characters: (stretch, network).

    >>> start, end = np.array([0, 2, 5]), np.array([2, 5, 9])
    >>> _averaged(start, end, np.array([[1.0], [6.0], [0.0]]), np.array([5, 9])).tolist()
    [[4.0], [0.0]]
    """
    stretch = np.searchsorted(ends, end)
    inside = stretch < len(ends)  # tokens behind the last shared end have no stretch
    width = (end - start)[inside].astype(np.float64)
    total = np.zeros((len(ends), course.shape[1]))
    np.add.at(total, stretch[inside], width[:, None] * course[inside])
    return total / np.bincount(stretch[inside], width, minlength=len(ends))[:, None]
