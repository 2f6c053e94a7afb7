"""The largest or smallest values of arrays that are never held whole, exactly as many as asked for.

The bits of a floating-point number, turned a little, are an integer of the same order. A histogram
of the first 16 of them says in which bin the last chosen value lies, a histogram of the next 16
within that bin says it more closely, and so on; two passes find it exactly in float32, four in
float64. What equals it is taken in order of place, rows first.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import dask
import dask.array as da
import numpy as np
import numpy.typing as npt
from dask.delayed import Delayed, delayed

from ...store.blocks import tree_reduce

_DIGIT = 16  # bits looked at in one pass
_BINS = 2**_DIGIT
Bool = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Selection:
    """Values to choose from, together.

    Attributes
    ----------
    arrays
        Lazy, (row, column), all of one floating type; a NaN is never chosen.
    share
        Of the values that are numbers, as many as this share rounds to are chosen.
    largest
        Or the smallest.
    """

    arrays: Sequence[da.Array]
    share: float
    largest: bool = True


@dataclass(frozen=True)
class _Cut:
    """Where a selection ends: keys above `key` are chosen, and `n_ties` of those that equal it."""

    key: int
    n_ties: int
    all_ties: bool


def select(selections: Sequence[Selection]) -> list[list[da.Array]]:
    """Choose the extreme values of each selection; the data are read a few times here.

    Returns
    -------
    For each selection, a mask of each of its arrays: bool (row, column), lazy, in chunks of whole rows.
    """
    blocks = [[_row_blocks(a) for a in s.arrays] for s in selections]
    cuts = _find_cuts(selections, blocks)
    quotas = _share_ties(selections, blocks, cuts)
    return [
        [
            _mask(a, parts, cut, s.largest, quota)
            for a, parts, quota in zip(s.arrays, own, quotas_of, strict=True)
        ]
        for s, own, cut, quotas_of in zip(selections, blocks, cuts, quotas, strict=True)
    ]


def _row_blocks(array: da.Array) -> list[Delayed]:
    """Chunks of whole rows, in order: ties are then in the order of places, however it was chunked."""
    return list(array.rechunk({1: -1}).to_delayed().ravel())  # type: ignore[no-untyped-call]


def _find_cuts(selections: Sequence[Selection], blocks: list[list[list[Delayed]]]) -> list[_Cut]:
    bits = max((s.arrays[0].dtype.itemsize * 8 for s in selections), default=0)
    left = [0] * len(selections)
    keys = [0] * len(selections)
    in_bin = [0] * len(selections)
    for done in range(0, bits, _DIGIT):
        counted: Any = dask.base.compute(  # type: ignore[no-untyped-call]
            *(
                tree_reduce(
                    [delayed(_histogram)(b, keys[i], done, s.largest) for own in blocks[i] for b in own], sum
                )
                for i, s in enumerate(selections)
            )
        )
        for i, counts in enumerate(counted):
            if done == 0:
                left[i] = round(selections[i].share * int(counts.sum()))
            if done >= selections[i].arrays[0].dtype.itemsize * 8:
                continue
            above = np.cumsum(counts[::-1])[::-1] - counts  # values in the bins above each
            chosen = int(np.flatnonzero(above + counts >= left[i])[-1]) if counts.sum() else _BINS - 1
            left[i] -= int(above[chosen])
            in_bin[i] = int(counts[chosen])
            keys[i] = (keys[i] << _DIGIT) | chosen
    return [_Cut(k, n, n == m) for k, n, m in zip(keys, left, in_bin, strict=True)]


def _histogram(block: npt.NDArray[Any], prefix: int, done: int, largest: bool) -> npt.NDArray[np.int64]:
    """Count the values whose first `done` bits are `prefix` by their next 16 bits."""
    size = block.dtype.itemsize * 8
    if done >= size:  # a float32 beside float64s: it is cut already
        return np.zeros(_BINS, dtype=np.int64)
    keys = _keys(block[~np.isnan(block)], largest)
    if done:
        keys = keys[keys >> keys.dtype.type(size - done) == keys.dtype.type(prefix)]
    digits = (keys >> keys.dtype.type(size - done - _DIGIT)) & keys.dtype.type(_BINS - 1)
    counts: npt.NDArray[np.int64] = np.bincount(digits.astype(np.int64), minlength=_BINS)
    return counts


def _keys(values: npt.NDArray[Any], largest: bool) -> npt.NDArray[Any]:
    """Unsigned integers in the order of the values, or in the opposite one."""
    kind = np.dtype(f"u{values.dtype.itemsize}").type
    bits = np.ascontiguousarray(values + 0.0).view(kind)  # -0 becomes 0
    sign = kind(1 << (values.dtype.itemsize * 8 - 1))
    keys: npt.NDArray[Any] = np.where(bits & sign, ~bits, bits | sign)
    return keys if largest else ~keys


def _share_ties(
    selections: Sequence[Selection], blocks: list[list[list[Delayed]]], cuts: list[_Cut]
) -> list[list[list[int | None]]]:
    """How many of the tied values each block gives, the first blocks first; None: all that it has."""
    counts: Any = dask.base.compute(  # type: ignore[no-untyped-call]
        *(
            [] if cut.all_ties else [[delayed(_ties)(b, cut.key, s.largest) for b in own] for own in parts]
            for s, parts, cut in zip(selections, blocks, cuts, strict=True)
        )
    )
    out: list[list[list[int | None]]] = []
    for own, cut, tied in zip(blocks, cuts, counts, strict=True):
        if cut.all_ties:
            out.append([[None] * len(b) for b in own])
            continue
        left, shares = cut.n_ties, []
        for numbers in tied:
            given: list[int | None] = []
            for n in numbers:
                given.append(min(left, n))
                left -= min(left, n)
            shares.append(given)
        out.append(shares)
    return out


def _ties(block: npt.NDArray[Any], key: int, largest: bool) -> int:
    keys = _keys(block, largest)
    return int(((keys == keys.dtype.type(key)) & ~np.isnan(block)).sum())


def _mask(
    array: da.Array, blocks: list[Delayed], cut: _Cut, largest: bool, quota: list[int | None]
) -> da.Array:
    heights = array.chunks[0]
    parts = [
        da.from_delayed(  # type: ignore[no-untyped-call]
            delayed(_chosen)(b, cut.key, largest, q), (h, array.shape[1]), dtype=bool
        )
        for b, q, h in zip(blocks, quota, heights, strict=True)
    ]
    mask: da.Array = da.concatenate(parts, axis=0)  # type: ignore[no-untyped-call]
    return mask


def _chosen(block: npt.NDArray[Any], key: int, largest: bool, quota: int | None) -> Bool:
    keys = _keys(block, largest)
    there = ~np.isnan(block)
    tied = (keys == keys.dtype.type(key)) & there
    if quota is not None:
        tied &= (np.cumsum(tied) <= quota).reshape(tied.shape)
    return np.asarray(((keys > keys.dtype.type(key)) & there) | tied)
