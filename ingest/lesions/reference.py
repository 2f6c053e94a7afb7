"""What a reference recording says of each neuron: its moments, and whole tokens to take values from."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from ...store.blocks import level_of, prompt_level, valid_tokens
from ...store.errors import InputError
from ...store.provenance import digest_bytes, digest_json
from ...store.schema import text_array

Float64 = npt.NDArray[np.float64]

_POOL_PROMPTS = 64  # read for the pool: few, however long the recording is
_POOL_TOKENS = 512


def mean_activation(
    reference: xr.Dataset, shape: tuple[int, int], site: str, *, magnitude: bool = False
) -> Float64:
    """Mean of each neuron over all tokens of a recording: (layer, neuron), by number.

    Raises
    ------
    InputError
        The reference is of another site, or lacks some of its layers or neurons.
    """
    ds, count = _moments(reference, shape, site)
    return _pooled_mean(ds["mean_abs" if magnitude else "mean"], count)


def standard_deviation(reference: xr.Dataset, shape: tuple[int, int], site: str) -> Float64:
    """Spread of each neuron over all tokens of a recording, its standard deviation: (layer, neuron)."""
    ds, count = _moments(reference, shape, site)
    mean = ds["mean"].where(count > 0, 0.0)
    shift = (mean - (mean * count).sum("prompt") / count.sum()) ** 2
    m2 = (ds["m2"].where(count > 0, 0.0) + count * shift).sum("prompt")
    return np.asarray(np.sqrt(m2.to_numpy() / int(count.sum())), dtype=np.float64)


def reference_identity(reference: xr.Dataset, magnitude: Float64, taken: str) -> dict[str, str]:
    """Say what was recorded, which prompts of it are looked at, and what is taken from them, by name.

    Parameters
    ----------
    reference
        It may have been cut or changed since it was opened, and not say so.
    magnitude
        (layer, neuron): what controls are matched on.
    taken
        Digest of what lesions put in, from `Change.digest`.
    """
    return {
        "reference": str(reference.attrs.get("manifest_digest", "")),
        "reference_prompts_digest": digest_json(_names(reference).tolist()),
        "reference_values_digest": digest_json([digest_bytes(rounded_bytes(magnitude)), taken]),
    }


def rounded_bytes(values: Float64) -> bytes:
    """Return the bytes of (layer, neuron) values to 24 bits below the largest of their layer.

    The last bits of a sum hang on how a recording is cut into chunks, and mean nothing to a model.
    """
    exponent = np.frexp(np.abs(values).max(axis=1, keepdims=True))[1]
    step = np.ldexp(1.0, exponent - 24)
    rounded = np.round(values / step) * step + 0.0  # no zero with a sign
    return np.ascontiguousarray(rounded, dtype="<f8").tobytes()


def _pooled_mean(values: xr.DataArray, count: xr.DataArray) -> Float64:
    mean = (values.where(count > 0, 0.0) * (count / count.sum())).sum("prompt").to_numpy()
    return np.asarray(mean, dtype=np.float64)


def _moments(reference: xr.Dataset, shape: tuple[int, int], site: str) -> tuple[xr.Dataset, xr.DataArray]:
    """Moments of each prompt with layers and neurons in the order of their numbers, and its tokens."""
    check_reference(reference, site)
    ds = prompt_level(reference)
    names = ["mean", "m2", "mean_abs"]
    _check_complete(ds["mean"], shape)
    ds = ds[[*names, "count"]].sortby(["layer", "neuron"])
    if not int(ds["count"].sum()):
        raise InputError("the reference has no tokens")
    return ds, ds["count"]


def check_reference(reference: xr.Dataset, site: str) -> None:
    """Refuse a recording of another site."""
    if reference.attrs.get("site", site) != site:
        raise InputError(f"the reference is of the site {reference.attrs['site']!r}, the lesion of {site!r}")


def _check_complete(values: xr.DataArray, shape: tuple[int, int]) -> None:
    sizes = tuple(values.sizes[d] for d in ("layer", "neuron"))
    if sizes != shape:
        raise InputError(f"the reference has (layer, neuron) {sizes}, the site {shape}")
    for dim, n in zip(("layer", "neuron"), shape, strict=True):
        if sorted(values[dim].to_numpy().tolist()) != list(range(n)):
            raise InputError(f"the reference must hold each {dim} from 0 to {n - 1} once")


@dataclass(frozen=True)
class Pool:
    """Tokens of the reference, each with the values of all neurons of the site.

    Attributes
    ----------
    values
        (token, layer, neuron) float32.
    prompt
        (token,): the prompt that each is of.
    """

    values: npt.NDArray[np.float32]
    prompt: npt.NDArray[np.str_]

    def others(self, prompt: str) -> npt.NDArray[np.int64]:
        """Return the places of the tokens that are of another prompt.

        Raises
        ------
        InputError
            There is none.
        """
        places = np.flatnonzero(self.prompt != prompt)
        if not len(places):
            raise InputError(
                f"the reference holds no prompt but {prompt!r}, and kind='resample' takes values of others"
            )
        return places


def token_pool(reference: xr.Dataset, shape: tuple[int, int], site: str, seed: int) -> Pool:
    """Draw tokens of a recording and read the values of all their neurons.

    At most 512 tokens of at most 64 prompts, drawn without replacement: the memory and the reading do
    not grow with the recording.

    Raises
    ------
    InputError
        The reference holds moments alone, is of another site, or lacks some of its layers or neurons.
    """
    check_reference(reference, site)
    if level_of(reference) != "token":
        raise InputError(
            "kind='resample' takes values of single tokens, and the reference holds the moments of each "
            "prompt alone; open it with level='token'"
        )
    _check_complete(reference["activation"], shape)
    rng = np.random.default_rng(seed)
    reference = reference.sortby(["layer", "neuron"])
    valid, names = valid_tokens(reference), _names(reference)
    by_name = np.argsort(names, kind="stable")  # the pool is the same in whichever order the prompts are
    there = by_name[valid[by_name].any(axis=1)]
    if not len(there):
        raise InputError("the reference has no tokens")
    prompts = there[np.sort(rng.choice(len(there), min(_POOL_PROMPTS, len(there)), replace=False))]
    places = np.argwhere(valid[prompts])  # (token, 2): prompt among those drawn, token in it
    places = places[np.sort(rng.choice(len(places), min(_POOL_TOKENS, len(places)), replace=False))]
    cube = reference["activation"].transpose("prompt", "token", "layer", "neuron")
    values = np.concatenate(
        [_tokens(cube, int(p), places[places[:, 0] == i, 1]) for i, p in enumerate(prompts)]
    )
    return Pool(values, names[prompts[places[:, 0]]])


def _names(reference: xr.Dataset) -> npt.NDArray[np.str_]:
    known = "prompt" in reference.coords
    return text_array(reference["prompt"].to_numpy() if known else np.arange(reference.sizes["prompt"]))


def _tokens(cube: xr.DataArray, prompt: int, tokens: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
    return np.asarray(cube.isel(prompt=prompt, token=tokens).to_numpy(), dtype=np.float32)
