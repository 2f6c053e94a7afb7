"""Columns of the design that a label or a number makes: cell means, deviations, and centred numbers."""

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ...store.errors import InputError
from ...store.moments import Float64

Columns = dict[str, Float64]  # regressor -> (row,); rows are prompts, or valid tokens prompt by prompt

_MAX_VALUES: Final = 1000


def cell_means(name: str, values: npt.NDArray[Any]) -> Columns:
    """One indicator a value, named as the value.

    >>> {k: v.tolist() for k, v in cell_means("condition", np.array(["fr", "de", "fr"])).items()}
    {'de': [0.0, 1.0, 0.0], 'fr': [1.0, 0.0, 1.0]}
    """
    levels, code = categories(name, values)
    return {str(level): (code == i).astype(np.float64) for i, level in enumerate(levels)}


def deviations(name: str, values: npt.NDArray[Any]) -> Columns:
    """Sum-to-zero columns, one fewer than values: the last value is minus one in each.

    >>> {k: v.tolist() for k, v in deviations("run", np.array([0, 1, 2])).items()}
    {'run[0]': [1.0, 0.0, -1.0], 'run[1]': [0.0, 1.0, -1.0]}
    """
    levels, code = categories(name, values)
    last = (code == len(levels) - 1).astype(np.float64)
    return {f"{name}[{level}]": (code == i) - last for i, level in enumerate(levels[:-1])}


def centred(name: str, values: npt.NDArray[Any], weight: npt.NDArray[np.int64]) -> Columns:
    """One column of mean zero over rows that count `weight` times; none if it does not vary there.

    >>> centred("age", np.array([1, 5, 99]), np.array([3, 1, 0]))["age"].tolist()
    [-1.0, 3.0, 97.0]
    """
    column = values.astype(np.float64)
    seen = column[weight > 0]
    if seen.min() == seen.max():
        return {}
    return {name: column - np.average(column, weights=weight)}


def categories(name: str, values: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], npt.NDArray[np.int64]]:
    """Return the different values in order, and for each row the place of its own among them."""
    levels, code = np.unique(values, return_inverse=True)
    if len(levels) > _MAX_VALUES:
        raise InputError(
            f"{name!r} has {len(levels)} different values, too many for a column each "
            f"(at most {_MAX_VALUES}); group them in another label, "
            "or give a label of fractional numbers, which makes one slope"
        )
    return levels, code.astype(np.int64)
