"""Counts of random samples: the multivariate hypergeometric distribution, of populations of any size."""

import math

import numpy as np
import pytest
import scipy.stats

from actome.analyze.regions.counts import random_counts


def probabilities(sizes, n):
    """Every possible outcome and its probability, by counting."""
    total = math.comb(sum(sizes), n)
    places = [np.arange(s + 1) for s in sizes]
    every = np.stack(np.meshgrid(*places, indexing="ij"), axis=-1).reshape(-1, len(sizes))
    every = every[every.sum(axis=1) == n]
    weights = [math.prod(math.comb(s, int(k)) for s, k in zip(sizes, row, strict=True)) for row in every]
    return every, np.array(weights) / total


@pytest.mark.parametrize(("sizes", "n"), [((3, 4, 2), 4), ((5, 1, 3), 8), ((2, 2), 1), ((6, 0, 6), 5)])
def test_random_counts__have_the_probabilities_of_counting(sizes, n):
    drawn = random_counts(sizes, n, np.random.default_rng(1), 20_000)
    every, p = probabilities(sizes, n)
    seen = np.array([(drawn == row).all(axis=1).sum() for row in every])
    assert seen.sum() == len(drawn)
    assert scipy.stats.chisquare(seen, p * len(drawn)).pvalue > 1e-3


def test_random_counts__are_distributed_as_numpys():
    sizes, n, draws = [400, 1000, 90, 7], 300, 4000
    ours = random_counts(sizes, n, np.random.default_rng(2), draws)
    theirs = np.random.default_rng(3).multivariate_hypergeometric(sizes, n, size=draws)
    for group in range(len(sizes)):
        low = min(ours[:, group].min(), theirs[:, group].min())
        table = np.stack([np.bincount(of[:, group] - low, minlength=500) for of in (ours, theirs)])
        table = np.add.reduceat(table, np.arange(0, table.shape[1], 5), axis=1)
        table = table[:, table.sum(axis=0) >= 10]
        assert scipy.stats.chi2_contingency(table).pvalue > 1e-3


def test_random_counts__beyond_a_billion_members():
    sizes, n, draws = np.array([3 * 10**9, 10**9, 5 * 10**9, 10**3]), 10**7, 3000
    drawn = random_counts(sizes, n, np.random.default_rng(4), draws)
    assert (drawn.sum(axis=1) == n).all() and (drawn >= 0).all() and (drawn <= sizes).all()
    share = sizes / sizes.sum()
    spread = np.sqrt(n * share * (1 - share) * (sizes.sum() - n) / (sizes.sum() - 1))
    z = (drawn - n * share) / spread
    assert (abs(z.mean(axis=0)) < 4 / np.sqrt(draws)).all()
    np.testing.assert_allclose(z.std(axis=0)[:3], 1, rtol=4 / np.sqrt(2 * draws))
    assert scipy.stats.kstest(z[:, 0], "norm").pvalue > 1e-3


def test_random_counts__nothing_all_and_the_same_seed():
    sizes = [5, 0, 3]
    assert random_counts(sizes, 0, np.random.default_rng(0), 2).tolist() == [[0, 0, 0]] * 2
    assert random_counts(sizes, 8, np.random.default_rng(0)).tolist() == [sizes]
    assert random_counts([0, 0], 0, np.random.default_rng(0)).tolist() == [[0, 0]]
    one, again = (random_counts([90, 80], 50, np.random.default_rng(7), 9) for _ in range(2))
    np.testing.assert_array_equal(one, again)
