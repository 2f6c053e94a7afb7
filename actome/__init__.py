"""Actome: analyse the activations of language models the way neuroimaging analyses brains."""

import importlib
from typing import TYPE_CHECKING, Any

from ._version import __version__

if TYPE_CHECKING:
    from .analyze.components.decompose import decompose
    from .analyze.components.descriptions import describe_networks
    from .analyze.components.ica import group_ica
    from .analyze.components.labelling import label_components
    from .analyze.components.map_thresholds import Mixture, OfMaximum
    from .analyze.components.networks import networks
    from .analyze.connectivity import connectivity, connectivity_difference, graph_measures
    from .analyze.contrasts import compute_contrast
    from .analyze.crossfit import cross_fit, fold_network
    from .analyze.design import design_matrix
    from .analyze.fingerprint import fingerprint
    from .analyze.fingerprint.signature import signature
    from .analyze.glm import fit_glm
    from .analyze.overlap import match_networks, network_counts, overlap
    from .analyze.permutation import permutation_test
    from .analyze.perturbation.doses import amplification, dose_response
    from .analyze.perturbation.effects import lesion_effects
    from .analyze.perturbation.preservation import preservation
    from .analyze.perturbation.series import top_fractions, unions
    from .analyze.regions.concentration import concentration
    from .analyze.regions.effects import forgetting, region_effects, sweep_effects
    from .analyze.regions.places import top_places
    from .analyze.regions.selection import region
    from .analyze.regions.sets import by_matrix, join_regions, region_overlap
    from .analyze.reliability.identification import identify
    from .analyze.reliability.repeatability import repeatability
    from .analyze.report import report
    from .analyze.second_level.combine import combine
    from .analyze.second_level.conjunction import conjunction
    from .analyze.selectivity import selective_neurons, similar_neurons
    from .analyze.subjects import individual_components, network_time_courses
    from .analyze.subjects.dual_regression import dual_regression
    from .analyze.subjects.recurrence import recurrence
    from .analyze.threshold import P, Top, Z, threshold
    from .analyze.time_course import time_course
    from .analyze.true_discoveries import true_discoveries
    from .ingest.importance import importance
    from .ingest.lesion import lesion
    from .ingest.pruning.comparison import compare_pruned
    from .ingest.pruning.pruned import prune
    from .ingest.recompute import recompute
    from .ingest.record import record
    from .ingest.regions.lesions import region_lesion
    from .ingest.regions.scores import score_regions
    from .ingest.regions.sweep import sweep
    from .ingest.regions.training import train_frozen
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
    "importance": "ingest.importance",
    "region_lesion": "ingest.regions.lesions",
    "score_regions": "ingest.regions.scores",
    "sweep": "ingest.regions.sweep",
    "train_frozen": "ingest.regions.training",
    "region": "analyze.regions.selection",
    "join_regions": "analyze.regions.sets",
    "by_matrix": "analyze.regions.sets",
    "region_overlap": "analyze.regions.sets",
    "concentration": "analyze.regions.concentration",
    "top_places": "analyze.regions.places",
    "region_effects": "analyze.regions.effects",
    "sweep_effects": "analyze.regions.effects",
    "forgetting": "analyze.regions.effects",
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
    "decompose": "analyze.components.decompose",
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
    "OfMaximum": "analyze.components.map_thresholds",
    "Mixture": "analyze.components.map_thresholds",
    "describe_networks": "analyze.components.descriptions",
    "label_components": "analyze.components.labelling",
    "dual_regression": "analyze.subjects.dual_regression",
    "individual_components": "analyze.subjects",
    "network_time_courses": "analyze.subjects",
    "recurrence": "analyze.subjects.recurrence",
    "connectivity": "analyze.connectivity",
    "connectivity_difference": "analyze.connectivity",
    "graph_measures": "analyze.connectivity",
    "prune": "ingest.pruning.pruned",
    "compare_pruned": "ingest.pruning.comparison",
    "dose_response": "analyze.perturbation.doses",
    "amplification": "analyze.perturbation.doses",
    "preservation": "analyze.perturbation.preservation",
    "unions": "analyze.perturbation.series",
    "top_fractions": "analyze.perturbation.series",
    "fingerprint": "analyze.fingerprint",
    "signature": "analyze.fingerprint.signature",
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
    "Mixture",
    "OfMaximum",
    "P",
    "Paradigm",
    "Top",
    "Z",
    "__version__",
    "amplification",
    "append",
    "build_index",
    "by_matrix",
    "cast",
    "combine",
    "commit",
    "compare",
    "compare_pruned",
    "compute_contrast",
    "concentration",
    "conjunction",
    "connectivity",
    "connectivity_difference",
    "cross_fit",
    "decompose",
    "describe_networks",
    "design_matrix",
    "dose_response",
    "dual_regression",
    "export",
    "fingerprint",
    "firing_neurons",
    "fit_glm",
    "fold_network",
    "forgetting",
    "gc",
    "graph_measures",
    "group_ica",
    "identify",
    "importance",
    "individual_components",
    "join_regions",
    "label_components",
    "lesion",
    "lesion_effects",
    "log",
    "match_networks",
    "merge",
    "network_counts",
    "network_time_courses",
    "networks",
    "open",
    "open_catalog",
    "overlap",
    "permutation_test",
    "preservation",
    "prune",
    "pull",
    "push",
    "receive",
    "rechunk",
    "recompute",
    "record",
    "recurrence",
    "region",
    "region_effects",
    "region_lesion",
    "region_overlap",
    "remove",
    "repeatability",
    "report",
    "save",
    "save_result",
    "score",
    "score_regions",
    "selective_neurons",
    "signature",
    "similar_neurons",
    "slice_catalog",
    "sql",
    "sweep",
    "sweep_effects",
    "tag",
    "threshold",
    "time_course",
    "token_neurons",
    "top_fractions",
    "top_places",
    "top_tokens",
    "train_frozen",
    "true_discoveries",
    "unions",
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
