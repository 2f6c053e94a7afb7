"""What the lesions are asked for."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from ....analyze.threshold import Top
from ....store.arguments import whole_number
from ....store.errors import InputError
from ..settings import Settings

TOGETHER, AT_RANDOM = "all networks", "random 15 %"  # beside the single networks
COMPONENTS: Final = (32, 64, 128)  # of the curve of preservation; the study's go up to 512
RANDOM_SHARE: Final = 0.15  # of the neurons, as in the study
FRACTIONS: Final = (0.05, 0.15, 0.5)  # of the neurons, of the curve of good practice
GAINS: Final = (1.0, 2.0, 4.0)  # added, in units of the mean magnitude of an activation
CONDITION_NETWORK: Final = Top(0.01)  # of a condition's contrast, so that all are of one size
FEWEST: Final = 3  # prompts of a condition that has a network of its own, of each half of the samples


@dataclass(frozen=True)
class LesionSettings:
    """How many lesions are run, on how many texts: options of `run`, the last as `kept_components`."""

    n_controls: int
    n_scored: int
    components: tuple[int, ...]

    def kept(self, settings: Settings) -> dict[str, Any]:
        """Return these and the settings of the networks, as JSON holds them."""
        return {**settings.kept(), **asdict(self), "components": list(self.components)}


def components_kept(asked: Sequence[int] | None, n_components: int) -> tuple[int, ...]:
    """Return the numbers of components asked for, or those of the default above that of the templates."""
    return tuple(k for k in COMPONENTS if k > n_components) if asked is None else tuple(asked)


def check_lesions(asked: LesionSettings, settings: Settings) -> None:
    """Refuse before any work what cannot be judged.

    Raises
    ------
    InputError
        There is no control, there are fewer than two texts, or the numbers of components do not rise.
    """
    for name, least in (("n_controls", 1), ("n_scored", 2)):
        whole_number(getattr(asked, name), name, least=least)
    counts = [settings.n_components, *asked.components]
    if counts != sorted(set(counts)):
        raise InputError(f"kept_components must rise, from above n_components on, got {counts[1:]}")
