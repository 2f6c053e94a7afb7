"""A recording written anew, cut into other units and chunks."""

import os
from typing import Final

import numpy as np

from ..allocate import default_unit
from ..errors import InputError
from ..imports.stream import check_target
from ..layout import Grain, site_layout
from .chain import Chain
from .deriving import derived, operation, write_derived
from .finished import Finished

_LARGEST_SHARD: Final = 2**30  # Blosc takes at most 2 GB at once, and whoever reads one chunk holds it
_LARGEST_UNIT: Final = 2**32  # of all layers and sites; the moments of a unit are held at once


def rechunk(
    path: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    unit: int | None = None,
    tokens: int | None = None,
    neurons: int | None = None,
) -> str:
    """Write a recording anew, cut otherwise; every number stays as it is.

    Written unit by unit; interrupted, the same call goes on.

    Parameters
    ----------
    path
        A finished recording.
    out
        Where the new one goes.
    unit
        Prompts in a unit, which is the grain of reading along ``prompt``; by default as a new recording of
        this size would have it. Many for few large files, few to read single prompts.
    tokens, neurons
        Size of a chunk inside a shard; few neurons make a few neurons quick to read.

    Returns
    -------
    The path.

    Raises
    ------
    InputError
        A size is not possible; `path` is no finished recording; `out` is taken.
    MissingFileError
        There is nothing at `path`.
    """
    source = Finished.of(path)
    grain = Grain(unit, tokens, neurons)
    _check_grain(source, grain)
    location = check_target(out)
    step = operation("rechunk", [source], unit=unit, tokens=tokens, neurons=neurons)
    provenance = derived(source.provenance, step)
    return write_derived(
        Chain.whole(source), location, provenance=provenance, sites=source.sites, grain=grain
    )


def _check_grain(source: Finished, grain: Grain) -> None:
    widest = max(len(spec.neurons) for spec in source.sites.values())
    for name, size, most in (
        ("unit", grain.unit, source.n_prompts),
        ("tokens", grain.tokens, source.n_tokens),
        ("neurons", grain.neurons, widest),
    ):
        if size is not None and not (isinstance(size, (int, np.integer)) and 1 <= size <= most):
            raise InputError(f"{name} must be a whole number from 1 to {most} here, got {size!r}")
    n_tokens = source.n_tokens
    unit = grain.unit or default_unit(source.n_prompts, n_tokens, source.sites)
    per_prompt = sum(spec.bytes_per_prompt(n_tokens) for spec in source.sites.values())
    if unit > 1 and unit * per_prompt > _LARGEST_UNIT:
        raise InputError(
            f"a unit of {unit} prompts would be {unit * per_prompt / 2**30:.1f} GB, of at most "
            f"{_LARGEST_UNIT / 2**30:g}; choose a unit of at most {max(1, _LARGEST_UNIT // per_prompt)}"
        )
    for site, spec in source.sites.items():
        itemsize = np.dtype(spec.dtype).itemsize
        shard = site_layout(unit, n_tokens, len(spec.neurons), itemsize, grain).shard
        size = int(np.prod(shard)) * itemsize
        if spec.cube and size > _LARGEST_SHARD:
            raise InputError(
                f"a shard of site {site!r} would be {size / 2**30:.1f} GB, of at most 1; choose a smaller "
                "unit or fewer neurons in a chunk"
            )
