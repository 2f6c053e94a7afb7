"""Principal components of a subject's tokens: from inner products of rows, or by random projections."""

from collections.abc import Callable, Iterator

import numpy as np

from ...store.moments import Float64

Blocks = Callable[[], Iterator[tuple[slice, Float64]]]  # the columns, and the rows there: (row, column)

_OVERSAMPLING = 10
_ITERATIONS = 2
_SMALL = 1e-12  # of the largest eigenvalue: what is less is rounding
_PER_READ = 150  # products that take as long as reading and scaling a value once


def inner_products(blocks: Blocks) -> Float64:
    """Inner products of the rows, a block of columns at a time: (row, row)."""
    total: Float64 | None = None
    for _, X in blocks():
        total = X @ X.T if total is None else total + X @ X.T
    if total is None:
        raise ValueError("there are no columns")
    return total


def leading(G: Float64, k: int | None = None) -> tuple[Float64, Float64]:
    """Eigenvalues of a matrix of inner products from the largest on, without those that are rounding.

    Parameters
    ----------
    G
        (row, row).
    k
        At most so many.

    Returns
    -------
    The eigenvalues (component,) and eigenvectors (row, component).
    """
    values, vectors = np.linalg.eigh(G)
    values, vectors = values[::-1], vectors[:, ::-1]
    there = int((values > _SMALL * max(values[0], 0.0)).sum()) if len(values) else 0
    k = there if k is None else min(k, there)
    return values[:k], vectors[:, :k]


def sketch_is_cheaper(n_rows: int, k: int) -> bool:
    """Whether random projections find `k` components of so many rows in less time than inner products.

    >>> sketch_is_cheaper(1000, 128), sketch_is_cheaper(4000, 64)
    (False, True)
    """
    width = k + _OVERSAMPLING
    products = n_rows**2 + 2 * _PER_READ * n_rows
    sketch = 2 * n_rows * width * (1 + 2 * _ITERATIONS) + (2 + _ITERATIONS) * _PER_READ * n_rows
    return sketch < products


def range_of_rows(blocks: Blocks, k: int) -> Float64:
    """Orthonormal combinations of the rows that hold their `k` leading components: (row, component).

    The randomised range finder with power iterations [1]_. The projections belong to the columns, so
    that the order of the rows does not matter, and neither do the blocks.

    References
    ----------
    .. [1] Halko, Martinsson & Tropp (2011), SIAM Review 53:217-288.
    """
    Y: Float64 | float = 0.0
    for columns, X in blocks():
        rng = np.random.default_rng(columns.start)
        Y = Y + X @ rng.standard_normal((X.shape[1], k + _OVERSAMPLING))
    for _ in range(_ITERATIONS):
        Q = np.linalg.qr(np.asarray(Y))[0]
        Y = 0.0
        for _, X in blocks():
            Y = Y + X @ (X.T @ Q)
    return np.linalg.qr(np.asarray(Y))[0]
