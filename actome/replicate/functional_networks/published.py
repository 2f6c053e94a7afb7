"""Figures that the study published, in the form of our own results."""

from typing import Final

import numpy as np
import xarray as xr

# matching components of the templates 1 to 10 in 100 samples, for GPT-2
_COUNTS: Final = {
    "AG News": (15, 7, 12, 31, 32, 87, 63, 21, 15, 11),
    "Wikitext-2": (208, 119, 59, 145, 91, 4, 41, 58, 0, 18),
    "MathQA": (142, 109, 31, 91, 32, 6, 35, 43, 51, 118),
    "CodeNet": (140, 85, 44, 114, 135, 107, 134, 71, 112, 79),
}
_SAMPLES: Final = 100


def published_recurrence() -> list[xr.Dataset]:
    """Return the study's counts for every data set, as the report takes them."""
    return [
        xr.Dataset(
            {"components": ("network", np.array(counts))},
            coords={"network": [str(i) for i in range(1, len(counts) + 1)]},
            attrs={
                "kind": "recurrence",
                "published": True,
                "n_samples": _SAMPLES,
                "title": f"published: GPT-2, {name}",
            },
        )
        for name, counts in _COUNTS.items()
    ]


def of_counts() -> str:
    """Say between which numbers the study's counts lie."""
    return "; ".join(f"{name} {min(counts)} to {max(counts)}" for name, counts in _COUNTS.items()) + "."
