"""How networks vary together within prompts: correlations, their differences between conditions, graphs."""

from .correlations import connectivity
from .differences import connectivity_difference
from .graphs import graph_measures

__all__ = ["connectivity", "connectivity_difference", "graph_measures"]
