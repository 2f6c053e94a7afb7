"""Published studies, repeated on any model: recorded, analysed, and set beside what they state."""

import importlib
import inspect
from dataclasses import dataclass
from typing import Any, Final

from ..store.errors import InputError
from .outcome import Outcome


@dataclass(frozen=True)
class Study:
    """A study that can be replicated: what it is called, and the package whose `run` does it."""

    title: str
    package: str


STUDIES: Final[dict[str, Study]] = {
    "2311.10898": Study("On Functional Activations in Deep Neural Networks", "block_design"),
    "2502.20408": Study("Functional Networks and Key Neurons", "functional_networks"),
    "2310.14928": Study("Unveiling A Core Linguistic Region in Large Language Models", "linguistic_region"),
}


def replicate(study: str, **options: Any) -> str:
    """Repeat a study on a model; what was done already is used again.

    Parameters
    ----------
    study
        Its number on arXiv: a key of `STUDIES`.
    **options
        ``model``, ``out`` and the options of the study: see `block_design.run`,
        `functional_networks.run` and `linguistic_region.run`.

    Returns
    -------
    Path of the HTML report.

    Raises
    ------
    InputError
        There is no such study, or it has no such option; the study says what else can be wrong.
    """
    return run(study, **options).report


def run(study: str, **options: Any) -> Outcome:
    """Do as `replicate`, and return the statements with their verdicts beside the path."""
    repeat = importlib.import_module(f".{check_study(study).package}", __name__).run
    known_options = list(inspect.signature(repeat).parameters)
    unknown = [name for name in options if name not in known_options]
    if unknown:
        raise InputError(f"study {study} has no option {unknown[0]!r}; it has {known_options}")
    outcome: Outcome = repeat(**options)
    return outcome


def check_study(study: str) -> Study:
    """Return the study of that number, or refuse."""
    if study not in STUDIES:
        known = "; ".join(f"{number} ({s.title})" for number, s in STUDIES.items())
        raise InputError(f"there is no study {study!r} to replicate; those there are: {known}")
    return STUDIES[study]
