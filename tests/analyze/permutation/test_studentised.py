import numpy as np
import pytest

from actome.analyze.permutation.exchange import exchange_labels, exchange_signs
from actome.analyze.permutation.studentised import freed, studentised

CONTRAST = np.array([1.0, -1.0, 0.0])


def designs(scheme, n_prompts=30, n=60):
    rng = np.random.default_rng(5)
    code = np.arange(n_prompts) % 3
    X, count = np.eye(3)[code], rng.integers(1, 9, n_prompts).astype(float)
    if scheme == "signs":
        return X, exchange_signs(X, count, CONTRAST, order=np.arange(n_prompts), n=n, rng=rng)
    own, cells = np.ones(3, dtype=bool), [np.arange(n_prompts)]
    return X, exchange_labels(X, count, CONTRAST, own=own, cells=cells, n=n, rng=rng)


def one_by_one(X, exchange, y, i):
    """Studentised effect in one permutation, by least squares in extended precision: (neuron,)."""
    root = exchange.root.astype(np.longdouble)
    if hasattr(exchange, "codes"):
        rows = [X[np.flatnonzero(exchange.codes[0] == c)[0]] for c in exchange.codes[i]]
        design, values = np.array(rows, dtype=np.longdouble), y.astype(np.longdouble)
    else:
        restricted = np.column_stack([X[:, 0] + X[:, 1], X[:, 2]]).astype(np.longdouble)
        left = y - restricted @ _solve(restricted, root, y.astype(np.longdouble))
        design, values = X.astype(np.longdouble), exchange.signs[i][:, None] * left
    beta = _solve(design, root, values)
    residual = values - design @ beta
    cells = design.T @ (root**2)[:, None]
    loading = (design * (root**2)[:, None]) @ (CONTRAST / cells[:, 0])
    return (CONTRAST @ beta / np.sqrt(np.square(loading) @ np.square(residual))).astype(float)


def _solve(design, root, values):
    """Cell means: the columns do not overlap."""
    weight = (root**2)[:, None]
    return (design.T @ (weight * values)) / (design.T @ weight)


@pytest.mark.parametrize("scheme", ["labels", "signs"])
@pytest.mark.parametrize(("mean", "effect"), [(0.0, 0.0), (300.0, 0.0), (-300.0, 5.0), (300.0, 1e4)])
def test_studentised__agrees_with_extended_precision(scheme, mean, effect, rng):
    X, exchange = designs(scheme)
    y = mean + rng.standard_normal((30, 6)) + effect * X[:, :1]
    Y, scale = freed(y, exchange.nuisance, exchange.root)
    t = studentised(exchange.draws(slice(0, 61)), Y, np.square(Y), scale, exchange.root)
    expected = np.array([one_by_one(X, exchange, y, i) for i in range(61)])
    np.testing.assert_allclose(t, expected, rtol=1e-9, atol=1e-10)


def test_studentised__computes_a_variance_again_that_cancels(rng):
    X, exchange = designs("labels")
    y = 1e-3 * rng.standard_normal((30, 4)) + 1e4 * X[:, :1]
    Y, scale = freed(y, exchange.nuisance, exchange.root)
    draws = exchange.draws(slice(0, 2))
    t = studentised(draws, Y, np.square(Y), scale, exchange.root)
    np.testing.assert_allclose(t[0], one_by_one(X, exchange, y, 0), rtol=1e-7)
    basis, weights = draws.basis[0], draws.weights[0]
    loading, delta = np.square(basis @ weights), basis.T @ Y
    loaded = loading[:, None] * basis
    variance = loading @ np.square(Y) - (delta * (2 * loaded.T @ Y - basis.T @ loaded @ delta)).sum(axis=0)
    with np.errstate(invalid="ignore"):
        short = weights @ delta / np.sqrt(variance)
    assert not np.allclose(short, t[0], rtol=1e-3)


def test_studentised__is_0_or_infinite_without_variance():
    X, exchange = designs("labels")
    y = np.column_stack([X[:, 0], X[:, 2], np.ones(30)]) + 300.0
    Y, scale = freed(y, exchange.nuisance, exchange.root)
    t = studentised(exchange.draws(slice(0, 1)), Y, np.square(Y), scale, exchange.root)
    assert t.tolist() == [[np.inf, 0.0, 0.0]]
