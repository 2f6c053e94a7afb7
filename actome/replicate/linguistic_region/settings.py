"""What a replication of the linguistic regions is asked for."""

from dataclasses import asdict, dataclass
from typing import Any, Final

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
    """What decides the numbers, beside model and texts.

    Attributes
    ----------
    n_controls
        Random regions beside each.
    language
        The condition that is trained on; "" for the one that the model foretells worst.
    steps, learning_rate
        Of the training.
    seed
        Draws the split of the texts, the controls and the batches.
    """

    n_controls: int
    language: str
    steps: int
    learning_rate: float
    seed: int

    @property
    def every(self) -> int:
        """Updates between two evaluations."""
        return max(1, self.steps // EVALUATIONS)

    def kept(self) -> dict[str, Any]:
        """Return them as JSON holds them."""
        return asdict(self)


def check(settings: Settings) -> None:
    """Refuse before any work what would be refused after some.

    Raises
    ------
    InputError
        An option is not allowed.
    """
    for name in ("n_controls", "steps"):
        if getattr(settings, name) < 1:
            raise InputError(f"{name} must be at least 1, got {getattr(settings, name)}")
    if not settings.learning_rate > 0:
        raise InputError(f"learning_rate must be above 0, got {settings.learning_rate}")
    if settings.seed < 0:
        raise InputError(f"seed must be 0 or more, got {settings.seed}")
