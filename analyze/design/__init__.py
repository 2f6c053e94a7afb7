"""The design matrix: from a formula over labels and tokens to one labelled column a regressor."""

from .matrix import design_matrix
from .variables import prompt_labels

__all__ = ["design_matrix", "prompt_labels"]
