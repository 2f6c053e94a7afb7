"""Thresholds of a component's map: what lies far out in its own distribution over neurons."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from ...store.errors import InputError
from ...store.moments import Bool, Float64
from ..threshold import Top, Z, check_fraction, read_typed, top_fraction

FAR_OUT = Z(3.6)  # the default: standard deviations from the mean over neurons
FEWEST = 40  # neurons that a mixture is fitted to
_TAIL = 0.05  # of the neurons, where a mixture starts
_MAX_ITER = 2000


@dataclass(frozen=True)
class OfMaximum:
    """Keep what reaches this `fraction` of the map's largest value; controls no error rate."""

    fraction: float

    def __post_init__(self) -> None:
        """Check the value."""
        check_fraction("OfMaximum", self.fraction)


@dataclass(frozen=True)
class Mixture:
    """Keep what a mixture of Gaussians over neurons takes for something else than their bulk.

    The bulk is the Gaussian of the largest weight. A neuron is kept where it, and all that is farther out
    on its side, belong to the others with a probability above `posterior`. A map that a single Gaussian
    describes as well, by the Bayesian information criterion, has no network.

    Attributes
    ----------
    n_gaussians
        2 or 3: a third leaves each tail its own.
    posterior
        Between 0 and 1.
    """

    n_gaussians: int = 3
    posterior: float = 0.5

    def __post_init__(self) -> None:
        """Check the values."""
        if self.n_gaussians not in (2, 3):
            raise InputError(f"Mixture takes 2 or 3 Gaussians, got {self.n_gaussians!r}")
        check_fraction("Mixture", self.posterior)


MapThreshold = Z | Top | OfMaximum | Mixture

_KINDS: Final[dict[str, Callable[..., MapThreshold]]] = {
    "z": Z,
    "top": Top,
    "ofmaximum": OfMaximum,
    "mixture": Mixture,
}

ASSUMPTIONS = {
    Z: "none: a z over the neurons of the map, and no error rate is controlled",
    Top: "none: no error rate is controlled",
    OfMaximum: "none: no error rate is controlled",
    Mixture: "the map's values are a mixture of Gaussians, the heaviest of them that of neurons outside",
}


def read_map_threshold(text: str) -> MapThreshold:
    """Read a threshold as it is written in Python, or as results keep it.

    >>> read_map_threshold("Top(0.05)"), read_map_threshold("mixture()"), read_map_threshold(repr(Z(3.1)))
    (Top(fraction=0.05), Mixture(n_gaussians=3, posterior=0.5), Z(value=3.1))

    Raises
    ------
    InputError
        It is no threshold of maps, or its numbers are not allowed.
    """
    typed = read_typed(text, _KINDS)
    if typed is None:
        raise InputError(
            f"a threshold of maps is Z(3.6), Top(0.05), OfMaximum(0.5) or Mixture(3, 0.5), got {text!r}"
        )
    return typed


def far_out(values: Float64, threshold: MapThreshold, two_sided: bool) -> Bool:
    """Keep the neurons of one map (layer, neuron) that a threshold keeps; NaN never.

    >>> far_out(np.array([[0.0, 1.0, -4.0, 2.0]]), OfMaximum(0.5), False).tolist()
    [[False, True, False, True]]
    """
    if isinstance(threshold, Mixture):
        return _beside_the_bulk(values, threshold, two_sided)
    sides = np.abs(values) if two_sided else values
    if isinstance(threshold, Z):
        return np.asarray(sides >= threshold.value)
    if isinstance(threshold, Top):
        return top_fraction(sides, threshold.fraction)
    largest = np.max(sides, initial=0.0, where=~np.isnan(sides))
    return np.asarray((sides >= threshold.fraction * largest) & (sides > 0))


def _beside_the_bulk(values: Float64, threshold: Mixture, two_sided: bool) -> Bool:
    from sklearn.mixture import GaussianMixture

    finite = np.isfinite(values)
    z = values[finite]
    kept = np.zeros(len(z), dtype=bool)
    if len(z) >= FEWEST and np.ptp(z) > 0:
        rows = z[:, None]
        mixture = _fitted(z, threshold.n_gaussians)
        if mixture.bic(rows) < GaussianMixture(1, random_state=0).fit(rows).bic(rows):
            bulk = int(np.argmax(mixture.weights_))
            apart = 1.0 - mixture.predict_proba(rows)[:, bulk] > threshold.posterior
            centre = float(mixture.means_[bulk, 0])
            kept = _outermost(z - centre, apart)
            if two_sided:
                kept |= _outermost(centre - z, apart)
    out = np.zeros(values.shape, dtype=bool)
    out[finite] = kept
    return out


def _fitted(z: Float64, n: int) -> Any:
    """Fit from a start that the values alone decide: the bulk, and the tails one by one or together."""
    from sklearn.mixture import GaussianMixture

    ranks = np.argsort(np.argsort(z if n == 3 else np.abs(z - np.median(z)), kind="stable"), kind="stable")
    share = (ranks + 0.5) / len(z)
    edges = [_TAIL / 2, 1 - _TAIL / 2] if n == 3 else [1 - _TAIL]
    parts = [z[np.digitize(share, edges) == i] for i in range(n)]
    floor = 1e-6 * z.var()
    mixture = GaussianMixture(
        n,
        covariance_type="spherical",
        tol=1e-5,
        max_iter=_MAX_ITER,
        weights_init=[len(p) / len(z) for p in parts],
        means_init=[[p.mean()] for p in parts],
        precisions_init=[1.0 / (p.var() + floor) for p in parts],
        random_state=0,
    )
    return mixture.fit(z[:, None])


def _outermost(height: Float64, apart: Bool) -> Bool:
    """Keep the highest values as long as all of them are apart."""
    order = np.argsort(-height, kind="stable")
    out = np.zeros(len(height), dtype=bool)
    out[order] = np.logical_and.accumulate(apart[order] & (height[order] > 0))
    return out
