"""What a replication with a block design is asked for, and whether the paradigm allows it."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import pandas as pd

from ...analyze.threshold import P, Top, Z, check_fraction
from ...store.arguments import whole_number
from ...store.errors import InputError
from ...store.moments import Measure, check_measure
from ...store.paradigm import Paradigm
from ...store.schema import SITES

Control = Literal["bonferroni", "fdr", "by"] | P | Z | Top

_CONTROLS = ("bonferroni", "fdr", "by")


@dataclass(frozen=True)
class Settings:
    """What decides the numbers, beside the recording: options of `run`."""

    rest: str
    site: str
    measure: Measure
    control: Control
    alpha: float
    n_permutations: int
    seed: int

    def kept(self) -> dict[str, Any]:
        """Return them as JSON holds them."""
        return asdict(self) | {"control": str(self.control)}


def rest_of(paradigm: Paradigm, rest: str | None) -> str:
    """Return the condition between the tasks: the one asked for, or the one that the design rests in."""
    conditions = paradigm.table["condition"].unique().tolist()
    if rest is None and paradigm.design is None:
        raise InputError(
            f"name the condition between the tasks with rest=... (--rest); the paradigm has {conditions}"
        )
    rest = rest if paradigm.design is None or rest is not None else paradigm.design.rest
    if rest not in conditions:
        raise InputError(f"the paradigm has no condition {rest!r} to rest in; it has {conditions}")
    return str(rest)


def tasks_of(paradigm: Paradigm, rest: str) -> list[str]:
    """List the conditions but rest, in the order in which they are first shown."""
    return [str(c) for c in paradigm.table["condition"].unique() if c != rest]


def check(paradigm: Paradigm, settings: Settings, sites: Sequence[str]) -> None:
    """Refuse before any work what an analysis would refuse after the recording.

    Raises
    ------
    InputError
        A site, a measure or a threshold is not allowed; the paradigm has too few tasks, runs or prompts.
    """
    unknown = [s for s in sites if s not in SITES]
    if unknown or settings.site not in sites:
        raise InputError(
            f"sites must be some of {list(SITES)}, the compared one ({settings.site!r}) among them, "
            f"got {list(sites)}"
        )
    check_measure(settings.measure)
    check_fraction("alpha", settings.alpha)
    if settings.control not in _CONTROLS and not isinstance(settings.control, (P, Z, Top)):
        raise InputError(
            f"control must be one of {list(_CONTROLS)}, P(...), Z(...) or Top(...), got {settings.control!r}"
        )
    whole_number(settings.n_permutations, "n_permutations", least=1)
    whole_number(settings.seed, "seed", least=0)
    tasks, table = tasks_of(paradigm, settings.rest), paradigm.table
    counts = pd.crosstab(table["run"], table["condition"])
    if len(tasks) < 2 or len(counts) < 2 or (counts < 2).to_numpy().any():
        raise InputError(
            "the study needs at least two tasks beside rest and two runs, each with two prompts or more of "
            f"every condition; the paradigm has the tasks {tasks}, {len(counts)} runs, and as few as "
            f"{counts.to_numpy().min()} prompts of a condition in a run"
        )
