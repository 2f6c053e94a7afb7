"""How many of a random sample lie in each of several groups, of which there may be billions in all."""

from typing import Any

import numpy as np
import numpy.typing as npt

Int = npt.NDArray[np.int64]


def random_counts(sizes: npt.ArrayLike, n: int, rng: np.random.Generator, n_draws: int = 1) -> Int:
    """Draw from the multivariate hypergeometric distribution, exactly and without numpy's limit of 1e9.

    Every member is taken by itself with the same probability, so that the counts are binomial; then, as
    there are some too many or too few, so many are given back or taken in addition, any of them alike.
    Whatever that probability, every sample of n is as likely as every other. It is n of all, so that only
    about sqrt(n) are moved.

    Parameters
    ----------
    sizes
        Members of each group.
    n
        Of the sample, at most all of them.
    rng
        Draws.
    n_draws
        Independent samples.

    Returns
    -------
    (draw, group)
    """
    groups: Int = np.asarray(sizes, dtype=np.int64)
    total = int(groups.sum())
    counts: Int = rng.binomial(groups, n / max(1, total), size=(n_draws, len(groups)))
    for own in counts:
        excess = int(own.sum()) - n
        if excess:
            pool: Any = own if excess > 0 else groups - own
            moved = rng.choice(int(pool.sum()), abs(excess), replace=False, shuffle=False)
            of = np.searchsorted(np.cumsum(pool), moved, side="right")
            own -= np.sign(excess) * np.bincount(of, minlength=len(groups))
    return counts
