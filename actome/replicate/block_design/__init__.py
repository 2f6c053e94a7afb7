"""arXiv 2311.10898: a block design of tasks, a linear model of each output value, and the tasks' networks."""

from .study import STUDY, run

__all__ = ["STUDY", "run"]
