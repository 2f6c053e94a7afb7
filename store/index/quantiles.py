"""The distribution of every neuron over the tokens of a recording, as quantiles of a sample of them."""

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from .extremes import from_keys, sort_keys

LEVELS: Final = (0.001, 0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.999)
SAMPLE: Final = 8192  # tokens: the share below a value is then known to half a percent, exactly up to here


def sampled_rows(n_rows: int) -> npt.NDArray[np.int64]:
    """Choose at most `SAMPLE` rows, ascending: all where there are no more, else one at random of each part.

    Chance, with a fixed seed, keeps the sample from meeting the same place of every prompt.

    >>> sampled_rows(3)
    array([0, 1, 2])
    """
    n = min(n_rows, SAMPLE)
    edges = (np.arange(n + 1) * n_rows) // max(n, 1)
    rows: npt.NDArray[np.int64] = np.random.default_rng(0).integers(edges[:-1], edges[1:])
    return rows


def quantiles(sample: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Quantiles of every column, linear between its values: (level, neuron); NaN counts as nothing."""
    if not len(sample):
        return np.full((len(LEVELS), sample.shape[1]), np.nan)
    missing = np.isnan(sample)
    n = len(sample) - missing.sum(axis=0)  # (neuron,)
    if sample.dtype == np.float16:
        sample = sample.astype(np.float32)  # processors sort 32 bits faster than 16
    keys = sort_keys(sample)
    keys[missing] = np.iinfo(keys.dtype).max
    keys = np.sort(np.ascontiguousarray(keys.T), axis=1)  # (neuron, token)
    place = np.array(LEVELS)[:, None] * (n - 1).clip(min=0)
    low = np.floor(place).astype(np.int64)
    high = np.minimum(low + 1, (n - 1).clip(min=0))
    a, b = (
        from_keys(np.take_along_axis(keys, i.T, axis=1), sample.dtype).T.astype(np.float64)
        for i in (low, high)
    )
    with np.errstate(invalid="ignore"):  # an infinity less an infinity is not a number, as it should be
        return np.asarray(np.where(a == b, a, a + (place - low) * (b - a)))
