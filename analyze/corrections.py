"""p-values corrected for the number of tests."""

from typing import Final, Literal

import numpy as np
import scipy.stats

from ..store.moments import Float64

Correction = Literal["fdr", "by", "holm", "none"]

# what each correction's error rate rests on, beside p-values that are each right
ASSUMPTIONS: Final = {
    "fdr": "the tests are independent or positively dependent",
    "by": "none beyond that of each p-value: any dependence between the tests",
    "holm": "none beyond that of each p-value: any dependence between the tests",
    "none": "each test is taken alone",
}


def corrected(p: Float64, correction: Correction) -> Float64:
    """P corrected for the number of tests that have one; NaN elsewhere.

    "fdr" is Benjamini-Hochberg's, "by" Benjamini-Yekutieli's.

    >>> corrected(np.array([0.01, 0.02, np.nan, 0.04]), "holm").tolist()
    [0.03, 0.04, nan, 0.04]
    """
    out = np.full(p.shape, np.nan)
    tested = np.isfinite(p)
    if not tested.any():
        return out
    found = p[tested]
    if correction == "holm":
        order = np.argsort(found, kind="stable")
        stepped = np.maximum.accumulate(found[order] * np.arange(len(found), 0, -1))
        found = np.empty_like(found)
        found[order] = np.minimum(stepped, 1.0)
    elif correction in ("fdr", "by"):
        found = scipy.stats.false_discovery_control(found, method="bh" if correction == "fdr" else "by")
    out[tested] = found
    return out
