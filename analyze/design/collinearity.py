"""How far regressors can be told apart: exact dependence, and variance inflation."""

from collections.abc import Iterable, Sequence
from typing import Final

import numpy as np

from ...store.errors import InputError
from ...store.moments import Bool, Float64

_DEPENDENT: Final = 1e-10  # what is left of a unit regressor once those before are taken from it, if any is
_ABSENT: Final = 1e-6  # a weight in a sum of unit regressors that is none
HIGH_INFLATION: Final = 30.0
_SHOWN: Final = 3


def triangle(blocks: Iterable[Float64], n_regressors: int) -> Float64:
    """Reduce rows to a few with the same sums of products, and with the digits of a QR.

    Parameters
    ----------
    blocks
        (row, regressor) each: the rows of the design, weighted by roots, after the weight itself as the
        first column.
    n_regressors
        Without that first column.

    Returns
    -------
    (1 + regressor, 1 + regressor), upper triangular. Below its first row is what is left of the
    regressors once their means are taken from them.
    """
    R: Float64 = np.zeros((0, n_regressors + 1))
    for block in blocks:
        R = np.asarray(np.linalg.qr(np.concatenate([R, block]), mode="r"))
    out = np.zeros((n_regressors + 1, n_regressors + 1))
    out[: len(R)] = R
    return out


def variance_inflation(R: Float64, names: Sequence[str]) -> Float64:
    """How many times larger the others make the variance of each regressor's effect: (regressor,).

    1 / (1 - R^2) of the regression of each on the others; R^2 is taken about the mean where the others
    have a constant among them, or add up to one.

    Parameters
    ----------
    R
        From `triangle`.
    names
        The regressors.

    Raises
    ------
    InputError
        Regressors are linearly dependent.

    References
    ----------
    .. [1] Marquardt (1970), Technometrics 12:591-612.
    """
    norm = np.linalg.norm(R[:, 1:], axis=0)
    unit = R[:, 1:] / np.where(norm > 0, norm, 1.0)  # nothing may depend on a regressor's units
    square = np.linalg.qr(unit, mode="r")
    if np.abs(np.diag(square)).min() <= _DEPENDENT:
        raise InputError(_dependence(unit, names))
    left = 1.0 / np.square(np.linalg.inv(square)).sum(axis=1)
    about_mean = np.square(unit[1:]).sum(axis=0)
    return np.asarray(np.maximum(np.where(_others_hold_constant(unit), about_mean, 1.0) / left, 1.0))


def _others_hold_constant(unit: Float64) -> Bool:
    """Whether the other regressors add up to a constant: (regressor,)."""
    constant = np.eye(len(unit))[0]
    weights = np.linalg.lstsq(unit, constant, rcond=None)[0]
    spanned = np.linalg.norm(constant - unit @ weights) < _ABSENT
    return np.asarray(spanned & (np.abs(weights) < _ABSENT))


def _dependence(unit: Float64, names: Sequence[str]) -> str:
    """Say which regressors depend on which, each group without what it does not need."""
    kept: list[int] = []
    groups = []
    for i, column in enumerate(unit.T):
        weights = np.linalg.lstsq(unit[:, kept], column, rcond=None)[0]
        if np.linalg.norm(column - unit[:, kept] @ weights) > _DEPENDENT:
            kept.append(i)
        else:
            group = [names[j] for j, w in zip(kept, weights, strict=True) if abs(w) > _ABSENT]
            groups.append([*group, names[i]])
    zero = [group[0] for group in groups if len(group) == 1]
    shown = [f"{g} depend on each other" for g in groups if len(g) > 1][:_SHOWN]
    shown = [*shown, f"{zero} are zero wherever there are tokens"] if zero else shown
    constant = ", or the constant with '0 + ...'" if any("Intercept" in group for group in groups) else ""
    return (
        f"the {len(names)} regressors have rank {len(kept)}: {'; '.join(shown)}; "
        f"leave a confound or a term out{constant}"
    )


def high_inflation(vif: Float64, R: Float64, names: Sequence[str], wanted: Bool) -> str:
    """Say which of the `wanted` regressors can hardly be told from others; "" where none."""
    varies = np.linalg.norm(R[1:, 1:], axis=0) > _DEPENDENT * np.linalg.norm(R[:, 1:], axis=0)
    high = np.flatnonzero(wanted & varies & (vif > HIGH_INFLATION))
    if not high.size:
        return ""
    shown = ", ".join(f"{names[i]!r} ({vif[i]:.3g})" for i in high.tolist())
    return (
        f"the variance inflation factor of {shown} is above {HIGH_INFLATION:g}: the other regressors nearly "
        "add up to it, so its effect is poorly known; leave a term out, or write center(x) for a number x"
    )
