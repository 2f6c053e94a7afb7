"""Fingerprints: whether two models' networks take the same course over the same texts."""

from .compare import fingerprint
from .signature import signature

__all__ = ["fingerprint", "signature"]
