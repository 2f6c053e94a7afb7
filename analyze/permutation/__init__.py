"""Permutation tests over prompts: what may be exchanged, the studentised statistics, the largest of them."""

from .max_t import permutation_test

__all__ = ["permutation_test"]
