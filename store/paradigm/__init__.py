"""Paradigms: which prompts are shown, with which labels, in which order."""

from .paradigm import SHIPPED, Paradigm, as_paradigm

__all__ = ["SHIPPED", "Paradigm", "as_paradigm"]
