"""Slow changes over the order of the prompts, which an experiment in blocks must not mistake for effects."""

from typing import Any, Final, Literal, SupportsFloat

import numpy as np
import numpy.typing as npt

from ...store.errors import InputError, InputTypeError
from ...store.moments import Float64
from .columns import Columns, categories

Drift = Literal["linear", "quadratic", "cosine"] | tuple[Literal["cosine"], float]

_PERIOD: Final = 128.0  # prompts in the shortest cycle that "cosine" takes for drift


def read_drift(drift: object) -> tuple[str, float] | None:
    """Return the kind of drift, and how many prompts the shortest cycle of "cosine" has.

    Raises
    ------
    InputError, InputTypeError
        It is none of those that there are.
    """
    if drift is None:
        return None
    kind, period = drift, _PERIOD
    if isinstance(drift, tuple | list) and len(drift) == 2 and drift[0] == "cosine":
        kind, period = drift
    if not isinstance(kind, str) or kind not in ("linear", "quadratic", "cosine"):
        raise InputError(
            "drift must be None, 'linear', 'quadratic', 'cosine' or ('cosine', prompts a cycle), "
            f"got {drift!r}"
        )
    if isinstance(period, str | bool) or not isinstance(period, SupportsFloat):
        raise InputTypeError(f"the period of a cosine drift must be a number of prompts, got {period!r}")
    if not 2 < float(period) < np.inf:
        raise InputError(f"the period of a cosine drift must be more than 2 prompts, got {period}")
    return kind, float(period)


def drift_columns(
    kind: str, period: float, runs: npt.NDArray[Any] | None, weight: npt.NDArray[np.int64]
) -> Columns:
    """Make the columns of a drift, each run's own.

    Parameters
    ----------
    kind
        "linear", "quadratic", or "cosine": all discrete cosines whose cycles have `period` prompts or more.
    period
        In prompts.
    runs
        (prompt,); None where there are no runs.
    weight
        (prompt,): how many rows a prompt has; one without any has no place in the order.

    Returns
    -------
    Columns
        (prompt,) each: zero outside the run, 1 at the largest within; orthogonal to the run's mean and to
        each other over the rows.

    Raises
    ------
    InputError
        A run has too few prompts, or no cosine fits any run.

    References
    ----------
    .. [1] Ahmed, Natarajan & Rao (1974), IEEE Trans. Comput. C-23:90-93.
    """
    labels, code = categories("run", np.zeros(len(weight)) if runs is None else runs)
    out: Columns = {}
    for i, label in enumerate(labels):
        own = np.flatnonzero((code == i) & (weight > 0))
        suffix = f"[{label}]" if len(labels) > 1 else ""
        basis = _cosines(len(own), period) if kind == "cosine" else _powers(len(own), kind)
        n_columns = basis.shape[1]
        if n_columns >= max(len(own), 1):
            raise InputError(
                f"drift {kind!r} needs {n_columns + 1} prompts with tokens or more in every run, "
                f"got {len(own)} in {f'run {label}' if suffix else 'all'}"
            )
        names = [f"cosine_{j + 1}" for j in range(n_columns)] if kind == "cosine" else ["linear", "quadratic"]
        for name, column in zip(names, _orthogonal(basis, weight[own]).T, strict=False):
            out[name + suffix] = np.zeros(len(weight))
            out[name + suffix][own] = column
    if not out:
        raise InputError(
            f"drift 'cosine': half a cycle of {period:g} prompts fits into no run, the longest has "
            f"{np.bincount(code[weight > 0]).max()}; name a shorter cycle, as in ('cosine', 40)"
        )
    return out


def _powers(n: int, kind: str) -> Float64:
    place = np.linspace(-1.0, 1.0, n)
    return np.stack([place, place**2][: 1 if kind == "linear" else 2], axis=1)


def _cosines(n: int, period: float) -> Float64:
    """Discrete cosines, type II, of `period` places a cycle or more: (place, cosine)."""
    half_cycles = np.arange(1, min(n - 1, int(2 * n / period)) + 1)
    return np.cos(np.pi * half_cycles * (np.arange(n)[:, None] + 0.5) / n)


def _orthogonal(basis: Float64, weight: npt.NDArray[np.int64]) -> Float64:
    """Take from each column its mean and those before it, over weighted rows; 1 at its largest."""
    root = np.sqrt(weight)[:, None]
    Q, R = np.linalg.qr(root * np.column_stack([np.ones(len(basis)), basis]))
    columns = Q[:, 1:] * np.sign(np.diag(R)[1:]) / root
    return np.asarray(columns / np.abs(columns).max(axis=0, initial=0.0))
