"""The study's lesions: what removing, keeping and amplifying networks does to a model."""

from .settings import LesionSettings, check_lesions, components_kept
from .steps import lesion_results

__all__ = ["LesionSettings", "check_lesions", "components_kept", "lesion_results"]
