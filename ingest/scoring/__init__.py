"""Scoring under lesions: which are run, how they are run fast, and how scores get into the archive."""
