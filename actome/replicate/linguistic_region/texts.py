"""The texts: those that select regions, those that evaluate them, and questions about knowledge."""

from dataclasses import dataclass
from typing import Final

import numpy as np

from ...store.errors import InputError
from ...store.paradigm import Paradigm

_EVALUATING = 3  # one in three evaluates
_QUESTIONS: Final = (
    ("The root user may read and write every", (" file.", " Monday.", " orange.")),
    ("The command man shows the manual", (" pages.", " clouds.", " keyboards.")),
    ("To install a package, run apt-get", (" install.", " remove.", " sleep.")),
    ("The exit status of a command that succeeds is", (" 0.", " 1.", " 127.")),
    ("The manual pages of system calls are in section", (" 2.", " 1.", " 8.")),
    ("The source package of Debian has a file debian/", ("control.", "music.", "window.")),
    ("Debian uses the kernel called", (" Linux.", " Windows.", " Emacs.")),
    ("The environment variable that lists the directories of commands is", (" PATH.", " HOME.", " LANG.")),
    ("In Python, a function is defined with the keyword", (" def.", " import.", " while.")),
    ("The boot loader of Debian is", (" GRUB.", " Apache.", " Vim.")),
)  # the first answer is right


@dataclass(frozen=True)
class Texts:
    """The two parts of what is shown, and the conditions of both, in order."""

    selecting: Paradigm
    scoring: Paradigm
    conditions: list[str]


def split(paradigm: Paradigm, language: str, seed: int) -> Texts:
    """Draw one in three prompts of every condition to evaluate; the others select. Rests are left out.

    Raises
    ------
    InputError
        There are fewer than two conditions, one has fewer than three prompts, or `language` is none of them.
    """
    table = paradigm.table
    if "condition" not in table:
        raise InputError("the paradigm needs a column condition: the language of each text")
    if paradigm.design is not None and paradigm.design.rest is not None:
        table = table[table["condition"] != paradigm.design.rest]
    counts = table["condition"].value_counts()
    if len(counts) < 2 or counts.min() < _EVALUATING:
        raise InputError(
            f"the study needs at least two languages (conditions), each with {_EVALUATING} texts or more; "
            f"the paradigm has {counts.to_dict()}"
        )
    conditions = sorted(str(c) for c in counts.index)
    if language and language not in conditions:
        raise InputError(f"there is no language {language!r} to train on; there are {conditions}")
    rng = np.random.default_rng(seed)
    scoring: list[str] = []
    for condition in conditions:
        names = sorted(table["prompt"][table["condition"] == condition])
        scoring += rng.permutation(names)[: len(names) // _EVALUATING].tolist()
    selecting = sorted(set(table["prompt"]) - set(scoring))
    return Texts(paradigm.select(prompt=selecting), paradigm.select(prompt=sorted(scoring)), conditions)


def questions() -> Paradigm:
    """Ten questions about Linux and Python with three answers each, one prompt an answer."""
    return Paradigm(
        [
            {"text": asked + answer, "item": str(i), "correct": k == 0}
            for i, (asked, answers) in enumerate(_QUESTIONS)
            for k, answer in enumerate(answers)
        ],
        name="questions",
    )
