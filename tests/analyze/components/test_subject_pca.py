"""Principal components of rows against the SVD."""

import numpy as np
import pytest
import scipy.linalg

from actome.analyze.components import subject_pca
from actome.analyze.components.subject_pca import inner_products, leading, range_of_rows


def blocks_of(X, width):
    return lambda: ((slice(a, a + width), X[:, a : a + width]) for a in range(0, X.shape[1], width))


@pytest.mark.parametrize("shape", [(7, 30), (30, 7), (1, 5)])
def test_leading__gives_the_squares_of_the_singular_values(shape, rng):
    X = rng.standard_normal(shape)
    U, s, _ = np.linalg.svd(X, full_matrices=False)
    G = inner_products(blocks_of(X, 4))
    for k in (None, 1, 100):
        values, vectors = leading(G, k)
        n = min(shape) if k is None else min(k, *shape)
        np.testing.assert_allclose(values, s[:n] ** 2, rtol=1e-9)
        np.testing.assert_allclose(np.abs(np.sum(vectors * U[:, :n], axis=0)), 1.0, rtol=1e-9)


def test_leading__of_nothing_is_nothing():
    for G in (np.zeros((0, 0)), np.zeros((3, 3))):
        values, vectors = leading(G)
        assert values.shape == (0,) and vectors.shape == (len(G), 0)


@pytest.mark.parametrize("gap", [5, 20, 100])
def test_range_of_rows__holds_the_leading_components(gap, rng):
    left, right = (np.linalg.qr(rng.standard_normal((n, 60)))[0] for n in (300, 500))
    X = left * np.r_[np.linspace(2 * gap, gap, 6), np.full(54, 1.0)] @ right.T
    Q = range_of_rows(blocks_of(X, 64), 6)
    np.testing.assert_allclose(Q.T @ Q, np.eye(Q.shape[1]), atol=1e-12)
    angle = scipy.linalg.subspace_angles(left[:, :6], Q @ np.linalg.svd(Q.T @ X)[0][:, :6]).max()
    assert angle < 10 * gap**-5.0  # two power iterations: the gap to the power 2 * 2 + 1


def test_range_of_rows__does_not_depend_on_the_order_of_the_rows(rng):
    X = rng.standard_normal((80, 200))
    order = rng.permutation(80)
    a, b = (range_of_rows(blocks_of(rows, 50), 5) for rows in (X, X[order]))
    assert scipy.linalg.subspace_angles(a[order], b).max() < 1e-6


@pytest.mark.parametrize(("n_rows", "k", "cheaper"), [(500, 40, False), (1000, 128, False), (5000, 64, True)])
def test_sketch_is_cheaper__for_many_rows_and_few_components(n_rows, k, cheaper):
    assert subject_pca.sketch_is_cheaper(n_rows, k) is cheaper
