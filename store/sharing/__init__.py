"""Sharing: recordings and results leave one archive as a package, and enter another.

A package is a folder, or one ZIP file of it: the entries, ``catalog.yaml``, a card (``README.md``),
Croissant and RO-Crate metadata, ``SHA256SUMS``, the licence and the citation.
"""

from .package import export
from .receive import receive
from .transfer import pull, push

__all__ = ["export", "pull", "push", "receive"]
