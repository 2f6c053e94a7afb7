"""Which neurons a map keeps: their layers, numbers and tests, the strongest first."""

import numpy as np
import numpy.typing as npt
import pandas as pd
import xarray as xr

from ..store.moments import Bool

TESTS = ("effect", "stat", "z_score", "p_value", "p_corrected")


def kept_neurons(tested: xr.Dataset, mask: xr.DataArray) -> pd.DataFrame:
    """Tabulate the neurons that a mask keeps of one contrast, those with the largest statistic first.

    Parameters
    ----------
    tested
        From `compute_contrast` or `permutation_test`, one map: (layer, neuron).
    mask
        From `threshold`: bool (layer, neuron).

    Returns
    -------
    DataFrame
        ``layer``, ``neuron``, and of ``effect``, ``stat``, ``z_score``, ``p_value`` and ``p_corrected`` what
        the contrast has.
    """
    maps = {v: tested[v].transpose("layer", "neuron").to_numpy() for v in TESTS if v in tested}
    kept = mask.transpose("layer", "neuron").to_numpy()
    at = strongest_first(maps["stat"], kept, bool(mask.attrs.get("two_sided", False)))
    place = dict(zip(("layer", "neuron"), np.unravel_index(at, kept.shape), strict=True))
    numbers = {d: tested[d].to_numpy()[i] for d, i in place.items()}  # of a dim without labels, the places
    return pd.DataFrame({**numbers, **{v: values.ravel()[at] for v, values in maps.items()}})


def strongest_first(stat: npt.NDArray[np.floating], kept: Bool, two_sided: bool) -> npt.NDArray[np.int64]:
    """Order the neurons that are kept by their statistic, of two sides by its magnitude: places in the map.

    >>> strongest_first(np.array([[1.0, -5.0], [3.0, 3.0]]), np.ones((2, 2), bool), True).tolist()
    [1, 2, 3, 0]
    """
    there = np.flatnonzero(kept)
    values = stat.ravel()[there]
    return there[np.argsort(-(np.abs(values) if two_sided else values), kind="stable")]
