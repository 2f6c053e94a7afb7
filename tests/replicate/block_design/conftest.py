"""A paradigm with rest for the phantom model, whose networks are known."""

import numpy as np
import pytest

from actome.ingest.phantom import phantom_model
from actome.store.paradigm import Paradigm
from actome.store.paradigm.design import Design

N_WORDS = 12


@pytest.fixture(scope="session")
def phantom():
    return phantom_model(n_words=N_WORDS)


@pytest.fixture(scope="session")
def rows():
    """Words of language a, of language b, and at rest of both, every other prompt ending in a."""
    rng = np.random.default_rng(0)

    def words(language, n):
        return [f"{language}{i}" for i in rng.integers(N_WORDS, size=n)]

    tasks = [{"text": " ".join(words(c, 4)), "condition": c} for c in "ab" for _ in range(18)]
    ends = ["ab", "ba"] * 18
    rest = [{"text": " ".join(words(e[0], 2) + words(e[1], 2)), "condition": "both"} for e in ends]
    return tasks + rest


@pytest.fixture(scope="session")
def paradigm(rows):
    design = Design(pattern=("rest", "task", "rest"), per_block=6, rest_per_block=3, runs=3, rest="both")
    return Paradigm(rows, name="words", design=design)
