"""From a map to a network: thresholds, typed or controlled for the many tests of a map."""

import math
import numbers
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import scipy.stats
import xarray as xr

from ..store.errors import InputError, InputTypeError
from ..store.moments import Float64

Bool = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class P:
    """Keep what has an uncorrected p of at most `value`."""

    value: float

    def __post_init__(self) -> None:
        """Check the value."""
        _check_fraction("P", self.value)


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
        _check_fraction("Top", self.fraction)


def _check_number(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise InputTypeError(f"{name} takes a number, got {value!r}")


def _check_fraction(name: str, value: float) -> None:
    _check_number(name, value)
    if not 0 < value < 1:
        raise InputError(f"{name} must lie between 0 and 1, got {value}")


Control = Literal["fdr", "by", "bonferroni"] | P | Z | Top


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
        From `compute_contrast`: ``stat`` and ``p_value`` (..., layer, neuron); each map along
        further dimensions, such as ``contrast``, is a family of tests of its own.
    control
        "bonferroni": the chance of any false neuron is at most `alpha`. "fdr": the expected share
        of false ones is (Benjamini-Hochberg); "by": the same under any dependence
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
        ``selected_on``, the prompts that took part.

    Raises
    ------
    InputError
        The control or alpha is not allowed.

    References
    ----------
    .. [1] Benjamini & Hochberg (1995), J. R. Stat. Soc. B 57:289-300.
    .. [2] Benjamini & Yekutieli (2001), Ann. Stat. 29:1165-1188.
    """
    if not isinstance(stat_map, xr.Dataset) or not {"stat", "p_value"} <= set(stat_map):
        raise InputTypeError("threshold takes a contrast from actome.compute_contrast")
    if not {"layer", "neuron"} <= set(stat_map["stat"].dims):
        raise InputError(f"stat must have dims (..., layer, neuron), got {stat_map['stat'].dims}")
    _check_fraction("alpha", alpha)
    keep = _rule(control, alpha)
    ds = stat_map[["stat", "p_value", *(["z_score"] if "z_score" in stat_map else [])]].compute()
    mask = xr.apply_ufunc(
        keep,
        *_one_tail(ds, two_sided),
        input_core_dims=[["layer", "neuron"]] * 3,
        output_core_dims=[["layer", "neuron"]],
        vectorize=True,
        output_dtypes=[bool],
    )
    names = ("measure", "noise", "source", "source_name", "site", "contrast", "selected_on")
    attrs = {k: v for k, v in stat_map.attrs.items() if k in names}
    shown = control if isinstance(control, str) else repr(control)
    out: xr.DataArray = mask.rename("mask").assign_attrs(
        attrs, kind="mask", control=shown, alpha=alpha, two_sided=two_sided
    )
    return out


def _one_tail(ds: xr.Dataset, two_sided: bool) -> tuple[xr.DataArray, xr.DataArray, xr.DataArray]:
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
    if control == "bonferroni":
        return lambda stat, p, z: p <= alpha / max(int(np.isfinite(p).sum()), 1)
    if control in ("fdr", "by"):
        method: Literal["bh", "by"] = "bh" if control == "fdr" else "by"
        return lambda stat, p, z: _adjusted(p, method) <= alpha
    raise InputError(
        f"control must be 'fdr', 'by', 'bonferroni', P(...), Z(...) or Top(...), got {control!r}"
    )


def _adjusted(p: Float64, method: Literal["bh", "by"]) -> Float64:
    """Return the false discovery rates of the tests that there are; NaN elsewhere."""
    out = np.full(p.shape, np.nan)
    tested = np.isfinite(p)
    if tested.any():
        out[tested] = scipy.stats.false_discovery_control(p[tested], method=method)
    return out


def top_fraction(values: Float64, fraction: float) -> Bool:
    """Keep the largest values of a map, at least one, NaN never; among equal ones the first in order.

    >>> top_fraction(np.array([[1.0, 4.0], [3.0, 2.0]]), 0.5).tolist()
    [[False, True], [True, False]]
    """
    flat = values.ravel()
    usable = np.flatnonzero(~np.isnan(flat))
    n = min(max(1, round(fraction * len(usable))), len(usable))
    out = np.zeros(flat.size, dtype=bool)
    out[usable[np.argsort(-flat[usable], kind="stable")[:n]]] = True
    return out.reshape(values.shape)
