"""The contract: what a recording holds. Everything that reads or writes one is driven by this file.

A recording is one Zarr group: a root shared by all sites, one child group per site, and in each
site a group ``summary`` of per-prompt moments.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import xarray as xr

VERSION: Final = 1

SITES: Final[Mapping[str, str]] = {
    "mlp": "hidden activation of the MLP after the non-linearity and gate: the input of its down-projection",
    "mlp_out": "output of the MLP",
    "attention_out": "output of the attention",
    "residual": "output of the block",
}

ACTIVATION_DIMS: Final = ("prompt", "token", "layer", "neuron")


@dataclass(frozen=True)
class Variable:
    """One array of a recording.

    Attributes
    ----------
    name, dims
        Its name, and its dimensions in order.
    dtypes
        The types it may have, as NumPy names; ``str`` is variable-length text. The first is what
        a recording gets by default.
    meaning
        What the numbers are, with their units.
    missing
        The value of an entry that was not recorded.
    required
        False where a recording made by `save` may lack it.
    """

    name: str
    dims: tuple[str, ...]
    dtypes: tuple[str, ...]
    meaning: str
    missing: Any
    required: bool = False

    def matches(self, dtype: np.dtype[Any]) -> bool:
        """Say whether an array of this type may be stored under this name."""
        if dtype.kind in "OUT":
            return "str" in self.dtypes
        return dtype.name in self.dtypes


_NAN = float("nan")
_PROMPT = ("prompt",)
_PROMPT_TOKEN = ("prompt", "token")
_INT = ("int64", "int32")

ROOT: Final = (
    Variable("prompt", _PROMPT, ("str",), "unique id of the prompt", "", required=True),
    Variable("text", _PROMPT, ("str",), "what was shown", ""),
    Variable("condition", _PROMPT, ("str",), "its label in the experiment", ""),
    Variable("block", _PROMPT, _INT, "block of the experimental design, counted through the paradigm", -1),
    Variable("run", _PROMPT, _INT, "run of the experimental design", -1),
    Variable("completion", _PROMPT, ("str",), "text that the model generated", ""),
    Variable("n_tokens", _PROMPT, _INT, "tokens recorded of the prompt, padding excluded", 0),
    Variable("token_id", _PROMPT_TOKEN, ("int32",), "id in the tokenizer's vocabulary; -1 on padding", -1),
    Variable("char_start", _PROMPT_TOKEN, ("int32",), "first character of the token in `text`", -1),
    Variable("char_end", _PROMPT_TOKEN, ("int32",), "character after the token's last in `text`", -1),
    Variable(
        "position", _PROMPT_TOKEN, ("int32",), "place in what the model read, 0-based; -1 on padding", -1
    ),
    Variable("generated", _PROMPT_TOKEN, ("bool",), "produced by the model, not given", False),
    Variable(
        "logprob",
        _PROMPT_TOKEN,
        ("float32",),
        "natural logarithm of p(token given those before), nats; NaN on the first and on padding",
        _NAN,
    ),
    Variable("recorded", _PROMPT, ("bool",), "this prompt is complete; written last", False),
)

SITE: Final = (
    Variable(
        "activation",
        ACTIVATION_DIMS,
        ("float16", "float32", "float64"),
        "activation of the neuron at the token, model units; NaN on padding; "
        "absent where only the moments were kept",
        _NAN,
        required=True,
    ),
    Variable("layer", ("layer",), _INT, "block of the network, 0-based", -1, required=True),
    Variable("neuron", ("neuron",), _INT, "neuron of the layer, 0-based", -1, required=True),
    Variable("hook_name", ("layer",), ("str",), "module whose input or output was recorded", ""),
)

SUMMARY: Final = (
    Variable("count", _PROMPT, _INT, "tokens that entered the moments", 0, required=True),
    Variable(
        "mean",
        ("prompt", "layer", "neuron"),
        ("float64",),
        "mean of the activation over tokens, model units",
        _NAN,
        required=True,
    ),
    Variable(
        "m2",
        ("prompt", "layer", "neuron"),
        ("float64",),
        "sum over tokens of squared deviations from the mean, model units squared",
        _NAN,
        required=True,
    ),
    Variable(
        "mean_abs",
        ("prompt", "layer", "neuron"),
        ("float64",),
        "mean of |activation| over tokens, model units",
        _NAN,
        required=True,
    ),
)


INDEX: Final = (
    Variable(
        "extreme_value",
        ("end", "rank", "layer", "neuron"),
        ("float32", "float64"),
        "activation of the neuron at its highest and lowest tokens, the most extreme first, model units",
        _NAN,
        required=True,
    ),
    Variable(
        "extreme_prompt",
        ("end", "rank", "layer", "neuron"),
        ("int32",),
        "place of the prompt along `prompt`, 0-based; -1 where there are fewer tokens",
        -1,
        required=True,
    ),
    Variable(
        "extreme_token",
        ("end", "rank", "layer", "neuron"),
        ("int32",),
        "place of the token along `token`, 0-based; -1 where there are fewer tokens",
        -1,
        required=True,
    ),
    Variable(
        "quantile_value",
        ("quantile", "layer", "neuron"),
        ("float64",),
        "value below which this share of a sample of the tokens lies, model units",
        _NAN,
        required=True,
    ),
    Variable("quantile", ("quantile",), ("float64",), "share of the tokens", _NAN, required=True),
)


def declared(variables: tuple[Variable, ...]) -> dict[str, Variable]:
    """Return declarations by name."""
    return {v.name: v for v in variables}


def breaches_of(ds: xr.Dataset, variables: tuple[Variable, ...], where: str) -> list[str]:
    """Return what in a Dataset departs from the declarations, one line each."""
    lines = []
    for v in variables:
        if v.name not in ds.variables:
            if v.required:
                lines.append(f"{where}{v.name} is missing")
            continue
        array = ds[v.name]
        if array.dims != v.dims:
            lines.append(f"{where}{v.name} must have dims {v.dims}, got {array.dims}")
        if not v.matches(array.dtype):
            lines.append(f"{where}{v.name} must be {' or '.join(v.dtypes)}, got {array.dtype}")
    return lines


def breaches(ds: xr.Dataset) -> list[str]:
    """Return what keeps a Dataset from being saved as one site of a recording.

    Labels may be missing, and so may the numbers of layers and neurons.
    """
    optional = ("layer", "neuron")
    site = tuple(v for v in SITE if v.name not in optional or v.name in ds.coords)
    root = tuple(v for v in ROOT if v.name != "prompt" or v.name in ds.variables)
    lines = breaches_of(ds, site, "")
    lines += [b for b in breaches_of(ds, root, "") if not b.startswith("prompt must be str")]
    lines += [f"there is nothing along {d!r}" for d in ACTIVATION_DIMS if ds.sizes.get(d) == 0]
    if not lines and "prompt" in ds.coords:
        ids = ds["prompt"].to_numpy().astype(str)
        if len(np.unique(ids)) < len(ids):
            lines.append("prompt ids must be unique")
    return lines


def text_array(values: Any) -> npt.NDArray[np.str_]:
    """Return text as NumPy's fixed-width strings, whichever of its string types it comes in."""
    return np.asarray(values, dtype=object).astype(str)
