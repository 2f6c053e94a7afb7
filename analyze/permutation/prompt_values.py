"""Permutation inference for any numbers that each prompt has, such as the strength of an edge."""

from collections.abc import Mapping, Sequence

import numpy as np
import xarray as xr

from ...store.errors import InputError
from .max_t import permutation_test

_MAPS = ("effect", "stat", "p_value", "p_corrected")


def permute_prompt_values(
    values: xr.DataArray,
    contrast: str | Mapping[str, float],
    *,
    formula: str = "condition",
    confounds: Sequence[str] | None = None,
    n_permutations: int = 1000,
    seed: int = 0,
    two_sided: bool = True,
) -> xr.Dataset:
    """Test a contrast of labels on numbers of prompts, corrected for all numbers by the largest statistic.

    Each prompt is one row of the model, whatever its number of tokens.

    Parameters
    ----------
    values
        (prompt, x), with the labels of the prompts as coordinates; x is any one dimension. A number that
        is NaN for any prompt is not tested.
    contrast, formula, confounds, n_permutations, seed, two_sided
        As of `permutation_test`, whose test this is.

    Returns
    -------
    Dataset
        ``effect``, ``stat``, ``p_value``, ``p_corrected`` (x), ``null_max`` (permutation), and the attrs of
        `permutation_test`.
    """
    (name,) = (str(d) for d in values.dims if d != "prompt")
    numbers = values.transpose("prompt", name).to_numpy().astype(np.float64)
    if "prompt" not in values.coords:
        raise InputError("the values need the ids of their prompts, as the coordinate 'prompt'")
    dims = ("prompt", "layer", "neuron")
    labels = {c: values[c].variable for c in values.coords if values[c].dims == ("prompt",)}
    if "n_tokens" in (confounds or ()) and "n_tokens" not in labels:  # which are not the rows counted below
        raise InputError("confounds name 'n_tokens', but the values do not say how many tokens a prompt has")
    moments = xr.Dataset(
        {
            "count": ("prompt", np.ones(len(numbers), dtype=np.int64)),
            "mean": (dims, numbers[:, None]),
            "m2": (dims, np.zeros_like(numbers)[:, None]),
            "mean_abs": (dims, np.abs(numbers)[:, None]),
        },
        coords=labels,
    )
    tested = permutation_test(
        moments,
        contrast,
        formula=formula,
        measure="signed",
        unit="prompt",
        confounds=confounds,
        n_permutations=n_permutations,
        seed=seed,
        two_sided=two_sided,
    )
    return xr.Dataset(
        {v: (name, tested[v].to_numpy()[0]) for v in _MAPS} | {"null_max": tested["null_max"]},
        coords={name: values[name].variable} if name in values.coords else {},
        attrs={k: v for k, v in tested.attrs.items() if k not in ("measure", "level", "source", "site")},
    )
