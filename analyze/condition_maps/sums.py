"""Sums of a block of neurons by fold and condition, and the effects and t that follow from them."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from ...store.moments import Float64
from .labelling import Labels

Int = npt.NDArray[np.int64]

_ROUNDING = 1e-12  # a standard deviation this small beside the mean is rounding
_LOST = 1e-6  # share of the variation within conditions below which the sums have lost its digits


def against_the_others(count: Int) -> Float64:
    """Weights of each condition less the mean of the others: (condition, condition).

    Conditions without prompts by `count` (condition,) take no part, and have weights of zero.

    >>> against_the_others(np.array([4, 0, 2])).tolist()
    [[1.0, 0.0, -1.0], [0.0, 0.0, 0.0], [-1.0, 0.0, 1.0]]
    """
    present = count > 0
    n = int(present.sum())
    weights = (n * np.eye(len(count)) - 1.0) / max(n - 1, 1)
    return np.where(present[:, None] & present[None, :], weights, 0.0)


def contrast_t(values: Float64, code: Int, weights: Float64) -> Float64:
    """Pooled-variance t of contrasts (contrast, condition) of the prompts' means: (contrast, neuron).

    `values` (prompt, neuron), `code` (prompt,). NaN for a neuron that does not vary within conditions,
    and for a contrast without weights.
    """
    member = np.eye(weights.shape[1])[code]  # (prompt, condition)
    n = member.sum(axis=0)
    centre = values.mean(axis=0)
    means = member.T @ (values - centre) / np.maximum(n, 1)[:, None]
    rss = np.square(values - centre - means[code]).sum(axis=0)
    varies = rss > len(values) * np.square(_ROUNDING * centre)
    return _t(weights @ means, np.where(varies, rss, np.nan), n, weights)


def _t(effect: Float64, rss: Float64, n: npt.NDArray[np.floating] | Int, weights: Float64) -> Float64:
    """Return t of effects (..., contrast, neuron), given residual sums of squares (..., neuron)."""
    scale = np.divide(weights**2, n, out=np.zeros(weights.shape), where=n > 0).sum(axis=1)
    dof = n.sum() - np.count_nonzero(n)
    variance = (rss / dof)[..., None, :] * np.where(scale > 0, scale, np.nan)[:, None]
    return np.asarray(effect / np.sqrt(variance))


@dataclass(frozen=True)
class CellSums:
    """Sums by condition over some prompts of one block of neurons, of values less their mean.

    Attributes
    ----------
    n
        (condition,), prompts.
    mean, square
        (neuron,), mean of these prompts, and their sum of squares about it.
    total
        (draw, condition, neuron).
    values, code
        (prompt, neuron), (draw, prompt): what was summed.
    """

    n: Int
    mean: Float64
    square: Float64
    total: Float64
    values: Float64
    code: Int

    @cached_property
    def spread(self) -> Float64:
        """Standard deviation of the prompts, NaN where that is rounding: (neuron,)."""
        sd = np.sqrt(self.square / self.n.sum())
        return np.where(sd > _ROUNDING * np.abs(self.mean), sd, np.nan)

    def maps(self, weights: Float64) -> tuple[Float64, Float64]:
        """Effect and t of contrasts (contrast, condition) with weights that sum to zero.

        Returns
        -------
        Two arrays (draw, contrast, neuron); t as `contrast_t` gives it.
        """
        means = self.total / np.maximum(self.n, 1)[:, None]
        effect = weights @ means
        rss = self.square - (self.total * means).sum(axis=1)  # (draw, neuron)
        lost = ~np.isnan(self.spread) & (rss < _LOST * self.square)
        t = _t(effect, np.where(np.isnan(self.spread) | lost, np.nan, rss), self.n, weights)
        for draw in np.flatnonzero(lost.any(axis=1)):
            where = np.flatnonzero(lost[draw])
            t[draw][:, where] = contrast_t(self.values[:, where], self.code[draw], weights)
        return effect, t


class FoldSums:
    """Sums of one block of neurons, by fold and condition, under every labelling.

    Every fold is summed about its own mean, and no sum is ever subtracted from another, so that a
    neuron that is silent in all folds but one stays silent there.
    """

    def __init__(self, values: Float64, labels: Labels) -> None:
        self._values, self._labels = values, labels
        shape = (len(labels.code), len(labels.conditions), values.shape[1])
        self._folds = []
        for f, rows in enumerate(labels.rows):
            own = values[rows]
            mean = own.mean(axis=0)
            away = own - mean
            square = np.square(away).sum(axis=0)
            total = (labels.members[f] @ away).reshape(shape)
            self._folds.append(CellSums(labels.count[f], mean, square, total, own, labels.code[:, rows]))

    def within(self, fold: int) -> CellSums:
        """Return the sums over one fold alone."""
        return self._folds[fold]

    def without(self, fold: int) -> CellSums:
        """Return the sums over all folds but one."""
        others = [sums for f, sums in enumerate(self._folds) if f != fold]
        sizes = [sums.n.sum() for sums in others]
        mean = np.average([sums.mean for sums in others], axis=0, weights=sizes)
        square, total = np.zeros_like(mean), np.zeros_like(others[0].total)
        for size, sums in zip(sizes, others, strict=True):
            away = sums.mean - mean
            square += sums.square + size * away**2
            total += sums.total + sums.n[:, None] * away
        rows = np.flatnonzero(self._labels.fold != fold)
        n = self._labels.count.sum(axis=0) - self._labels.count[fold]
        return CellSums(n, mean, square, total, self._values[rows], self._labels.code[:, rows])
