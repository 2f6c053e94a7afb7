"""What the analyses of subjects ask of a recording, and what they keep of its labels."""

from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from ...store.blocks import level_of, with_tokens
from ...store.errors import InputError
from ...store.schema import text_array

Int = npt.NDArray[np.int64]

_RESERVED = ("subject", "component", "network", "hook_name")


def recording_with_tokens(ds: xr.Dataset, who: str) -> xr.Dataset:
    """Return the prompts that have tokens.

    Raises
    ------
    InputError
        The recording is one of prompts only, or has no token at all.
    """
    if level_of(ds) != "token":
        raise InputError(
            f"{who} needs the activations of tokens; open the recording with level='token', or "
            "record it with keep='full' (--keep full)"
        )
    ds = with_tokens(ds)
    if not ds.sizes["prompt"]:
        raise InputError(f"{who} needs a recording with tokens; no prompt has any")
    return ds


def check_neurons(ds: xr.Dataset, maps: xr.DataArray, what: str) -> None:
    """Refuse maps or masks of other layers or neurons than those of the recording."""
    for dim in ("layer", "neuron"):
        if not np.array_equal(maps[dim].to_numpy(), ds[dim].to_numpy()):
            raise InputError(
                f"the {what} and the recording differ in {dim}: "
                f"{maps.sizes[dim]} and {ds.sizes[dim]} of them, or others"
            )


def subjects_of(ds: xr.Dataset, subject: str) -> tuple[npt.NDArray[Any], Int]:
    """Name the subjects, and say which one each prompt belongs to: (subject,), (prompt,).

    Raises
    ------
    InputError
        `subject` is neither "prompt" nor a label of the prompts.
    """
    n = ds.sizes["prompt"]
    if subject == "prompt":
        names = ds["prompt"].to_numpy() if "prompt" in ds.coords else np.arange(n)
        return (text_array(names).astype(object) if names.dtype.kind in "OUT" else names), np.arange(n)
    if subject not in ds.coords or ds[subject].dims != ("prompt",):
        raise InputError(f"subject must be 'prompt' or a label of the prompts, got {subject!r}")
    values = ds[subject].to_numpy()
    text = values.dtype.kind in "OUT"
    names, code = np.unique(text_array(values) if text else values, return_inverse=True)
    return (names.astype(object) if text else names), code.reshape(-1).astype(np.int64)


def labels_of(ds: xr.Dataset, *dims: str) -> dict[str, xr.Variable]:
    """Return the coordinates that lie along these dimensions alone, but for names that results use."""
    names = [str(c) for c in ds.coords if ds[c].dims and set(ds[c].dims) <= set(dims) and c not in _RESERVED]
    return {c: ds[c].variable for c in names}
