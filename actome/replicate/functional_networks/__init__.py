"""arXiv 2502.20408: functional networks by ICA, how often they come back, and what their lesions do."""

from .settings import STUDY
from .study import run

__all__ = ["STUDY", "run"]
