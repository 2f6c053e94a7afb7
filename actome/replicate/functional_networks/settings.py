"""What a replication of functional networks is asked for, and the two ways in which it decomposes."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal

import xarray as xr

from ...analyze.fingerprint.signature import with_characters
from ...analyze.threshold import Top, Z
from ...store.arguments import whole_number
from ...store.errors import InputError
from ...store.paradigm import Paradigm
from ...store.schema import SITES

Mode = Literal["practice", "paper"]

STUDY: Final = "arXiv 2502.20408"

NETWORK: Final = Z(3.6)  # of the study's notebooks
JACCARD: Final = 0.2  # above which a template recurs in a sample
NULL: Final = 19  # draws of noise, enough for p = .05
GLM_NETWORK: Final = Top(0.05)  # what a condition changes most, whichever way
PARTS: Final = ("networks", "lesions", "all")


@dataclass(frozen=True)
class Way:
    """How networks are found.

    Attributes
    ----------
    name, title
        Its option, and its name in the report.
    site
        Where the values are.
    all_tokens
        Whether tokens without characters, such as the one that begins a text, take part.
    ica
        "spatial": sources over neurons; "temporal": over tokens, a network being a row of the transposed
        mixing matrix.
    standardize
        Whether neurons get unit variance over tokens.
    n_runs
        Repeats, the first of all samples; one has no stability.
    solver
        Of every ICA: of the group, of its repeats and of single samples.
    null
        Draws of noise that components are compared with; 0 for no comparison.
    """

    name: Mode
    title: str
    site: str
    all_tokens: bool
    ica: Literal["spatial", "temporal"]
    standardize: bool
    n_runs: int
    solver: Literal["quasi-newton", "fastica"]
    null: int

    def tokens_of(self, recording: xr.Dataset) -> xr.Dataset:
        """Leave out the tokens that take no part."""
        return recording if self.all_tokens else with_characters(recording)


@dataclass(frozen=True)
class Settings:
    """What decides the numbers, beside the recordings.

    Attributes
    ----------
    site
        Of good practice; the study's is "mlp_out".
    n_components
        Of each decomposition.
    n_runs
        Repeats of good practice.
    seed
        Draws samples, bootstraps and starts.
    """

    site: str
    n_components: int
    n_runs: int
    seed: int

    def ways(self, first: Mode) -> list[Way]:
        """Return both ways, the one asked for first."""
        practice = Way(
            "practice", "good practice", self.site, False, "spatial", True, self.n_runs, "quasi-newton", NULL
        )
        paper = Way("paper", "to the letter", "mlp_out", True, "temporal", False, 1, "fastica", 0)
        return [practice, paper] if first == "practice" else [paper, practice]

    def kept(self) -> dict[str, Any]:
        """Return them as JSON holds them, and the solvers of both ways: results of others are not taken."""
        return {**asdict(self), "solvers": [way.solver for way in self.ways("practice")]}


def check(settings: Settings, part: str, mode: str, n_samples: int) -> None:
    """Refuse before any work what an analysis would refuse after the recording.

    Raises
    ------
    InputError
        An option is not allowed.
    """
    if part not in PARTS:
        raise InputError(f"part must be one of {list(PARTS)}, got {part!r}")
    if mode not in ("practice", "paper"):
        raise InputError(f"mode must be 'practice' or 'paper', got {mode!r}")
    if settings.site not in SITES:
        raise InputError(f"site must be one of {list(SITES)}, got {settings.site!r}")
    for name in ("n_components", "n_runs"):
        whole_number(getattr(settings, name), name, least=2)
    whole_number(n_samples, "n_samples", least=2)
    whole_number(settings.seed, "seed", least=0)


def check_names(paradigms: Sequence[Paradigm]) -> None:
    """Refuse data sets that could not be told apart, or none."""
    names = [p.name for p in paradigms]
    if not names:
        raise InputError("give at least one paradigm as a data set, or leave it out for those that ship")
    twice = sorted({n for n in names if names.count(n) > 1})
    if twice:
        raise InputError(f"two data sets are called {twice[0]!r}; give their paradigms different names")
