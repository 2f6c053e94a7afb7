"""Actome: analyse the activations of language models the way neuroimaging analyses brains."""

import importlib
from typing import TYPE_CHECKING, Any

from ._version import __version__

if TYPE_CHECKING:
    from .analyze.contrasts import compute_contrast
    from .analyze.effects import lesion_effects
    from .analyze.glm import fit_glm
    from .analyze.ica import group_ica
    from .analyze.identification import identify
    from .analyze.networks import networks
    from .analyze.overlap import overlap
    from .analyze.report import report
    from .analyze.threshold import P, Top, Z, threshold
    from .ingest.lesion import lesion
    from .ingest.record import record
    from .ingest.score import score
    from .store.archive import open, save
    from .store.catalog import open_catalog
    from .store.integrity import verify
    from .store.paradigm import Paradigm
    from .store.results import save_result
    from .store.validation import validate

_HOME = {
    "open": "store.archive",
    "save": "store.archive",
    "save_result": "store.results",
    "validate": "store.validation",
    "verify": "store.integrity",
    "open_catalog": "store.catalog",
    "Paradigm": "store.paradigm",
    "record": "ingest.record",
    "lesion": "ingest.lesion",
    "score": "ingest.score",
    "fit_glm": "analyze.glm",
    "compute_contrast": "analyze.contrasts",
    "threshold": "analyze.threshold",
    "P": "analyze.threshold",
    "Z": "analyze.threshold",
    "Top": "analyze.threshold",
    "group_ica": "analyze.ica",
    "networks": "analyze.networks",
    "overlap": "analyze.overlap",
    "identify": "analyze.identification",
    "lesion_effects": "analyze.effects",
    "report": "analyze.report",
}

__all__ = [
    "P",
    "Paradigm",
    "Top",
    "Z",
    "__version__",
    "compute_contrast",
    "fit_glm",
    "group_ica",
    "identify",
    "lesion",
    "lesion_effects",
    "networks",
    "open",
    "open_catalog",
    "overlap",
    "record",
    "report",
    "save",
    "save_result",
    "score",
    "threshold",
    "validate",
    "verify",
]


def __getattr__(name: str) -> Any:
    """Import a public name from its room when it is first used."""
    if name not in _HOME:
        raise AttributeError(f"module 'actome' has no attribute {name!r}")
    value = getattr(importlib.import_module(f".{_HOME[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the public names."""
    return __all__
