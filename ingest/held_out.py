"""Texts that evaluate a network or a region took no part in selecting it."""

import warnings
from collections.abc import Collection

from ..store.errors import InputError
from ..store.paradigm import Paradigm


def held_out(paradigm: Paradigm, selected_on: Collection[str] | None, what: str) -> Paradigm:
    """Leave out the prompts that selected something.

    Parameters
    ----------
    paradigm
        What is to evaluate it.
    selected_on
        The ids of the prompts that took part; None where nothing says.
    what
        It, in the plural, for the messages.

    Raises
    ------
    InputError
        No prompt is left.

    Warns
    -----
    UserWarning
        Nothing says which prompts selected it.
    """
    if selected_on is None:
        warnings.warn(
            f"the {what} do not say which prompts selected them (attrs['selected_on']), so none is left out; "
            "effects on prompts that took part are too large. Give the list, [] if there was none",
            stacklevel=4,
        )
    selected = set() if selected_on is None else {str(p) for p in selected_on}
    left = [p for p in paradigm.table["prompt"] if p not in selected]
    if not left:
        raise InputError(
            f"every prompt of the paradigm took part in selecting the {what}; "
            "select on some runs and score the others, or give other prompts"
        )
    return paradigm if len(left) == len(paradigm) else paradigm.select(prompt=left)
