"""Rotations against scikit-learn, Picard and the truth."""

import importlib.util
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from sklearn.decomposition import FastICA

from actome.analyze.components.quasi_newton import quasi_newton
from actome.analyze.components.solvers import check_solver, orthogonal, rotate
from actome.store.errors import ActomeError, MissingDependencyError

SOLVERS = ["quasi-newton", "fastica", "picard"]
needs_picard = pytest.mark.skipif(not importlib.util.find_spec("picard"), reason="python-picard is optional")


def white(S, rng):
    X = rng.standard_normal((len(S), len(S))) @ S
    X = X - X.mean(axis=1, keepdims=True)
    values, U = np.linalg.eigh(X @ X.T / X.shape[1])
    return (U / np.sqrt(values)).T @ X


@pytest.fixture
def sources(rng):
    """Sparse, heavy-tailed and, with lighter tails than the Gaussian, uniform and binary ones."""
    sparse = rng.standard_normal((3, 8000)) * (rng.random((3, 8000)) < 0.1)
    return np.concatenate(
        [
            sparse,
            rng.laplace(size=(1, 8000)),
            rng.uniform(-1, 1, (1, 8000)),
            rng.choice([-1.0, 1.0], (1, 8000)),
        ]
    )


def recovery(W, X, S):
    return np.abs(np.corrcoef(W @ X, S)[: len(W), len(W) :]).max(axis=0)


@pytest.mark.parametrize("solver", ["quasi-newton", "fastica", pytest.param("picard", marks=needs_picard)])
def test_rotate__finds_the_sources(solver, sources, rng):
    X = white(sources, rng)
    found = rotate(X, rng.standard_normal((6, 6)), solver)
    assert found.converged and found.n_iterations > 0
    assert recovery(found.W, X, sources).min() > 0.995
    np.testing.assert_allclose(found.W @ found.W.T, np.eye(6), atol=1e-10)


def test_quasi_newton__stops_where_fastica_does(sources, rng):
    X = white(sources, rng)
    theirs = FastICA(whiten=False, tol=1e-12, max_iter=2000, random_state=0).fit(X.T).components_
    ours, converged, _ = quasi_newton(X, orthogonal(rng.standard_normal((6, 6))))
    assert converged
    assert np.abs(ours @ theirs.T).max(axis=1).min() > 1 - 1e-9


def test_quasi_newton__converges_where_there_is_nothing_to_find(rng):
    X = white(rng.standard_normal((12, 5000)), rng)
    W, converged, n = quasi_newton(X, np.eye(12))
    assert converged and n < 200
    with pytest.warns(Warning, match="did not converge"):
        FastICA(whiten=False, max_iter=n, random_state=0).fit(X.T)
    Y = W @ X  # stationary: the scores of two components say the same of each other
    G = np.tanh(Y) @ Y.T / X.shape[1]
    sign = np.where(1 - np.mean(np.tanh(Y) ** 2, axis=1) < np.diag(G), -1, 1)
    assert np.abs(sign[:, None] * G - (sign[:, None] * G).T).max() < 1e-5


def test_quasi_newton__does_not_depend_on_how_the_signals_are_turned(sources, rng):
    X, Q, start = white(sources, rng), orthogonal(rng.standard_normal((6, 6))), rng.standard_normal((6, 6))
    a = rotate(X, start, "quasi-newton").W @ X
    b = rotate(Q @ X, start @ Q.T, "quasi-newton").W @ (Q @ X)
    np.testing.assert_allclose(a, b, atol=1e-5)


def test_rotate__reports_what_did_not_converge(monkeypatch, rng):
    X = white(rng.standard_normal((8, 500)), rng)
    for module in ("quasi_newton", "solvers"):
        monkeypatch.setattr(f"actome.analyze.components.{module}._MAX_ITER", 2)
    for solver in ("quasi-newton", "fastica"):
        found = rotate(X, rng.standard_normal((8, 8)), solver)
        assert (found.converged, found.n_iterations) == (False, 2)


@pytest.mark.parametrize("solver", ["fastica", pytest.param("picard", marks=needs_picard)])
def test_rotate__knows_in_every_thread_what_did_not_converge(solver, monkeypatch, rng):
    monkeypatch.setattr("actome.analyze.components.solvers._MAX_ITER", 2)
    X, starts = white(rng.standard_normal((8, 500)), rng), rng.standard_normal((24, 8, 8))
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda start: rotate(X, start, solver), starts))
    assert not any(f.converged for f in found)


def test_check_solver__refuses_an_unknown_one():
    with pytest.raises(
        ValueError, match="solver must be one of quasi-newton, fastica, picard, got 'jade'"
    ) as e:
        check_solver("jade")
    assert isinstance(e.value, ActomeError)


def test_check_solver__names_the_package_that_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "picard", None)
    with pytest.raises(MissingDependencyError, match="needs the package python-picard"):
        check_solver("picard")
