"""Imports: activations made elsewhere become recordings. One file a format; nothing is ever unpickled."""

from .from_numpy import import_numpy
from .from_saelens import import_saelens
from .from_vllm import import_vllm

__all__ = ["import_numpy", "import_saelens", "import_vllm"]
