"""Numbers that a user gives: whole or not, in Python's types whichever they come in."""

import operator
from collections.abc import Sequence
from typing import Any

import numpy as np

from .errors import InputError, InputTypeError


def whole_number(value: Any, what: str, *, least: int) -> int:
    """Return a whole number.

    Raises
    ------
    InputError, InputTypeError
        It is less than `least`, or no whole number.
    """
    try:
        if isinstance(value, bool):
            raise TypeError
        number = operator.index(value)
    except TypeError as error:
        raise InputTypeError(f"{what} must be a whole number, got {value!r}") from error
    if number < least:
        raise InputError(f"{what} must be at least {least}, got {number}")
    return number


def check_seed(seed: Any) -> int:
    """Return the seed of a random generator.

    Raises
    ------
    InputError, InputTypeError
        It is negative, or no whole number.
    """
    return whole_number(seed, "seed", least=0)


def true_or_false(value: Any, what: str) -> bool:
    """Return a truth value.

    Raises
    ------
    InputTypeError
        It is none: text, such as "no", would count as true.
    """
    if not isinstance(value, (bool, np.bool_)):
        raise InputTypeError(f"{what} must be True or False, got {value!r}")
    return bool(value)


def real_number(value: Any, what: str) -> float:
    """Return a number.

    Raises
    ------
    InputTypeError
        It is no number.
    """
    if isinstance(value, (str, bytes)):
        raise InputTypeError(f"{what} must be a number, got {value!r}")
    try:
        return float(value)
    except (TypeError, ValueError) as error:
        raise InputTypeError(f"{what} must be a number, got {value!r}") from error


def whole_numbers(values: Sequence[int] | None, what: str) -> tuple[int, ...] | None:
    """Return layers or neurons as plain numbers.

    Raises
    ------
    InputTypeError
        It is no sequence of whole numbers.
    """
    if values is None:
        return None
    try:
        return tuple(int(v) for v in np.asarray(values).astype(np.int64, casting="safe").reshape(len(values)))
    except (TypeError, ValueError) as error:
        raise InputTypeError(f"{what} must be a sequence of whole numbers, got {values!r}") from error
