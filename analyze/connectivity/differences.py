"""Whether connectivity differs between conditions: every edge over prompts, corrected for all edges."""

from collections.abc import Mapping, Sequence

import numpy as np
import xarray as xr

from ...store.errors import InputError, InputTypeError
from ...store.moments import Float64
from ...store.provenance import ORIGIN
from ..permutation.prompt_values import permute_prompt_values


def connectivity_difference(
    connected: xr.Dataset,
    contrast: str | Mapping[str, float],
    *,
    confounds: Sequence[str] | None = None,
    n_permutations: int = 1000,
    seed: int = 0,
    two_sided: bool = True,
) -> xr.Dataset:
    """Test a contrast of conditions on the connectivity of every two networks.

    The prompts' Fisher z are compared, each prompt counting once, by the permutation test of
    `permutation_test`: labels are exchanged between the prompts of a run.

    Parameters
    ----------
    connected
        From `connectivity`, with conditions.
    contrast
        "fr - en", "fr - mean(rest)", or condition -> weight; the weights sum to zero.
    confounds, n_permutations, seed
        As of `permutation_test`.
    two_sided
        Correct for differences of either sign.

    Returns
    -------
    Dataset (network, network_other), symmetric, computed here; NaN on the diagonal, and for an edge that some
    prompt of those with enough tokens has no correlation for

    effect : difference of the mean Fisher z
    stat : t, robust to unequal variances of the conditions
    p_value : uncorrected, two-sided
    p_corrected : chance that any edge reaches this t (max-T)
    null_max : (permutation), the largest t over edges, or its largest magnitude

    Raises
    ------
    InputError, InputTypeError
        These are no correlations by condition, or the contrast cannot be tested by exchanging labels.
    """
    if not isinstance(connected, xr.Dataset) or "fisher_z" not in connected:
        raise InputTypeError("connectivity_difference takes what connectivity returns")
    by = str(connected.attrs.get("by", ""))
    if not by:
        raise InputError("the connectivity is of all prompts together; make it with by='condition'")
    z = connected["fisher_z"].transpose("prompt", "network", "network_other").to_numpy()
    there = ~np.isnan(z).all(axis=(1, 2))
    first, second = np.triu_indices(z.shape[1], 1)
    labels = {str(c): connected[c].variable for c in connected.coords if connected[c].dims == ("prompt",)}
    if "prompt_condition" in labels:
        labels["condition"] = labels.pop("prompt_condition")
    values = xr.DataArray(z[:, first, second], dims=("prompt", "edge"), coords=labels).isel(
        prompt=np.flatnonzero(there)
    )
    tested = permute_prompt_values(
        values,
        contrast,
        formula=by,
        confounds=confounds,
        n_permutations=n_permutations,
        seed=seed,
        two_sided=two_sided,
    )
    dims = ("network", "network_other")
    square = {
        v: (dims, _square(tested[v].to_numpy(), z.shape[1])) for v in tested if tested[v].dims == ("edge",)
    }
    names = connected["network"].to_numpy()
    origin = ("partial", "shrinkage", *ORIGIN, "n_left_out")
    return xr.Dataset(
        {**square, "null_max": tested["null_max"]},
        coords={"network": names, "network_other": names},
        attrs={
            **tested.attrs,
            **{k: connected.attrs[k] for k in origin if k in connected.attrs},
            "kind": "connectivity_difference",
            "n_edges": int(np.isfinite(tested["stat"].to_numpy()).sum()),
        },
    )


def _square(edges: Float64, n: int) -> Float64:
    """Lay the values of edges out as a symmetric matrix, NaN on its diagonal."""
    out = np.full((n, n), np.nan)
    out[np.triu_indices(n, 1)] = edges
    return np.asarray(np.fmax(out, out.T))
