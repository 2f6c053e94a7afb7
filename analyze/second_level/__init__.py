"""Contrasts of several runs, paradigms or models put together."""
