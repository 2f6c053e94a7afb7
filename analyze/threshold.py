"""From a map to a network: thresholds, typed or controlled for the many tests of a map."""

import math
import numbers
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, TypeVar

import numpy as np
import numpy.typing as npt
import scipy.stats
import xarray as xr

from .. import _version
from ..store.errors import ActomeError, InputError, InputTypeError
from ..store.moments import Float64
from ..store.provenance import ORIGIN
from ..store.selection import SELECTION
from .corrections import corrected
from .valueless import warn_of_valueless

Bool = npt.NDArray[np.bool_]
Kind = TypeVar("Kind")


@dataclass(frozen=True)
class P:
    """Keep what has an uncorrected p of at most `value`."""

    value: float

    def __post_init__(self) -> None:
        """Check the value."""
        check_fraction("P", self.value)


@dataclass(frozen=True)
class Z:
    """Keep what is at least `value` standard deviations up; where both ends are kept, up or down."""

    value: float

    def __post_init__(self) -> None:
        """Check the value."""
        _check_number("Z", self.value)
        if not 0 < self.value < math.inf:
            raise InputError(f"Z takes a positive number of standard deviations, got {self.value}")


@dataclass(frozen=True)
class Top:
    """Keep the `fraction` of the neurons with the largest values, one at least; controls no error rate."""

    fraction: float

    def __post_init__(self) -> None:
        """Check the value."""
        check_fraction("Top", self.fraction)


def _check_number(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise InputTypeError(f"{name} takes a number, got {value!r}")


def check_fraction(name: str, value: float) -> None:
    """Refuse what is no number between 0 and 1."""
    _check_number(name, value)
    if not 0 < value < 1:
        raise InputError(f"{name} must lie between 0 and 1, got {value}")


Control = Literal["fdr", "by", "bonferroni", "maxt"] | P | Z | Top
_TYPED: Mapping[str, Callable[..., P | Z | Top]] = {"p": P, "z": Z, "top": Top}

# what a control's error rate rests on, beside p-values that are each right
_ASSUMPTIONS = {
    "fdr": "the neurons' tests are independent or positively dependent",
    "by": "none: the error rate holds under any dependence between neurons",
    "bonferroni": "none: the error rate holds under any dependence between neurons",
    "maxt": "prompts are exchangeable",
    "P": "none: each neuron is tested alone, and no error rate of the map is controlled",
    "Z": "none: each neuron is tested alone, and no error rate of the map is controlled",
    "Top": "none: no error rate is controlled",
}


def threshold(
    stat_map: xr.Dataset,
    *,
    control: Control = "fdr",
    alpha: float = 0.05,
    two_sided: bool = False,
) -> xr.DataArray:
    """Keep the neurons of a contrast that stand out, at a controlled error rate.

    Parameters
    ----------
    stat_map
        From `compute_contrast` or `permutation_test`: ``stat`` and ``p_value`` (..., layer, neuron);
        each map along further dimensions, such as ``contrast``, is a family of tests of its own.
    control
        "bonferroni": the chance of any false neuron is at most `alpha`; "maxt": the same, by the
        ``p_corrected`` of `permutation_test`, on the side or sides that it tested. "fdr": the expected
        share of false ones is (Benjamini-Hochberg); "by": the same under any dependence
        (Benjamini-Yekutieli). Or a typed threshold: ``P(0.001)``, ``Z(3.1)``, ``Top(0.01)``.
        p-values are one-sided unless `two_sided`; Z is compared with ``z_score``, or its magnitude.
    alpha
        The error rate of a named control.
    two_sided
        Keep strong negative effects too; by default only positive ones.

    Returns
    -------
    DataArray bool (..., layer, neuron)
        Computed here. A neuron without a statistic (it never varied) is never kept. attrs hold
        ``selected_on``, the prompts that took part, and ``assumption``, what the control's error rate
        rests on; ``alpha`` only where the control is a named one.

    Warns
    -----
    UserWarning
        Neurons have no effect either, as activations of theirs are not finite.

    Raises
    ------
    InputError
        The control or alpha is not allowed; "maxt" was asked of a map without ``p_corrected``, or of
        both sides where one was tested.

    References
    ----------
    .. [1] Benjamini & Hochberg (1995), J. R. Stat. Soc. B 57:289-300.
    .. [2] Benjamini & Yekutieli (2001), Ann. Stat. 29:1165-1188.
    """
    check_stat_map(stat_map, "threshold")
    check_fraction("alpha", alpha)
    keep = _rule(control, alpha)
    if control == "maxt":
        _check_corrected(stat_map, two_sided)
    names = ("stat", "p_value", "z_score", "p_corrected", "effect")
    ds = stat_map[[v for v in names if v in stat_map]].compute()
    if "effect" in ds:  # which a neuron that never varies has too
        has_value = abs(ds["effect"]) < np.inf
        lacking = ~has_value.all([d for d in has_value.dims if d not in ("layer", "neuron")])
        warn_of_valueless(int(lacking.sum()), lacking.size, stacklevel=2)
    stat, p, z = one_tail(ds, two_sided)
    if control == "maxt":
        p = ds["p_corrected"].where(stat > 0)  # the sides that count
    mask = xr.apply_ufunc(
        keep,
        stat, p, z,
        input_core_dims=[["layer", "neuron"]] * 3,
        output_core_dims=[["layer", "neuron"]],
        vectorize=True,
        output_dtypes=[bool],
    )  # fmt: skip
    kept = ("measure", "noise", *ORIGIN, "contrast", *SELECTION)
    attrs = {k: v for k, v in stat_map.attrs.items() if k in kept}
    out: xr.DataArray = mask.rename("mask").assign_attrs(
        attrs, kind="mask", two_sided=two_sided, actome=_version.__version__, **_terms(control, alpha, ds)
    )
    return out


def read_control(text: str) -> Control:
    """Read a control as a command is given it: a name, or a typed threshold as Python has it.

    >>> read_control("fdr"), read_control("Top(0.01)"), read_control(repr(Z(3.1)))
    ('fdr', Top(fraction=0.01), Z(value=3.1))

    Raises
    ------
    InputError
        It is no control, or its number is not allowed.
    """
    for name in ("fdr", "by", "bonferroni", "maxt"):
        if text == name:
            return name
    typed = read_typed(text, _TYPED)
    if typed is None:
        raise InputError(
            "the control is fdr, by, bonferroni, maxt, or a threshold such as P(0.001), Z(3.1) or Top(0.01), "
            f"got {text!r}"
        )
    return typed


def read_typed(text: str, kinds: Mapping[str, Callable[..., Kind]]) -> Kind | None:
    """Read a typed threshold as it is written in Python, or as results keep it; None if it is none of these.

    Parameters
    ----------
    kinds
        What makes each, by its name in small letters.

    Raises
    ------
    InputError
        Its numbers are not allowed.
    """
    written = re.fullmatch(r"\s*(\w+)\s*\(([^()]*)\)\s*", text)
    kind = kinds.get(written[1].lower()) if written else None
    if written is None or kind is None:
        return None
    try:
        given = [_number(part.partition("=")[2] or part) for part in written[2].split(",") if part.strip()]
        return kind(*given)
    except (TypeError, ValueError) as error:
        if isinstance(error, ActomeError):
            raise
        return None  # not a number, or too many of them


def _number(text: str) -> int | float:
    return int(text) if text.strip().isdecimal() else float(text)


def check_stat_map(stat_map: xr.Dataset, who: str) -> None:
    """Refuse, in the name of the function that was called, what is no map of tests."""
    if not isinstance(stat_map, xr.Dataset) or not {"stat", "p_value"} <= set(stat_map):
        raise InputTypeError(f"{who} takes a contrast from actome.compute_contrast or permutation_test")
    if not {"layer", "neuron"} <= set(stat_map["stat"].dims):
        raise InputError(f"stat must have dims (..., layer, neuron), got {stat_map['stat'].dims}")


def _check_corrected(stat_map: xr.Dataset, two_sided: bool) -> None:
    if "p_corrected" not in stat_map:
        raise InputError(
            f"control 'maxt' needs p_corrected; the map has {sorted(map(str, stat_map.data_vars))}. "
            "Take the map from actome.permutation_test, or another control"
        )
    if two_sided and stat_map.attrs.get("two_sided") is False:
        raise InputError(
            "two_sided=True, but the permutation test was of one side; repeat it with two_sided=True"
        )


def _terms(control: Control, alpha: float, stat_map: xr.Dataset) -> dict[str, str | float]:
    """Say by what rule a mask was made, and what its error rate rests on."""
    if not isinstance(control, str):
        return {"control": repr(control), "assumption": _ASSUMPTIONS[type(control).__name__]}
    assumption = _ASSUMPTIONS[control]
    if control == "maxt":
        assumption = str(stat_map.attrs.get("exchangeability", assumption))
    return {"control": control, "alpha": alpha, "assumption": assumption}


def one_tail(ds: xr.Dataset, two_sided: bool) -> tuple[xr.DataArray, xr.DataArray, xr.DataArray]:
    """Return stat, p and z of the side or sides that count: larger is stronger in all but p."""
    stat, p = ds["stat"], ds["p_value"]
    signed = "dof_numerator" not in ds.coords  # F has no sign
    if signed and not two_sided:
        p = (p / 2).where(stat > 0, 1 - p / 2).where(stat.notnull())
    if "z_score" in ds:
        z = ds["z_score"]
    else:
        tail = p / 2 if signed and two_sided else p
        z = tail.copy(data=scipy.stats.norm.isf(tail.to_numpy()))
    if signed and two_sided:
        return abs(stat), p, abs(z)
    return stat, p, z


def _rule(control: Control, alpha: float) -> Callable[[Float64, Float64, Float64], Bool]:
    """Return what decides on one map: (stat, p, z), each (layer, neuron), NaN where there is no test."""
    if isinstance(control, P):
        return lambda stat, p, z: p <= control.value
    if isinstance(control, Z):
        return lambda stat, p, z: z >= control.value
    if isinstance(control, Top):
        return lambda stat, p, z: top_fraction(stat, control.fraction)
    if control == "maxt":
        return lambda stat, p, z: p <= alpha
    if control == "bonferroni":
        return lambda stat, p, z: p <= alpha / max(int(np.isfinite(p).sum()), 1)
    if control in ("fdr", "by"):
        return lambda stat, p, z: corrected(p, control) <= alpha
    raise InputError(
        f"control must be 'fdr', 'by', 'bonferroni', 'maxt', P(...), Z(...) or Top(...), got {control!r}"
    )


def n_top(fraction: float, n_usable: int) -> int:
    """Return how many of so many neurons a fraction is: one at least, if there is any."""
    return min(max(1, round(fraction * n_usable)), n_usable)


def top_fraction(values: Float64, fraction: float) -> Bool:
    """Keep the largest values of a map, at least one, NaN never; among equal ones the first in order.

    >>> top_fraction(np.array([[1.0, 4.0], [3.0, 2.0]]), 0.5).tolist()
    [[False, True], [True, False]]
    """
    flat = values.ravel()
    usable = np.flatnonzero(~np.isnan(flat))
    largest = np.argsort(-flat[usable], kind="stable")[: n_top(fraction, len(usable))]
    out = np.zeros(flat.size, dtype=bool)
    out[usable[largest]] = True
    return out.reshape(values.shape)
