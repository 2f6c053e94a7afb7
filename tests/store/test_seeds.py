"""Seeds by name: fixed for good, since recorded numbers hang on them."""

import numpy as np

from actome.store.seeds import seed_of


def test_seed_of__is_the_same_in_every_version():
    assert seed_of(0, "normal", "fr-0001", 2) == 141765868449634996189209791547666404685


def test_seed_of__differs_for_all_that_differs():
    named = [(0, "a"), (1, "a"), (0, "b"), (0, "a", 0), ("0", "a"), (0, "a0"), (0,), ()]
    assert len({seed_of(*parts) for parts in named}) == len(named)
    np.random.default_rng([0, seed_of(0, "a")])
