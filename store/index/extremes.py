"""The tokens on which each neuron is highest and lowest, found in one pass."""

from typing import Any

import numpy as np
import numpy.typing as npt

Int = npt.NDArray[np.int64]

_BITS = {2: np.int16, 4: np.int32, 8: np.int64}


def sort_keys(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Whole numbers in the order of the floats, which a processor compares and sorts much faster.

    NaN, of either sign, lies beyond the infinities; -0.0 comes right before 0.0.
    """
    values = np.ascontiguousarray(values)
    bits = values.view(_BITS[values.dtype.itemsize])
    flip = bits >> (8 * values.dtype.itemsize - 1)  # all ones for a negative number
    flip &= np.iinfo(bits.dtype).max
    flip ^= bits
    return np.asarray(flip)


def from_keys(keys: npt.NDArray[Any], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    """Return the floats that `sort_keys` stand for."""
    flip = keys >> (8 * keys.dtype.itemsize - 1)
    flip &= np.iinfo(keys.dtype).max
    flip ^= keys
    return np.asarray(flip.view(dtype))


class Extremes:
    """The k largest values of every column, the largest first; of equal ones the earliest row first.

    Parameters
    ----------
    k
        How many are kept.
    n_neurons
        Columns.
    dtype
        Of the values: float16, float32 or float64.
    """

    def __init__(self, k: int, n_neurons: int, dtype: npt.DTypeLike) -> None:
        self._value = np.full((k, n_neurons), np.nan, np.dtype(dtype))  # (rank, neuron)
        self._row = np.full((k, n_neurons), -1, np.int64)
        self._found: list[tuple[npt.NDArray[Any], Int, Int]] = []  # value, row, neuron: not yet sorted in

    def add(self, values: npt.NDArray[Any], numbers: Int) -> None:
        """Take further rows.

        Parameters
        ----------
        values
            (row, neuron), of the same type; NaN counts as nothing.
        numbers
            (row,): ascending, and beyond all those before.
        """
        found = np.flatnonzero(self._candidates(values))
        row, neuron = np.divmod(found, values.shape[1])
        value = values.ravel()[found]
        real = ~np.isnan(value)
        self._found.append((value[real], numbers[row[real]], neuron[real]))
        if sum(len(value) for value, _, _ in self._found) >= self._value.size:
            self._sort_in()

    def result(self) -> tuple[npt.NDArray[Any], Int]:
        """Return values and rows: (rank, neuron); NaN and -1 where there are fewer rows than ranks."""
        self._sort_in()
        return self._value, self._row

    def _candidates(self, values: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
        """Which of them may be among the best: (row, neuron)."""
        keys = sort_keys(values)
        full = self._row[-1] >= 0
        if full.all():
            return np.asarray(keys > sort_keys(self._value[-1]))
        keys[np.isnan(values)] = np.iinfo(keys.dtype).min
        return _first_largest(keys, len(self._value))

    def _sort_in(self) -> None:
        """Merge what was found into the columns that it belongs to."""
        if not self._found:
            return
        value, row, neuron = (np.concatenate(part) for part in zip(*self._found, strict=True))
        self._found.clear()
        columns, place = np.unique(neuron, return_inverse=True)
        there = self._row[:, columns] >= 0
        value = np.concatenate([self._value[:, columns][there], value])
        row = np.concatenate([self._row[:, columns][there], row])
        column = np.concatenate([np.nonzero(there)[1], place])
        order = np.lexsort((-value.astype(np.float64), column))  # stable, so equal values keep their order
        column = column[order]
        rank = np.arange(len(column)) - np.searchsorted(column, column)  # among those of its column
        kept = rank < len(self._value)
        where = (rank[kept], columns[column[kept]])
        self._value[where] = value[order][kept]
        self._row[where] = row[order][kept]


class BothEnds:
    """The k largest and the k smallest values of every column, from the same rows.

    Parameters
    ----------
    k, n_neurons, dtype
        As for `Extremes`.
    """

    def __init__(self, k: int, n_neurons: int, dtype: npt.DTypeLike) -> None:
        self._high, self._low = (Extremes(k, n_neurons, dtype) for _ in range(2))

    def add(self, values: npt.NDArray[Any], numbers: Int) -> None:
        """Take further rows, as `Extremes.add` does."""
        self._high.add(values, numbers)
        self._low.add(-values, numbers)

    def result(self) -> tuple[npt.NDArray[Any], Int]:
        """Return values and rows, the high end first: (end, rank, neuron)."""
        (high, high_row), (low, low_row) = self._high.result(), self._low.result()
        return np.stack([high, -low]), np.stack([high_row, low_row])


def _first_largest(keys: npt.NDArray[Any], k: int) -> npt.NDArray[np.bool_]:
    """Which are the k largest of their column, of equal ones the first: (row, neuron)."""
    if len(keys) <= k:
        return np.ones(keys.shape, dtype=bool)
    kth = np.partition(keys, len(keys) - k, axis=0)[len(keys) - k]
    chosen = keys > kth
    equal = keys == kth
    room = k - chosen.sum(axis=0)
    chosen |= equal & (equal.cumsum(axis=0, dtype=np.int32) <= room)
    return np.asarray(chosen)
