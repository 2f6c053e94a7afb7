"""Intraclass correlation: how far repeats give every neuron the same effect."""

import numpy as np
import numpy.typing as npt

from ...store.moments import Float64

Bool = npt.NDArray[np.bool_]


class Intraclass:
    """ICC(2,1) and ICC(3,1) of effects that come a block of neurons at a time, for each contrast.

    From the two-way analysis of variance without replicates: neurons are the targets, folds the raters.

    References
    ----------
    .. [1] Shrout & Fleiss (1979), Psychological Bulletin 86:420-428.
    """

    def __init__(self, n_folds: int, n_contrasts: int) -> None:
        self._n = np.zeros(n_contrasts)
        self._of_fold = np.zeros((n_folds, n_contrasts))
        self._mean_square = np.zeros(n_contrasts)  # of the neurons' means, summed
        self._inside = np.zeros(n_contrasts)  # squares about the neurons' means, summed

    def add(self, effect: Float64, usable: Bool) -> None:
        """Take a block: effect (fold, contrast, neuron), and which count (contrast, neuron)."""
        effect = np.where(usable, effect, 0.0)
        mean = effect.mean(axis=0)
        self._n += usable.sum(axis=1)
        self._of_fold += effect.sum(axis=2)
        self._mean_square += np.square(mean).sum(axis=1)
        self._inside += np.square(effect - mean).sum(axis=(0, 2))

    def result(self) -> Float64:
        """Return ICC(2,1) and ICC(3,1): (2, contrast)."""
        n, k = self._n, len(self._of_fold)
        with np.errstate(divide="ignore", invalid="ignore"):
            fold_mean = self._of_fold / n
            grand = fold_mean.mean(axis=0)
            between_folds = n * np.square(fold_mean - grand).sum(axis=0)
            rows = k * (self._mean_square - n * grand**2) / (n - 1)
            columns = between_folds / (k - 1)
            error = (self._inside - between_folds) / ((n - 1) * (k - 1))
            agreement = (rows - error) / (rows + (k - 1) * error + k * (columns - error) / n)
            return np.stack([agreement, (rows - error) / (rows + (k - 1) * error)])
