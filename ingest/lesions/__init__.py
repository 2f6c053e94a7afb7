"""Lesions: which neurons are changed, what happens to them, and the hooks that do it."""
