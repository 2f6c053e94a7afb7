"""A recording written anew, its activations in another type."""

import os
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ..errors import InputError
from ..imports.stream import check_target
from ..moments import Bool, masked_moments
from ..precision import fit
from ..writer import RecordingWriter, real_tokens
from .chain import Chain, ChainCube
from .deriving import Content, as_it_is, derived, operation, write_derived
from .finished import Finished

DTYPES: Final = ("float16", "float32", "float64")


def cast(path: str | os.PathLike[str], out: str | os.PathLike[str], dtype: str, *, clip: bool = False) -> str:
    """Write a recording anew with its activations in another type.

    The moments are those of the cast values. Written unit by unit; interrupted, the same call goes on.

    Parameters
    ----------
    path
        A finished recording.
    out
        Where the new one goes.
    dtype
        "float16", "float32" or "float64". A wider type holds every value exactly, a narrower one the
        nearest.
    clip
        Keep values that the type does not hold at its largest, and count them; without it they are refused
        before anything is written. Values that are not finite stay so, and are counted.

    Returns
    -------
    The path.

    Raises
    ------
    InputError
        The type is none of these or is what there is already; there is no cube, or a value that `dtype` does
        not hold; `path` is no finished recording; `out` is taken.
    MissingFileError
        There is nothing at `path`.

    Warns
    -----
    UserWarning
        Values were clipped.
    """
    if dtype not in DTYPES:
        raise InputError(f"dtype must be one of {list(DTYPES)}, got {dtype!r}")
    source = Finished.of(path)
    if not any(spec.cube for spec in source.sites.values()):
        raise InputError(f"{source.location} holds the moments of each prompt, no activations to cast")
    if all(spec.dtype == dtype for spec in source.sites.values()):
        raise InputError(f"{source.location} is {dtype} already")
    location = check_target(out)
    provenance: dict[str, Any] = {**source.provenance, "storage_dtype": dtype}
    if "dtype" in provenance.get("inputs", {}):
        provenance["inputs"] = {**provenance["inputs"], "dtype": dtype}
    step = operation("cast", [source], dtype=dtype, clip=clip)
    sites = {site: replace(spec, dtype=dtype) for site, spec in source.sites.items()}
    chain, storage = Chain.whole(source), np.dtype(dtype)
    counted = chain.counts(slice(0, chain.n_prompts))
    if not clip:
        _check_values(chain, storage)
    write_derived(
        chain,
        location,
        provenance=derived(provenance, step),
        sites=sites,
        content=lambda chain, prompts: _cast_unit(chain, prompts, storage, "nonfinite" not in counted),
    )
    writer = RecordingWriter(location)
    if writer.counts().get("clipped", 0) > counted.get("clipped", 0):
        writer.warn_of_losses(remedy="cast to a wider type to keep them", cause=", as in what was cast")
    return str(location)


def _check_values(chain: Chain, storage: np.dtype[Any]) -> None:
    """Refuse a value that the type does not hold; the cube is read only where the moments allow for one."""
    limit, source = float(np.finfo(storage).max), chain.sources[0]
    narrowed = [s for s, spec in chain.sites.items() if spec.cube and not np.can_cast(spec.dtype, storage)]
    for start in range(0, chain.n_prompts, source.unit):
        unit = slice(start, min(start + source.unit, chain.n_prompts))
        for site in narrowed:
            moments = {name: source.read(f"{site}/summary/{name}", unit) for name in ("mean", "m2")}
            bound = np.abs(moments["mean"]) + np.sqrt(moments["m2"])  # no deviation is larger than their norm
            suspect = ~(1.01 * bound < limit).all(axis=(0, 2))  # (layer,); the sums may be of float32
            for layer in np.flatnonzero(suspect):
                part = ChainCube(chain, site, unit)[:, 0 : chain.n_tokens, int(layer), 0 : bound.shape[2]]
                beyond = np.isfinite(part) & (np.abs(part) > limit)
                if beyond.any():
                    prompt = source.read("prompt", unit)[int(np.argwhere(beyond)[0][0])]
                    raise InputError(
                        f"{source.location} holds {part[beyond][0]} at prompt {prompt!r}, site {site!r}, "
                        f"layer {layer}; {storage} ends at {limit:g}: keep such values at that with "
                        "clip=True (--clip), or choose a wider type"
                    )


def _cast_unit(chain: Chain, prompts: slice, storage: np.dtype[Any], counts_nonfinite: bool) -> Content:
    """Return a unit in another type: where that is narrower, with moments and counts of what is stored.

    A cast makes no value infinite: those that the source counted are counted already, of all sites.
    """
    labels, cubes, moments, counts = as_it_is(chain, prompts)
    narrowed: dict[str, _NarrowedCube] = {}
    for site in cubes:
        if not np.can_cast(chain.sites[site].dtype, storage):
            valid = real_tokens(labels, chain.n_tokens)
            narrowed[site] = _NarrowedCube(ChainCube(chain, site, prompts), valid, storage)
            moments[site] = narrowed[site].moments()
    if narrowed:
        lost = [cube.lost for cube in narrowed.values()]
        counts["clipped"] = counts.get("clipped", 0) + sum(n["clipped"] for n in lost)
        if counts_nonfinite:
            counts["nonfinite"] = sum(n["nonfinite"] for n in lost)
    return labels, {**cubes, **narrowed}, moments, counts


@dataclass(frozen=True)
class _NarrowedCube:
    """Activations of a unit in a type that holds less.

    Attributes
    ----------
    cube
        What is read.
    valid
        (prompt, token): what is no padding.
    storage
        The type.
    lost
        Values clipped and not finite, once `moments` went through all.
    """

    cube: ChainCube
    valid: Bool
    storage: np.dtype[Any]
    lost: dict[str, int] = field(default_factory=lambda: {"clipped": 0, "nonfinite": 0})

    @property
    def shape(self) -> tuple[int, ...]:
        """Prompts, tokens, layers, neurons."""
        return self.cube.shape

    def __getitem__(self, place: Any, /) -> npt.NDArray[Any]:
        """Return (prompt, token, neuron) of one layer."""
        return self._narrowed(place, {"clipped": 0, "nonfinite": 0})

    def _narrowed(self, place: tuple[Any, ...], lost: dict[str, int]) -> npt.NDArray[Any]:
        values, valid = self.cube[place], self.valid[:, place[1]]
        out = np.full(values.shape, np.nan, dtype=self.storage)
        out[valid] = fit(values[valid], self.storage, lost)
        return out

    def moments(self) -> dict[str, npt.NDArray[Any]]:
        """Return the moments of all layers, one layer in memory at a time."""
        _, n_tokens, n_layers, n_neurons = self.shape
        layers = []
        for layer in range(n_layers):
            place = (slice(None), slice(0, n_tokens), layer, slice(0, n_neurons))
            layers.append(masked_moments(self._narrowed(place, self.lost)[:, :, None], self.valid))
        joined = {
            name: np.concatenate([m[name] for m in layers], axis=1) for name in ("mean", "m2", "mean_abs")
        }
        return {"count": layers[0]["count"], **joined}
