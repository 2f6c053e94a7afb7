"""Activations in the type of the store, and what is lost on the way."""

from typing import Any

import numpy as np
import numpy.typing as npt


def fit(
    values: npt.NDArray[Any], storage: np.dtype[Any], counts: dict[str, int]
) -> npt.NDArray[np.floating[Any]]:
    """Convert to the type of the store; keep what it cannot hold at its limit, and count it.

    Parameters
    ----------
    values
        Floating-point numbers of any shape, without padding.
    storage
        The type of the store.
    counts
        ``clipped`` and ``nonfinite`` are added to: values beyond the largest of the type, kept as that,
        and values that are not finite, kept as they are.
    """
    finite = np.isfinite(values)
    counts["nonfinite"] += int(values.size - finite.sum())
    limit = np.finfo(storage).max
    if np.finfo(values.dtype).max > limit:
        beyond = finite & (np.abs(values) > limit)
        counts["clipped"] += int(beyond.sum())
        values = np.where(beyond, np.copysign(limit, values).astype(values.dtype), values)
    return values.astype(storage)


def keeps(dtype: np.dtype[Any], values: npt.NDArray[Any]) -> bool:
    """Say whether a type holds every value as it is; NaN where it has one.

    >>> keeps(np.dtype("int32"), np.array([2**40])), keeps(np.dtype("float32"), np.array([0.5, np.nan]))
    (False, True)
    """
    if values.dtype == dtype:
        return True
    with np.errstate(invalid="ignore", over="ignore"):
        there = values.astype(dtype)
        same = (there == values) & (there.astype(values.dtype) == values)  # either alone may round or wrap
    return bool((same | ((there != there) & (values != values))).all())
