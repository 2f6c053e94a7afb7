"""Cross-fitting: what selects a network never estimates it."""

from .fits import cross_fit, fold_network

__all__ = ["cross_fit", "fold_network"]
