"""Independent components of white signals: the rotation that makes them least Gaussian.

All solvers look for the same: rows as independent as a tanh contrast can make them, under the constraint
that they stay uncorrelated. They differ in how they get there, and in what they do where there is nothing
to be found.
"""

import importlib
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from ...store.errors import InputError, MissingDependencyError
from ...store.moments import Float64
from .quasi_newton import quasi_newton

Solver = Literal["quasi-newton", "fastica", "picard"]

_MAX_ITER = 1000
_FASTICA_TOLERANCE = 1e-4
_TOLERANCE = 1e-6
_ONE_AT_A_TIME = threading.Lock()


@dataclass(frozen=True)
class Rotation:
    """What a solver found.

    Attributes
    ----------
    W
        (component, signal), orthogonal.
    converged, n_iterations
        Whether, and after how many iterations.
    """

    W: Float64
    converged: bool
    n_iterations: int


def check_solver(solver: str) -> None:
    """Refuse an unknown solver, and one that is not installed."""
    if solver not in _SOLVERS:
        raise InputError(f"solver must be one of {', '.join(_SOLVERS)}, got {solver!r}")
    if solver == "picard":
        _load_picard()


def rotate(X: Float64, start: Float64, solver: Solver, tolerance: float | None = None) -> Rotation:
    """Find independent components of white signals, in float64.

    Parameters
    ----------
    X
        (signal, sample), of zero mean and unit covariance.
    start
        (component, signal), of full rank; made orthogonal here.
    solver
        "quasi-newton", "fastica" or "picard".
    tolerance
        Largest element of the gradient at which to stop, 1e-6 if left out; not for "fastica", which goes
        by the step.
    """
    white = np.ascontiguousarray(X, dtype=np.float64)
    return _SOLVERS[solver](white, orthogonal(start), tolerance or _TOLERANCE)


def orthogonal(W: Float64) -> Float64:
    """Return the orthogonal matrix nearest to `W`."""
    U, _, V = np.linalg.svd(W)
    return np.asarray(U @ V)


def _quasi_newton(X: Float64, start: Float64, tolerance: float) -> Rotation:
    return Rotation(*quasi_newton(X, start, tolerance))


def _fastica(X: Float64, start: Float64, tolerance: float) -> Rotation:
    from sklearn.decomposition import FastICA
    from sklearn.exceptions import ConvergenceWarning

    ica = FastICA(whiten=False, w_init=start, max_iter=_MAX_ITER, tol=_FASTICA_TOLERANCE)
    with _recorded() as caught:
        ica.fit(X.T)
    failed = [w for w in caught if issubclass(w.category, ConvergenceWarning)]
    _warn_again([w for w in caught if w not in failed])
    return Rotation(orthogonal(ica.components_), not failed, int(ica.n_iter_))


def _load_picard() -> Any:
    try:
        return importlib.import_module("picard")
    except ImportError as error:
        raise MissingDependencyError(
            "solver='picard' needs the package python-picard; install actome[ica], or leave `solver` out"
        ) from error


def _picard(X: Float64, start: Float64, tolerance: float) -> Rotation:
    picard = _load_picard().picard
    with _recorded() as caught:
        _, W, _, n = picard(
            X, whiten=False, centering=False, ortho=True, w_init=start, max_iter=_MAX_ITER,
            tol=tolerance, return_n_iter=True,
        )  # fmt: skip
    failed = [w for w in caught if "did not converge" in str(w.message)]
    _warn_again([w for w in caught if w not in failed])
    return Rotation(orthogonal(W), not failed, int(n))


@contextmanager
def _recorded() -> Iterator[list[warnings.WarningMessage]]:
    """Record what is warned of; in one thread at a time, as Python has one record for all of them."""
    with _ONE_AT_A_TIME, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield caught


def _warn_again(caught: list[warnings.WarningMessage]) -> None:
    for w in caught:
        warnings.warn_explicit(w.message, w.category, w.filename, w.lineno)


_SOLVERS: dict[str, Callable[[Float64, Float64, float], Rotation]] = {
    "quasi-newton": _quasi_newton,
    "fastica": _fastica,
    "picard": _picard,
}
