"""Kinds of lesions: what happens to a neuron, and what that needs to be known."""

from collections.abc import Sequence
from typing import Any, Literal

import xarray as xr

from ...store.arguments import real_number
from ...store.errors import InputError, InputTypeError

Kind = Literal["zero", "mean", "resample", "noise", "scale", "add"]

_NEEDS: dict[str, tuple[str, ...]] = {  # one of these must be given
    "zero": (),
    "mean": ("reference",),
    "resample": ("reference",),
    "noise": ("reference", "amount"),
    "scale": ("amount",),
    "add": ("amount",),
}
_DOSED = ("noise", "scale", "add")


def check_kind(kind: str, amount: float | None, reference: xr.Dataset | None) -> None:
    """Refuse an unknown kind of lesion, one that lacks what it needs, and a reference that is none."""
    if kind not in _NEEDS:
        raise InputError(f"kind must be one of {list(_NEEDS)}, got {kind!r}")
    if reference is not None and not isinstance(reference, xr.Dataset):
        raise InputTypeError(f"reference must be a Dataset from actome.open, got {type(reference).__name__}")
    given = {"amount": amount, "reference": reference}
    needs = _NEEDS[kind]
    if needs and all(given[need] is None for need in needs):
        raise InputError(f"kind={kind!r} needs {' or '.join(f'`{need}`' for need in needs)}")
    if amount is None:
        return
    if kind not in _DOSED:
        raise InputError(f"kind={kind!r} takes no amount, got {amount!r}; {', '.join(_DOSED)} do")
    value = real_number(amount, "amount")
    if not abs(value) < float("inf"):
        raise InputError(f"amount must be a finite number, got {amount!r}")
    if kind == "noise" and value < 0:
        raise InputError(f"the amount of noise must be 0 or more, got {amount!r}")


def as_doses(amount: Any) -> tuple[float | None, ...]:
    """Return the amounts of a lesion: one, or several that differ.

    Raises
    ------
    InputError, InputTypeError
        None is given, one comes twice, or one is no number.
    """
    if amount is None or isinstance(amount, (int, float)):
        return (amount if amount is None else float(amount),)
    if isinstance(amount, (str, bytes)) or not (isinstance(amount, Sequence) or hasattr(amount, "tolist")):
        raise InputTypeError(f"amount must be a number or a sequence of numbers, got {amount!r}")
    listed = amount.tolist() if hasattr(amount, "tolist") else list(amount)
    doses = tuple(real_number(a, "amount") for a in (listed if isinstance(listed, list) else [listed]))
    if not doses or len(set(doses)) < len(doses):
        raise InputError(f"amount must be one number or several that differ, got {amount!r}")
    return doses
