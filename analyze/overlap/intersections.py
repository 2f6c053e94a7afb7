"""How large the intersection of two networks is by chance, given their sizes in each stratum."""

import numpy as np
import numpy.typing as npt

from ...store.moments import Float64

Int = npt.NDArray[np.int64]

_LEAST = 1e-140  # least probability that is told from others: products of two do not underflow


def by_chance(a: Int, b: Int, available: Int, both: Int) -> dict[str, Float64]:
    """Mean, excess and tails of intersections by chance: (network, network_other).

    `a` and `b` (network, stratum) are neurons in each stratum, out of `available` (stratum,).
    """
    m = np.maximum(available, 1).astype(np.float64)
    expected = a @ (b / m).T
    spread = (a * (m - a)) @ (b * (m - b) / (m**2 * np.maximum(m - 1, 1))).T
    more, less = np.empty(both.shape), np.empty(both.shape)
    for i, j in np.ndindex(*both.shape):
        lowest, mass = _intersection_distribution(a[i], b[j], available)
        at = int(np.clip(both[i, j] - lowest, 0, len(mass) - 1))
        more[i, j], less[i, j] = mass[at:].sum(), mass[: at + 1].sum()
    some = (a.sum(axis=1) > 0)[:, None] & (b.sum(axis=1) > 0)[None, :]
    excess = np.divide(both - expected, np.sqrt(spread), out=np.full(both.shape, np.nan), where=spread > 0)
    out = {
        "expected": expected,
        "excess": excess,
        "p_value": np.clip(more, _LEAST, 1.0),
        "p_value_less": np.clip(less, _LEAST, 1.0),
    }
    return {name: np.where(some, values, np.nan) for name, values in out.items()}


def _intersection_distribution(a: Int, b: Int, available: Int) -> tuple[int, Float64]:
    """Distribution of the intersection, sizes per stratum being given: the lowest value, and its masses.

    All terms are positive, so that the tails keep their digits, which they would not if the convolution
    went through a Fourier transform.
    """
    lowest, mass = 0, np.ones(1)
    for x, y, m in zip(a.tolist(), b.tolist(), available.tolist(), strict=True):
        if x and y:
            own = _hypergeometric(x, y, m)
            lowest += max(0, x + y - m)
            if len(mass) > 1:
                (start, mass), (own_start, own) = _body(mass), _body(own)
                lowest += start + own_start
            mass = np.convolve(mass, own)
    return lowest, mass


def _hypergeometric(x: int, y: int, m: int) -> Float64:
    """Masses of the intersection of x and y out of m, from the least to the largest that there can be.

    By their ratios, from the most probable outwards: it takes one multiplication each, and each keeps
    its digits until it underflows.
    """
    k = np.arange(max(0, x + y - m), min(x, y), dtype=np.float64)
    ratio = (x - k) * (y - k) / ((k + 1) * (m - x - y + k + 1))  # of each to the one before, falling
    mode = int((ratio >= 1).sum())
    mass = np.ones(len(k) + 1)
    mass[mode + 1 :] = np.cumprod(ratio[mode:])
    mass[:mode] = np.cumprod(1.0 / ratio[:mode][::-1])[::-1]
    return np.asarray(mass / mass.sum())


def _body(mass: Float64) -> tuple[int, Float64]:
    """Leave out both ends where the masses, or their products, are lost or slow to compute with."""
    some = np.flatnonzero(mass > _LEAST)
    return int(some[0]), mass[some[0] : some[-1] + 1]
