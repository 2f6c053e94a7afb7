"""What the lesions are asked for."""

from dataclasses import asdict, dataclass
from typing import Any, Final

from ....analyze.threshold import Top
from ....store.errors import InputError
from ..settings import Settings

TOGETHER, AT_RANDOM = "all networks", "random 15 %"  # beside the single networks
RANDOM_SHARE: Final = 0.15  # of the neurons, as in the study
FRACTIONS: Final = (0.05, 0.15, 0.5)  # of the neurons, of the curve of good practice
GAINS: Final = (1.0, 2.0, 4.0)  # added, in units of the mean magnitude of an activation
CONDITION_NETWORK: Final = Top(0.01)  # of a condition's contrast, so that all are of one size
FEWEST: Final = 3  # prompts of a condition that has a network of its own, of each half of the samples


@dataclass(frozen=True)
class LesionSettings:
    """How many lesions are run, on how many texts.

    Attributes
    ----------
    n_controls
        Matched random controls of every network.
    n_scored
        Texts of each data set that are scored, none of which selected a network.
    components
        Of the decompositions, beside the templates, whose networks are kept to the letter, rising.
    """

    n_controls: int
    n_scored: int
    components: tuple[int, ...]

    def kept(self, settings: Settings) -> dict[str, Any]:
        """Return these and the settings of the networks, as JSON holds them."""
        return {**settings.kept(), **asdict(self), "components": list(self.components)}


def check_lesions(asked: LesionSettings, settings: Settings) -> None:
    """Refuse before any work what cannot be judged.

    Raises
    ------
    InputError
        There is no control, there are fewer than two texts, or the numbers of components do not rise.
    """
    for name, least in (("n_controls", 1), ("n_scored", 2)):
        value = getattr(asked, name)
        if value < least:
            raise InputError(f"{name} must be at least {least}, got {value}")
    counts = [settings.n_components, *asked.components]
    if counts != sorted(set(counts)):
        raise InputError(f"kept_components must rise, from above n_components on, got {counts[1:]}")
