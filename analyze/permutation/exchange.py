"""What may be exchanged where there is no effect: the labels of prompts, or the signs of their errors.

All is said of rows that were multiplied by the root of their prompt's tokens, so that least squares is
plain. The values are first freed of a nuisance, which no permutation changes; each permutation is then
a small orthonormal basis that the rest is regressed on.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations, product

import numpy as np
import numpy.typing as npt
import scipy.linalg

from ...store.errors import InputError
from ...store.moments import Bool, Float64

Int = npt.NDArray[np.int64]

_ROUNDING = 1e-9  # of a contrast or a design, below which it is rounding
_BATCH = 64  # permuted designs that are looked at together


@dataclass(frozen=True)
class Draws:
    """Some permutations; a first dimension of 1 stands for all of them.

    Attributes
    ----------
    basis
        (permutation, prompt, regressor), orthonormal columns.
    weights
        (permutation, regressor), the contrast in that basis.
    sign
        (permutation, prompt), what the values are multiplied by.
    """

    basis: Float64
    weights: Float64
    sign: npt.NDArray[np.int8]


@dataclass(frozen=True)
class Labels:
    """The labels of prompts, permuted.

    Attributes
    ----------
    root
        (prompt,), root of the tokens of each prompt.
    nuisance
        (prompt, regressor), orthonormal: the part of the design that no permutation changes.
    rows, weights
        (row, regressor), (regressor,): the distinct rows of the other part, and the contrast there.
    codes
        (1 + permutation, prompt), the row that each prompt gets; as recorded, then permuted.
    n_distinct
        How many ways there are to give the labels out, the recorded one included.
    """

    root: Float64
    nuisance: Float64
    rows: Float64
    weights: Float64
    codes: npt.NDArray[np.int32]
    n_distinct: int

    def __len__(self) -> int:
        """Count the permutations, without what was recorded."""
        return len(self.codes) - 1

    def draws(self, part: slice) -> Draws:
        """Return some permutations; 0 is what was recorded."""
        D = self.root[:, None] * self.rows[self.codes[part]]
        size = np.linalg.norm(D, axis=1)
        D -= self.nuisance @ (self.nuisance.T @ D)
        basis, R = np.linalg.qr(D)
        if (np.abs(np.einsum("prr->pr", R)) < _ROUNDING * size).any():
            raise InputError(
                "some permutations of the labels cannot be told from a confound; "
                "leave the confound out, or use scheme='signs' (--scheme signs)"
            )
        asked = np.broadcast_to(self.weights[:, None], (*size.shape, 1))
        weights = np.linalg.solve(np.swapaxes(R, 1, 2), asked)[..., 0]
        return Draws(basis, weights, np.ones((1, len(self.root)), dtype=np.int8))


@dataclass(frozen=True)
class Signs:
    """The signs of what the nuisance leaves of each prompt, drawn.

    Attributes
    ----------
    root, nuisance, n_distinct
        As of `Labels`; the nuisance is the whole design but for the contrast.
    basis, weights
        (prompt, regressor), (regressor,): the whole design, orthonormal, and the contrast there.
    signs
        (1 + permutation, prompt); ones, then drawn.
    """

    root: Float64
    nuisance: Float64
    basis: Float64
    weights: Float64
    signs: npt.NDArray[np.int8]
    n_distinct: int

    def __len__(self) -> int:
        """Count the draws, without what was recorded."""
        return len(self.signs) - 1

    def draws(self, part: slice) -> Draws:
        """Return some draws; 0 is what was recorded."""
        return Draws(self.basis[None], self.weights[None], self.signs[part])


def exchange_labels(
    X: Float64,
    count: Float64,
    weights: Float64,
    *,
    own: Bool,
    cells: Sequence[Int],
    n: int,
    rng: np.random.Generator,
) -> Labels:
    """Permute the rows of some columns of a design within cells of prompts.

    Parameters
    ----------
    X, count, weights
        (prompt, regressor), (prompt,), (regressor,): the design, the tokens, the contrast.
    own
        (regressor,), the columns that are permuted; the others stay with their prompts.
    cells
        The prompts of each cell, in an order that does not depend on that of the recording.
    n
        Permutations; all there are, each once, where they are no more.

    Raises
    ------
    InputError
        No permutation changes the design, or none changes all that the contrast asks for.
    """
    size = np.linalg.norm(X[:, own], axis=0)  # the rank must not depend on a regressor's units
    F, asked = X[:, own] / size, weights[own] / size
    varied = np.zeros_like(F)
    for cell in cells:
        varied[cell] = F[cell] - F[cell].mean(axis=0)
    _, spread, V = np.linalg.svd(np.linalg.qr(varied, mode="r"))
    rank = int((spread > _ROUNDING).sum())
    if rank == 0:
        raise InputError(
            "the prompts that may exchange their labels all have the same one, so that permuting tests "
            "nothing; compare two conditions, choose other confounds, or use scheme='signs' (--scheme signs)"
        )
    if weights[~own].any() or (np.abs(V[rank:] @ asked) > _ROUNDING * np.linalg.norm(asked)).any():
        raise InputError(
            "the contrast asks for something that stays when labels are permuted, such as a difference from "
            "zero or the effect of a confound; let its weights sum to zero, or use scheme='signs' "
            "(--scheme signs)"
        )
    root = np.sqrt(count)
    nuisance = np.linalg.qr(root[:, None] * np.hstack([X[:, ~own], F @ V[rank:].T]))[0]
    rows, code = np.unique(F, axis=0, return_inverse=True)
    code = code.reshape(-1)
    n_distinct = math.prod(_count_orders(code[cell]) for cell in cells)
    if n_distinct <= n + 1:
        codes = np.array([code, *_all_orders(code, cells)])
    else:
        codes = np.tile(code, (1 + n, 1))
        for cell in cells:
            codes[1:, cell] = rng.permuted(codes[1:, cell], axis=1)
    codes = codes.astype(np.int32)
    labels = Labels(root, nuisance, rows @ V[:rank].T, V[:rank] @ asked, codes, n_distinct)
    for start in range(0, len(codes), _BATCH):
        labels.draws(slice(start, start + _BATCH))  # refuses what has no statistic, before anything is read
    return labels


def _count_orders(code: Int) -> int:
    repeats = np.unique(code, return_counts=True)[1]
    return math.factorial(len(code)) // math.prod(math.factorial(int(r)) for r in repeats)


def _all_orders(code: Int, cells: Sequence[Int]) -> Iterator[Int]:
    """Give out the labels of all cells in every other way than `code`: (prompt,) each."""
    for orders in product(*(_orders(code[cell]) for cell in cells)):
        out = code.copy()
        for cell, order in zip(cells, orders, strict=True):
            out[cell] = order
        if (out != code).any():
            yield out


def _orders(code: Int) -> list[Int]:
    """Every way to give the labels of one cell out, each once; the rare ones are placed first."""
    values, counts = np.unique(code, return_counts=True)
    orders = [np.full(len(code), -1)]
    for i in np.argsort(counts, kind="stable"):
        orders = [
            np.where(np.isin(np.arange(len(code)), places), values[i], order)
            for order in orders
            for places in combinations(np.flatnonzero(order < 0), int(counts[i]))
        ]
    return orders


def exchange_signs(
    X: Float64, count: Float64, weights: Float64, *, order: Int, n: int, rng: np.random.Generator
) -> Signs:
    """Draw the signs of what the design without the contrast leaves of each prompt.

    Parameters
    ----------
    X, count, weights
        (prompt, regressor), (prompt,), (regressor,): the design, the tokens, the contrast.
    order
        The prompts, in an order that does not depend on that of the recording.
    n
        Draws; all there are, each once, where they are no more.
    """
    root = np.sqrt(count)
    nuisance = np.linalg.qr(root[:, None] * (X @ scipy.linalg.null_space(weights[None])))[0]
    basis, R = np.linalg.qr(root[:, None] * X)
    n_distinct = 2 ** len(X)
    if n_distinct <= n + 1:
        drawn = np.array(list(product((1, -1), repeat=len(X))), dtype=np.int8)
    else:
        drawn = 2 * rng.integers(2, size=(1 + n, len(X)), dtype=np.int8) - 1
        drawn[0] = 1
    signs = np.empty_like(drawn)
    signs[:, order] = drawn
    return Signs(root, nuisance, basis, np.linalg.solve(R.T, weights), signs, n_distinct)
