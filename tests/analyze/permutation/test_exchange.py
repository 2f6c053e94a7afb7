from itertools import permutations

import numpy as np
import pytest

from actome.analyze.permutation.exchange import exchange_labels, exchange_signs
from actome.store.errors import ActomeError


@pytest.fixture
def design(rng):
    """Three conditions in two runs: X (prompt, regressor), tokens, and the prompts of each run."""
    code, run = np.tile([0, 1, 2], 8), np.repeat([0, 1], 12)
    X = np.column_stack([np.eye(3)[code], np.where(run == 0, 1.0, -1.0)])
    return X, rng.integers(1, 9, 24).astype(float), [np.flatnonzero(run == r) for r in (0, 1)]


OWN = np.array([True, True, True, False])
CONTRAST = np.array([1.0, -0.5, -0.5, 0.0])


def labels_of(design, n=50, weights=CONTRAST, own=OWN, cells=None, seed=0):
    X, count, runs = design
    rng = np.random.default_rng(seed)
    return exchange_labels(X, count, weights, own=own, cells=runs if cells is None else cells, n=n, rng=rng)


def permuted_design(exchange, X, i):
    """The whole design in one permutation: what is kept, and the rows that the labels then have."""
    first = {int(code): X[np.flatnonzero(exchange.codes[0] == code)[0], :3] for code in exchange.codes[0]}
    return np.column_stack([[first[int(c)] for c in exchange.codes[i]], X[:, 3]])


def test_exchange_labels__each_draw_is_the_regression_of_the_permuted_design(design, rng):
    X, count, _ = design
    exchange = labels_of(design)
    y = rng.standard_normal(24) + 300.0
    draws = exchange.draws(slice(0, 51))
    freed = exchange.root * y - exchange.nuisance @ (exchange.nuisance.T @ (exchange.root * y))
    for i in range(51):
        root = np.sqrt(count)
        permuted = permuted_design(exchange, X, i)
        beta = np.linalg.lstsq(root[:, None] * permuted, root * y, rcond=None)[0]
        delta = draws.basis[i].T @ freed
        np.testing.assert_allclose(draws.weights[i] @ delta, CONTRAST @ beta, rtol=1e-9)
        np.testing.assert_allclose(freed - draws.basis[i] @ delta, root * (y - permuted @ beta), atol=1e-11)
        np.testing.assert_allclose(draws.basis[i].T @ draws.basis[i], np.eye(2), atol=1e-13)


def test_exchange_labels__stay_within_cells_and_keep_their_numbers(design):
    _, _, runs = design
    cells = [runs[0], runs[1][:5]]
    codes = labels_of(design, n=200, cells=cells).codes
    assert len(np.unique(codes, axis=0)) > 190
    for cell in cells:
        assert (np.sort(codes[:, cell], axis=1) == np.sort(codes[0, cell])).all()
        assert (codes[:, cell] != codes[0, cell]).any(axis=0).all()
    assert (codes[:, runs[1][5:]] == codes[0, runs[1][5:]]).all()


def test_exchange_labels__are_drawn_evenly(design):
    cells = [design[2][0][:3]]  # three labels, 6 orders
    codes = labels_of(design, n=4, cells=cells).codes[1:]
    assert len(codes) == 4
    many = [labels_of(design, n=4, cells=cells, seed=seed).codes[1:, :3] for seed in range(300)]
    _, counts = np.unique(np.concatenate(many), axis=0, return_counts=True)
    assert len(counts) == 6 and abs(counts - 200).max() < 5 * np.sqrt(200 * 5 / 6)


@pytest.mark.parametrize("sizes", [(2, 2), (3, 1), (1, 4, 1), (4,)])
def test_exchange_labels__are_each_taken_once_where_they_are_few(sizes):
    code = np.concatenate([np.repeat(np.arange(len(sizes)), sizes), [0, 1]])
    X = np.eye(3)[code]
    cells = [np.arange(sum(sizes)), np.arange(sum(sizes), len(code))]
    expected = {(*a, *b) for a in permutations(code[cells[0]]) for b in permutations(code[cells[1]])}
    exchange = exchange_labels(
        X[:, : max(code) + 1], np.ones(len(code)), np.array([1.0, -1.0, 0.0])[: max(code) + 1],
        own=np.ones(max(code) + 1, dtype=bool), cells=cells, n=1000, rng=np.random.default_rng(0),
    )  # fmt: skip
    # numbers of the rows follow their values, which fall with the code
    found = [tuple(max(code) - row) for row in exchange.codes]
    assert set(found) == expected and len(found) == len(expected) == exchange.n_distinct
    assert found[0] == tuple(code)


def test_exchange_labels__refuses_permutations_that_a_confound_explains(rng):
    code = np.repeat([0, 1], 4)
    age = np.array([0.0, 0, 0, 1, 1, 1, 1, 0])  # a permutation of the labels
    X = np.column_stack([np.eye(2)[code], age])
    with pytest.raises(ValueError, match="cannot be told from a confound") as caught:
        exchange_labels(
            X, np.ones(8), np.array([1.0, -1.0, 0.0]),
            own=np.array([True, True, False]), cells=[np.arange(8)], n=1000, rng=rng,
        )  # fmt: skip
    assert isinstance(caught.value, ActomeError)


def test_exchange_signs__are_balanced_and_belong_to_prompts(design, rng):
    X, count, _ = design
    order = rng.permutation(24)
    a = exchange_signs(X, count, CONTRAST, order=np.arange(24), n=2000, rng=np.random.default_rng(1))
    b = exchange_signs(
        X[order], count[order], CONTRAST, order=np.argsort(order), n=2000, rng=np.random.default_rng(1)
    )
    assert (a.signs[:, order] == b.signs).all() and (a.signs[0] == 1).all() and len(a) == 2000
    assert set(np.unique(a.signs)) == {-1, 1} and abs(a.signs[1:].mean(axis=0)).max() < 5 / np.sqrt(2000)
    assert a.n_distinct == 2**24


def test_exchange_signs__nuisance_is_the_design_without_the_contrast(design, rng):
    X, count, _ = design
    exchange = exchange_signs(X, count, CONTRAST, order=np.arange(24), n=5, rng=rng)
    root = np.sqrt(count)
    beta = rng.standard_normal(4)
    beta -= CONTRAST * (CONTRAST @ beta) / (CONTRAST @ CONTRAST)
    y = root * (X @ beta)
    np.testing.assert_allclose(exchange.nuisance @ (exchange.nuisance.T @ y), y, atol=1e-12)
    assert exchange.nuisance.shape == (24, 3)
