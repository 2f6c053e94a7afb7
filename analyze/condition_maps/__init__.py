"""Maps of t of the conditions, from one fold of the prompts or from all but one, under many labellings.

The prompts' means of all neurons seldom fit in memory. They come a block of neurons at a time
(`means`), a block is summed by fold and condition (`sums`), every map follows from these sums, so that
thousands of labellings (`labelling`) cost little more than one; and of each map only what may be in its
network is held (`networks`).
"""

from .labelling import Labels, draws_at_once, read_labels
from .means import PromptMeans
from .networks import Network, Rule, StreamedNetworks
from .sums import FoldSums, against_the_others

__all__ = [
    "FoldSums",
    "Labels",
    "Network",
    "PromptMeans",
    "Rule",
    "StreamedNetworks",
    "against_the_others",
    "draws_at_once",
    "read_labels",
]
