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
