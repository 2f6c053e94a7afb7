"""What every replication ends with: statements of the study, judged, and a report."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt
import xarray as xr

Verdict = Literal["agree", "disagree", "cannot say", "not asked"]
Choice = tuple[str, str, str]  # what is chosen, the value, the reason

LEVEL: Final = 0.05  # of every test a verdict rests on


@dataclass(frozen=True)
class Statement:
    """A statement of a study, and what a replication makes of it.

    Attributes
    ----------
    claim
        What the study states, in our words.
    measured
        The numbers the verdict rests on.
    verdict
        "agree", "disagree", "cannot say" (neither rule is met) or "not asked" (the data cannot tell).
    rule
        When it is which.
    published
        The study's own figures; "" where it gives none that are known for sure.
    """

    claim: str
    measured: str
    verdict: Verdict
    rule: str
    published: str = ""


@dataclass(frozen=True)
class Outcome:
    """The path of the report, and the statements in it."""

    report: str
    statements: xr.Dataset


def as_dataset(statements: Sequence[Statement], choices: Sequence[Choice], **attrs: Any) -> xr.Dataset:
    """Return statements, and choices (choice, value, reason), as the report takes them."""
    fields = ("claim", "published", "measured", "verdict", "rule")
    along = {f: ("statement", np.array([getattr(s, f) for s in statements], dtype=object)) for f in fields}
    columns = dict(zip(("choice", "value", "reason"), zip(*choices, strict=True), strict=True))
    along |= {name: ("choice", np.array(values, dtype=object)) for name, values in columns.items()}
    return xr.Dataset(along, attrs={"kind": "statements", **attrs})


def all_or_none(met: npt.NDArray[np.bool_]) -> Verdict:
    """Judge a statement on several things: agree if it holds of all, disagree if of none."""
    if met.all():
        return "agree"
    return "cannot say" if met.any() else "disagree"


def say(step: str) -> None:
    """Tell on standard error what is being done."""
    print(f"actome replicate: {step}", file=sys.stderr)
