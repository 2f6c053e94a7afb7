"""Actome: analyse the activations of language models the way neuroimaging analyses brains."""

import importlib
from typing import TYPE_CHECKING, Any

from ._version import __version__

if TYPE_CHECKING:
    from .analyze.components.ica import group_ica
    from .analyze.components.networks import networks
    from .analyze.contrasts import compute_contrast
    from .analyze.crossfit import cross_fit, fold_network
    from .analyze.design import design_matrix
    from .analyze.glm import fit_glm
    from .analyze.overlap import match_networks, network_counts, overlap
    from .analyze.permutation import permutation_test
    from .analyze.perturbation.effects import lesion_effects
    from .analyze.reliability.identification import identify
    from .analyze.reliability.repeatability import repeatability
    from .analyze.report import report
    from .analyze.second_level.combine import combine
    from .analyze.second_level.conjunction import conjunction
    from .analyze.selectivity import selective_neurons, similar_neurons
    from .analyze.threshold import P, Top, Z, threshold
    from .analyze.time_course import time_course
    from .analyze.true_discoveries import true_discoveries
    from .ingest.lesion import lesion
    from .ingest.recompute import recompute
    from .ingest.record import record
    from .ingest.score import score
    from .store.archive import open, save
    from .store.catalog import open_catalog
    from .store.housekeeping import append, cast, gc, merge, rechunk, remove
    from .store.index.build import build_index
    from .store.integrity import compare, verify
    from .store.paradigm import Paradigm
    from .store.queries import firing_neurons, slice_catalog, token_neurons, top_tokens
    from .store.queries.sql import sql
    from .store.results import save_result
    from .store.sharing import export, pull, push, receive
    from .store.validation import validate
    from .store.versions import commit, log, tag

_HOME = {
    "open": "store.archive",
    "save": "store.archive",
    "save_result": "store.results",
    "validate": "store.validation",
    "verify": "store.integrity",
    "open_catalog": "store.catalog",
    "Paradigm": "store.paradigm",
    "record": "ingest.record",
    "recompute": "ingest.recompute",
    "lesion": "ingest.lesion",
    "score": "ingest.score",
    "fit_glm": "analyze.glm",
    "compute_contrast": "analyze.contrasts",
    "threshold": "analyze.threshold",
    "P": "analyze.threshold",
    "Z": "analyze.threshold",
    "Top": "analyze.threshold",
    "group_ica": "analyze.components.ica",
    "networks": "analyze.components.networks",
    "overlap": "analyze.overlap",
    "identify": "analyze.reliability.identification",
    "lesion_effects": "analyze.perturbation.effects",
    "repeatability": "analyze.reliability.repeatability",
    "match_networks": "analyze.overlap",
    "network_counts": "analyze.overlap",
    "design_matrix": "analyze.design",
    "permutation_test": "analyze.permutation",
    "combine": "analyze.second_level.combine",
    "conjunction": "analyze.second_level.conjunction",
    "true_discoveries": "analyze.true_discoveries",
    "cross_fit": "analyze.crossfit",
    "fold_network": "analyze.crossfit",
    "time_course": "analyze.time_course",
    "report": "analyze.report",
    "selective_neurons": "analyze.selectivity",
    "similar_neurons": "analyze.selectivity",
    "top_tokens": "store.queries",
    "firing_neurons": "store.queries",
    "token_neurons": "store.queries",
    "slice_catalog": "store.queries",
    "sql": "store.queries.sql",
    "build_index": "store.index.build",
    "append": "store.housekeeping",
    "merge": "store.housekeeping",
    "rechunk": "store.housekeeping",
    "cast": "store.housekeeping",
    "remove": "store.housekeeping",
    "gc": "store.housekeeping",
    "export": "store.sharing",
    "receive": "store.sharing",
    "push": "store.sharing",
    "pull": "store.sharing",
    "compare": "store.integrity",
    "commit": "store.versions",
    "log": "store.versions",
    "tag": "store.versions",
}

__all__ = [
    "P",
    "Paradigm",
    "Top",
    "Z",
    "__version__",
    "append",
    "build_index",
    "cast",
    "combine",
    "commit",
    "compare",
    "compute_contrast",
    "conjunction",
    "cross_fit",
    "design_matrix",
    "export",
    "firing_neurons",
    "fit_glm",
    "fold_network",
    "gc",
    "group_ica",
    "identify",
    "lesion",
    "lesion_effects",
    "log",
    "match_networks",
    "merge",
    "network_counts",
    "networks",
    "open",
    "open_catalog",
    "overlap",
    "permutation_test",
    "pull",
    "push",
    "receive",
    "rechunk",
    "recompute",
    "record",
    "remove",
    "repeatability",
    "report",
    "save",
    "save_result",
    "score",
    "selective_neurons",
    "similar_neurons",
    "slice_catalog",
    "sql",
    "tag",
    "threshold",
    "time_course",
    "token_neurons",
    "top_tokens",
    "true_discoveries",
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
