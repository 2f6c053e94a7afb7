"""Queries: what is asked of recordings without going through their cubes."""

from .neurons import firing_neurons, token_neurons, top_tokens
from .slices import slice_catalog

__all__ = ["firing_neurons", "slice_catalog", "token_neurons", "top_tokens"]
