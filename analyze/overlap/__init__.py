"""Overlap of networks: measures with their nulls, counts, and matching one to one."""

from .matching import match_networks
from .measures import network_counts, overlap

__all__ = ["match_networks", "network_counts", "overlap"]
