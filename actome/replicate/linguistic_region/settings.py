"""What a replication of the linguistic regions is asked for."""

from dataclasses import asdict, dataclass
from typing import Any, Final

from ...store.arguments import real_number, whole_number
from ...store.errors import InputError

SHARES: Final = (0.01, 0.03, 0.05)  # of every weight matrix, as in the study
MONOLINGUAL: Final = 0.05  # the study's is 0.01
LINES: Final = 0.05  # share of rows or columns that concentration looks at
FACTORS: Final = (0.0, 4.0, 10.0)
PLACES: Final = 3  # single parameters, rows, columns; as many random ones
BATCH: Final = 8
EVALUATIONS: Final = 4  # on the way through the training


@dataclass(frozen=True)
class Settings:
    """What decides the numbers, beside model and texts: options of `run`; no `language` is ""."""

    n_controls: int
    language: str
    steps: int
    learning_rate: float
    seed: int

    @property
    def every(self) -> int:
        """Updates between two evaluations."""
        return max(1, self.steps // EVALUATIONS)

    def of_regions(self) -> dict[str, Any]:
        """Return those that decide the effects of regions, before any training."""
        return {"n_controls": self.n_controls, "seed": self.seed}

    def kept(self) -> dict[str, Any]:
        """Return all, as JSON holds them."""
        return asdict(self)


def check(settings: Settings) -> None:
    """Refuse before any work what would be refused after some.

    Raises
    ------
    InputError, InputTypeError
        An option is not allowed.
    """
    for name, least in (("n_controls", 1), ("steps", 1), ("seed", 0)):
        whole_number(getattr(settings, name), name, least=least)
    if not 0 < real_number(settings.learning_rate, "learning_rate") < float("inf"):
        raise InputError(f"learning_rate must be above 0 and finite, got {settings.learning_rate}")
