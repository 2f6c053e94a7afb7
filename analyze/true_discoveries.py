"""How many neurons of a region are truly active, for every region at once, whichever way it was chosen."""

from typing import Literal

import numpy as np
import xarray as xr

from .. import _version
from ..store.errors import InputError, InputTypeError
from ..store.moments import Float64
from ..store.provenance import ORIGIN
from ..store.selection import SELECTION
from .threshold import Bool, check_fraction, check_stat_map, one_tail

_TIES = 1 + 1e-12  # of alpha: rounding must not part a permutation's p from the bound that it equals


def true_discoveries(
    stat_map: xr.Dataset,
    regions: xr.DataArray | Literal["layer"],
    *,
    alpha: float = 0.05,
    two_sided: bool = False,
) -> xr.Dataset:
    """Bound from below how many neurons of each region are active (all-resolutions inference).

    With probability 1 - `alpha`, all bounds of a map hold at once: of these regions and of any others that
    could be asked for. So regions may be chosen after a look at the same map, thresholded at any level, and
    chosen again. It is closed testing with Simes' tests, which are valid where the neurons' tests are
    independent or positively dependent.

    Parameters
    ----------
    stat_map
        From `compute_contrast` or `permutation_test`: ``stat`` and ``p_value`` (..., layer, neuron);
        each map along further dimensions is a family of its own.
    regions
        bool (..., layer, neuron), such as masks of `threshold` or `networks`; or "layer": every layer.
    alpha
        The chance that any bound at all is too large.
    two_sided
        Count negative effects as active too; by default only positive ones.

    Returns
    -------
    Dataset, computed here: (...), dimensions of the map and of the regions, or (..., layer)

    discoveries : int, of the region's neurons at least so many are active
    proportion : float64, that number over `size`; NaN where size is 0
    size : int, neurons of the region that were tested; one without a statistic (it never varied, or it
        has a NaN) is not
    inactive : int (...), of all tested neurons at most so many are inactive: Hommel's value

    Raises
    ------
    InputError, InputTypeError
        `stat_map` is no map of tests, the regions are not bool or cover other neurons, or alpha is not
        between 0 and 1.

    References
    ----------
    .. [1] Goeman & Solari (2011), Stat. Sci. 26:584-597.
    .. [2] Rosenblatt et al. (2018), NeuroImage 181:786-796.
    .. [3] Meijer, Krebs & Goeman (2019), Biom. J. 61:73-82.
    """
    check_stat_map(stat_map, "true_discoveries")
    check_fraction("alpha", alpha)
    _check_regions(regions, stat_map["stat"])
    ds = stat_map[[v for v in ("stat", "p_value", "z_score") if v in stat_map]].compute()
    _, p, _ = one_tail(ds, two_sided)
    tested, places = p.notnull(), ["layer", "neuron"]
    inside, over = (tested, ["neuron"]) if isinstance(regions, str) else (tested & regions.compute(), places)
    limit = alpha * _TIES
    inactive = xr.apply_ufunc(
        _hommel_value, p, kwargs={"alpha": limit},
        input_core_dims=[places], vectorize=True, output_dtypes=[np.int64],
    )  # fmt: skip
    discoveries = xr.apply_ufunc(
        _active, p, inside, inactive, kwargs={"alpha": limit},
        input_core_dims=[over, over, []], vectorize=True, output_dtypes=[np.int64],
    )  # fmt: skip
    size = inside.sum(over)
    names = ("measure", "noise", *ORIGIN, "contrast", *SELECTION)
    return xr.Dataset(
        {
            "discoveries": discoveries,
            "proportion": discoveries / size.where(size > 0),
            "size": size,
            "inactive": inactive,
        },
        attrs={k: v for k, v in stat_map.attrs.items() if k in names}
        | {
            "kind": "discoveries",
            "alpha": alpha,
            "two_sided": two_sided,
            "assumption": "the neurons' tests are independent or positively dependent",
            "actome": _version.__version__,
        },
    )


def _check_regions(regions: xr.DataArray | str, stat: xr.DataArray) -> None:
    if isinstance(regions, str):
        if regions != "layer":
            raise InputError(f"regions must be bool masks or 'layer', got {regions!r}")
        return
    if (
        not isinstance(regions, xr.DataArray)
        or regions.dtype != bool
        or not {"layer", "neuron"} <= set(regions.dims)
    ):
        got = (regions.dtype, regions.dims) if isinstance(regions, xr.DataArray) else type(regions).__name__
        raise InputTypeError(f"regions must be bool (..., layer, neuron) or 'layer', got {got}")
    for dim in regions.dims:
        if dim in stat.dims and not np.array_equal(regions[dim].to_numpy(), stat[dim].to_numpy()):
            raise InputError(
                f"the regions and the map differ in {dim}: {regions.sizes[dim]} and {stat.sizes[dim]} "
                "of them, or others"
            )


def _hommel_value(p: Float64, alpha: float) -> int:
    """Size of the largest set of tests that Simes' test does not reject: that of the largest p-values.

    If a set of i is rejected, so is the one of i + 1, so the largest is found by halving: at most
    20 looks at a million sorted p-values.
    """
    ordered = np.sort(p[~np.isnan(p)])
    low, high = 0, len(ordered)
    while low < high:
        i = (low + high + 1) // 2
        if (ordered[-i:] > np.arange(1, i + 1) * (alpha / i)).all():
            low = i
        else:
            high = i - 1
    return low


def _active(p: Float64, inside: Bool, inactive: int, alpha: float) -> int:
    """Fewest active tests of those inside: the largest #{inactive * p <= u * alpha} + 1 - u, u = 1, 2, ..."""
    ordered = np.sort(p[inside])
    if not len(ordered):
        return 0
    u = np.maximum(np.ceil(inactive * ordered / alpha), 1)  # the least that counts each
    return max(0, int((np.arange(1, len(u) + 1) + 1 - u).max()))
