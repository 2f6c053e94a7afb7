"""arXiv 2310.14928: the parameters that all languages rest on, and those of each language alone."""

from .study import STUDY, run

__all__ = ["STUDY", "run"]
