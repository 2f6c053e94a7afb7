"""Folds: parting the prompts so that what some select is looked at in others."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import xarray as xr

from ...store.errors import InputError
from ..design import prompt_labels


def held_out(
    ds: xr.Dataset, by: str = "run", n_folds: int | None = None, formula: str = "condition", seed: int = 0
) -> xr.DataArray:
    """Say which prompts each fold holds out.

    Parameters
    ----------
    ds
        A recording; its labels alone are read.
    by
        The label whose values are the folds. A recording without runs, or of one run, is parted in two.
    n_folds
        Instead: draw so many folds of equal size, balanced by the formula's label, condition and run.
    formula
        A label that drawn folds are balanced by, if it is one.
    seed
        Draws them; the order of the prompts does not matter.

    Returns
    -------
    DataArray bool (fold, prompt)
        Every prompt is in one fold; attrs ``folds`` says how they were made.

    Raises
    ------
    InputError
        The label is missing or has one value, or there are fewer prompts than folds.

    Examples
    --------
    >>> from actome.store.phantom import phantom
    >>> held_out(phantom(n_prompts=4, n_runs=2)).sum("prompt").to_numpy().tolist()
    [6, 6]
    """
    labels = prompt_labels(ds)
    if n_folds is None and by == "run" and ("run" not in labels or labels["run"].nunique() < 2):
        n_folds = 2
    if n_folds is not None:
        label = _dealt(labels, ds["prompt"].to_numpy(), formula, n_folds, seed)
        how = f"{n_folds} parts, drawn"
    elif by in labels:
        label = labels[by].to_numpy()
        how = by
    else:
        raise InputError(f"the recording has no label {by!r} to make folds of; it has {list(labels)}")
    values = np.unique(label)
    if len(values) < 2:
        raise InputError(f"{by!r} has one value in the prompts with tokens; give another label, or n_folds")
    return xr.DataArray(
        label == values[:, None],
        dims=("fold", "prompt"),
        coords={"fold": values, "prompt": ds["prompt"].to_numpy()},
        attrs={"folds": how},
    )


def _dealt(
    labels: pd.DataFrame, prompt: npt.NDArray[Any], formula: str, n_folds: int, seed: int
) -> npt.NDArray[np.int64]:
    """Deal the prompts of each label out in turn, in random order: the fold of each, (prompt,)."""
    if isinstance(n_folds, bool) or not isinstance(n_folds, int) or not 2 <= n_folds <= len(labels):
        raise InputError(f"n_folds must be a whole number from 2 to {len(labels)}, got {n_folds!r}")
    place = np.argsort(np.argsort(prompt))  # by name, so that the order of the prompts does not matter
    keys = [np.random.default_rng(seed).permutation(len(labels))[place]]
    for name in dict.fromkeys(("run", "condition", formula)):
        if name in labels:
            keys.append(np.unique(labels[name], return_inverse=True)[1])
    fold = np.empty(len(labels), dtype=np.int64)
    fold[np.lexsort(keys)] = np.arange(len(labels)) % n_folds
    return fold
