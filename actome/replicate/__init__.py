"""Published studies, repeated on any model: recorded, analysed, and set beside what they state."""

import importlib
from dataclasses import dataclass
from typing import Any, Final

from ..store.errors import InputError


@dataclass(frozen=True)
class Study:
    """A study that can be replicated: what it is called, and the module whose `run` does it."""

    title: str
    module: str


STUDIES: Final[dict[str, Study]] = {
    "2311.10898": Study("On Functional Activations in Deep Neural Networks", "block_design"),
}


def replicate(study: str, **options: Any) -> str:
    """Repeat a study on a model; what was done already is used again.

    Parameters
    ----------
    study
        Its number on arXiv: a key of `STUDIES`.
    **options
        ``model``, ``out`` and the options of the study: see `block_design.run`.

    Returns
    -------
    Path of the HTML report.

    Raises
    ------
    InputError
        There is no such study; the study says what else can be wrong.
    """
    if study not in STUDIES:
        known = "; ".join(f"{number} ({s.title})" for number, s in STUDIES.items())
        raise InputError(f"there is no study {study!r} to replicate; those there are: {known}")
    module = importlib.import_module(f".{STUDIES[study].module}", __name__)
    path: str = module.run(**options)
    return path
