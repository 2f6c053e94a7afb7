"""What stands at some places of a recording: the token, the text around it, the labels of its prompt."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import xarray as xr

from ..archive import array_of, opened_from

Places = npt.NDArray[np.int64]

_CONTEXT = 40  # characters shown on either side of a token


def describe_tokens(ds: xr.Dataset, prompt: Places, token: Places) -> pd.DataFrame:
    """Say what stands at some places of a recording, one row each.

    Parameters
    ----------
    ds
        With whatever labels it has.
    prompt, token
        Places along the two axes.
    """
    labels = {name: ds[name] for name in ("token_id", "char_start", "char_end") if name in ds.variables}
    named = _values_at(labels, prompt, token)
    ids = ds["prompt"].to_numpy()[prompt] if "prompt" in ds.coords else prompt
    out: dict[str, Any] = {"prompt": ids, "token": token}
    if "token_id" in named:
        out["token_id"] = named["token_id"]
    if {"char_start", "char_end"} <= set(named) and "text" in ds.variables:
        out |= _context(ds["text"].to_numpy()[prompt], named["char_start"], named["char_end"])
    if "condition" in ds.variables:
        out["condition"] = ds["condition"].to_numpy()[prompt]
    return pd.DataFrame(out)


def _values_at(labels: dict[str, xr.DataArray], prompt: Places, token: Places) -> dict[str, Places]:
    """Read labels of some tokens: of an array as it was opened from the store itself, which is quicker."""
    source = opened_from(*labels.values()) if labels else None
    if source is not None:
        group = source.location.group()
        return {name: np.asarray(array_of(group, name).vindex[prompt, token]) for name in labels}
    prompts, row = np.unique(prompt, return_inverse=True)
    return {
        name: label.transpose("prompt", "token")[prompts].to_numpy()[row, token]
        for name, label in labels.items()
    }


def _context(texts: npt.NDArray[Any], starts: Places, ends: Places) -> dict[str, list[str]]:
    """Cut each text into what comes before a token, the token, and what comes after it."""
    out: dict[str, list[str]] = {"before": [], "text": [], "after": []}
    for text, start, end in zip(map(str, texts), starts, ends, strict=True):
        known = start >= 0  # a special token, or one that the model wrote, has no place in the text
        out["before"].append(text[max(0, start - _CONTEXT) : start] if known else "")
        out["text"].append(text[start:end] if known else "")
        out["after"].append(text[end : end + _CONTEXT] if known else "")
    return out
