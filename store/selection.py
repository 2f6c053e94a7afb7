"""Which prompts selected a network or a region, told by their texts: on those it is not evaluated.

An id does not tell one prompt from another: two paradigms may number theirs alike, or show one text under
two names. So the digest of the text goes along wherever the id goes, and decides where both sides have it.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import reduce
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd
import xarray as xr

from .provenance import digest_bytes

SELECTION: Final = ("selected_on", "selected_texts")  # attrs that go together

_HIDDEN = re.compile(r"sha256:[0-9a-f]{64}")  # a text that was exported as its digest
_LENGTH = 16  # hexadecimal digits of a text's digest: of a million texts, some two agree once in 10^7 times


@dataclass(frozen=True)
class Selection:
    """Prompts that took part in something.

    Attributes
    ----------
    prompts
        The id of each and the digest of its text, "" where that is not known.

    Examples
    --------
    >>> one = Selection.of(pd.DataFrame({"prompt": ["a-0", "a-1"], "text": ["le chat", "le chien"]}))
    >>> other = Selection.of(pd.DataFrame({"prompt": ["a-0", "b-0"], "text": ["the cat", "le chat"]}))
    >>> one.shared(other).tolist(), Selection.noted({"selected_on": ["a-0"]}).shared(other).tolist()
    ([False, True], [True, False])
    """

    prompts: tuple[tuple[str, str], ...] = ()

    @classmethod
    def of(cls, labels: xr.Dataset | pd.DataFrame) -> "Selection":
        """Take the prompts of a recording, or of the table of a paradigm."""
        ids = [str(p) for p in labels["prompt"].to_numpy()]
        if "text" not in labels:
            return cls(tuple((name, "") for name in ids))
        texts = labels["text"].to_numpy().tolist()
        return cls(tuple((name, _digest(text)) for name, text in zip(ids, texts, strict=True)))

    @classmethod
    def noted(cls, attrs: Mapping[Any, Any]) -> "Selection | None":
        """Read what attrs say; None where they do not say which prompts took part.

        Digests that do not belong to the ids are not read: the list of ids was given anew since.
        """
        if attrs.get("selected_on") is None:
            return None
        ids = [str(p) for p in attrs["selected_on"]]
        marks = [str(mark) for mark in attrs.get("selected_texts") or ()]
        texts = [mark.partition("-")[0] for mark in marks]
        if [_mark(*prompt) for prompt in zip(ids, texts, strict=False)] != marks or len(marks) != len(ids):
            texts = [""] * len(ids)
        return cls(tuple(zip(ids, texts, strict=True)))

    @classmethod
    def made(cls, result: xr.Dataset) -> "Selection":
        """Read off what a fit notes; of one that notes nothing, the prompts that it still has."""
        return cls.noted(result.attrs) or cls.of(result)

    @property
    def attrs(self) -> dict[str, list[str]]:
        """What a result says: ``selected_on``, and ``selected_texts`` where a text is known."""
        out = {"selected_on": [name for name, _ in self.prompts]}
        if any(text for _, text in self.prompts):
            out["selected_texts"] = [_mark(*prompt) for prompt in self.prompts]
        return out

    def __or__(self, other: "Selection") -> "Selection":
        """Put the prompts of another behind these, each once."""
        return Selection(tuple(dict.fromkeys([*self.prompts, *other.prompts])))

    def shared(self, other: "Selection", *, by_id: bool = True) -> npt.NDArray[np.bool_]:
        """Say which prompts of another are among these.

        Parameters
        ----------
        other
            The prompts to look for.
        by_id
            Compare the ids of prompts of which one side lacks the text; otherwise these are different.
        """
        texts = {text for _, text in self.prompts if text}
        names = {name for name, _ in self.prompts} if by_id else set()
        textless = {name for name, text in self.prompts if not text} if by_id else set()
        return np.array(
            [text in texts or name in (textless if text else names) for name, text in other.prompts],
            dtype=bool,
        )


def joined_selection(*attrs: Mapping[Any, Any]) -> Selection:
    """Put together the prompts that any of these attrs notes."""
    known = [one for a in attrs if (one := Selection.noted(a)) is not None]
    return reduce(Selection.__or__, known, Selection())


def kept_selection(attrs: Mapping[Any, Any]) -> dict[str, Any]:
    """Return what attrs say of a selection, for a result that was made of nothing else."""
    return {name: attrs[name] for name in SELECTION if name in attrs}


def _digest(text: object) -> str:
    """Return a short digest of a text; one that was hidden behind its digest gives what it gave before."""
    if not isinstance(text, str) or not text:
        return ""
    hidden = text if _HIDDEN.fullmatch(text) else digest_bytes(text.encode())
    return hidden.removeprefix("sha256:")[:_LENGTH]


def _mark(name: str, text: str) -> str:
    """Tie the digest of a text to the id of its prompt, so that it is read with no other."""
    return f"{text}-{digest_bytes(name.encode())[7:11]}" if text else ""
