"""A knowledge probe: questions with several answers, of which the model finds one the likeliest."""

import numpy as np
import numpy.typing as npt

from ...store.errors import InputError
from ...store.paradigm import Paradigm
from ..models import LoadedModel
from .losses import scorable_tokens, score_all, scored_tokens


class Probe:
    """Multiple choice by log probability.

    A model chooses the answer whose whole text (question and answer) is the most probable, summed over
    tokens; what the answers of a question have in common cancels.

    Parameters
    ----------
    model
        Causal.
    paradigm
        One prompt an answer: the question followed by it. The column ``item`` says which answers belong
        together, ``correct`` (true, 1) which one is right.

    Attributes
    ----------
    items
        Names of the questions.

    Raises
    ------
    InputError
        A column is missing; a question has fewer than two answers, or not exactly one that is right.
    """

    def __init__(self, model: LoadedModel, paradigm: Paradigm) -> None:
        table = paradigm.table
        missing = [c for c in ("item", "correct") if c not in table]
        if missing:
            raise InputError(f"a probe needs the columns item and correct; {missing} are missing")
        names = table["item"].astype(str).to_numpy()
        correct = table["correct"].astype(str).str.lower().isin(("true", "1", "1.0", "yes")).to_numpy()
        self.items = list(dict.fromkeys(names.tolist()))
        self._answers = [np.flatnonzero(names == item) for item in self.items]
        for item, rows in zip(self.items, self._answers, strict=True):
            if len(rows) < 2 or correct[rows].sum() != 1:
                raise InputError(
                    f"the question {item!r} has {len(rows)} answers, {int(correct[rows].sum())} of them "
                    "right; it needs at least two, and one that is right"
                )
        self._correct = correct
        self._model, self._tokens = model, scorable_tokens(model, paradigm)

    def ask(self) -> npt.NDArray[np.bool_]:
        """Say which questions the model as it is now answers rightly: (item,).

        One whose right answer is as likely as another, or one of whose answers has no probability, is not.
        """
        logprob = score_all(self._model, self._tokens)
        total = np.where(scored_tokens(self._tokens), logprob, 0.0).sum(axis=1, dtype=np.float64)
        right = []
        for rows in self._answers:
            of, correct = total[rows], self._correct[rows]
            right.append(bool(np.isfinite(of).all() and of[correct].item() > of[~correct].max()))
        return np.array(right)
