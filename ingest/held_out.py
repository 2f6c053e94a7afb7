"""Texts that evaluate a network or a region took no part in selecting it."""

import warnings
from collections.abc import Sequence

from ..store.errors import InputError
from ..store.paradigm import Paradigm
from ..store.selection import Selection


def held_out(
    paradigm: Paradigm, selected: Selection | None, what: str, *, silent: Sequence[str] = ()
) -> Paradigm:
    """Leave out the prompts that selected something, by their texts where these are known, else by their ids.

    Parameters
    ----------
    paradigm
        What is to evaluate it.
    selected
        The prompts that took part; None where nothing says.
    what
        It, in the plural, for the messages.
    silent
        Names of those among them that do not say, where others do.

    Raises
    ------
    InputError
        No prompt is left.

    Warns
    -----
    UserWarning
        Nothing says which prompts selected it, or some of it.
    """
    if selected is None or silent:
        which = " ".join([what, ", ".join(map(repr, silent))]).strip()
        left_out = "those of the others alone are left out" if silent else "none is left out"
        warnings.warn(
            f"the {which} do not say which prompts selected them (attrs['selected_on']), so {left_out}; "
            "effects on prompts that took part are too large. Give the list, [] if there was none",
            stacklevel=4,
        )
    out = (selected or Selection()).shared(Selection.of(paradigm.table))
    if out.all():
        by_id = not any(text for _, text in (selected or Selection()).prompts)
        raise InputError(
            f"every prompt of the paradigm took part in selecting the {what}; "
            "select on some runs and score the others, or give other prompts"
            + (" (their ids tell this: if the texts are others, give the prompts other ids)" if by_id else "")
        )
    return paradigm.select(prompt=paradigm.table["prompt"][~out].tolist()) if out.any() else paradigm
