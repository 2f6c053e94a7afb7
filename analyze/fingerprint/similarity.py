"""How alike two sets of courses are: rank correlations within texts, and the best pairs of networks."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy.optimize
import scipy.special
import scipy.stats

from ...store.moments import Float64
from .alignment import Pair

Int = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Likeness:
    """What is found of two models.

    Attributes
    ----------
    correlation
        (network, network_other), NaN where either never varies.
    pairs
        Matched networks (network, network_other).
    score
        Mean magnitude of the correlation over the pairs; networks left over, or without a course, count
        as pairs with 0 up to the smaller number of networks.
    """

    correlation: Float64
    pairs: list[tuple[int, int]]
    score: float


def ranked(courses: list[Float64]) -> list[Float64]:
    """Rank every network's course within each text; 0 everywhere for a network without a course."""
    return [np.nan_to_num(scipy.stats.rankdata(c, axis=0, nan_policy="propagate")) for c in courses]


def likeness(first: list[Float64], second: list[Float64]) -> Likeness:
    """Compare courses that were ranked."""
    correlation = mean_correlation(first, second)
    gain = np.nan_to_num(np.abs(correlation))
    rows, columns = scipy.optimize.linear_sum_assignment(gain, maximize=True)
    pairs = [(int(i), int(j)) for i, j in zip(rows, columns, strict=True) if gain[i, j] > 0]
    return Likeness(correlation, pairs, float(gain[rows, columns].sum() / max(min(gain.shape), 1)))


def mean_correlation(first: list[Float64], second: list[Float64]) -> Float64:
    """Correlate ranks within texts, and average over the texts in which both networks vary.

    A text counts by its stretches less one, the inverse of its correlation's variance. Of two texts that
    differ in length the beginnings are compared.
    """
    shape = (first[0].shape[1], second[0].shape[1])
    total, weight = np.zeros(shape), np.zeros(shape)
    for a, b in zip(first, second, strict=True):
        n = min(len(a), len(b))
        if n < 2:
            continue
        (x, x_varies), (y, y_varies) = _standardised(a[:n]), _standardised(b[:n])
        total += (n - 1) * (x.T @ y)
        weight += (n - 1) * np.outer(x_varies, y_varies)
    return np.asarray(np.divide(total, weight, out=np.full(shape, np.nan), where=weight > 0))


def _standardised(ranks: Float64) -> tuple[Float64, npt.NDArray[np.bool_]]:
    """Centre each column, its sum of squares 1; and which of them vary."""
    away = ranks - ranks.mean(axis=0)
    norm = np.sqrt(np.einsum("tk,tk->k", away, away))
    varies = norm > 1e-9
    return away / np.where(varies, norm, np.inf), varies


def can_shuffle(strata: Int, alpha: float) -> bool:
    """Say whether texts have so many orders, within equal values of `strata`, that p can be `alpha`.

    >>> [can_shuffle(np.zeros(n, dtype=np.int64), 0.05) for n in (3, 4)], can_shuffle(np.arange(9), 0.05)
    ([False, True], False)
    """
    sizes = np.unique(strata, return_counts=True)[1]
    return bool(scipy.special.gammaln(sizes + 1).sum() >= -np.log(alpha) - 1e-9)


def shuffled_scores(pair: Pair, strata: Int, n_permutations: int, rng: np.random.Generator) -> Float64:
    """Scores when each text of the first model is set against a text of the second drawn anew: (draw,).

    Texts stay whole, so that neighbouring tokens stay as alike as they are, and keep their beginnings,
    at which all models do much the same. `strata` (text,): texts change places within equal values.
    """
    first, second = ranked(pair.first), ranked(pair.second)
    members = [np.flatnonzero(strata == s) for s in np.unique(strata)]
    out = np.empty(n_permutations)
    for i in range(n_permutations):
        order = np.arange(len(second))
        for texts in members:
            order[texts] = rng.permutation(texts)
        out[i] = likeness(first, [second[j] for j in order]).score
    return out
