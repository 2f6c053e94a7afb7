"""arXiv 2502.20408: functional networks by ICA, and how often they come back in single samples."""

from .study import STUDY, run

__all__ = ["STUDY", "run"]
