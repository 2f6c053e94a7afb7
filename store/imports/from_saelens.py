"""Importing the activations that SAELens caches.

SAELens' ``CacheActivationsRunner`` (6.x) saves a data set of Hugging Face: a folder with ``state.json``,
``dataset_info.json`` and Arrow streams ``data-*.arrow``. A row is one context: a column named as the
hook, such as ``blocks.7.hook_resid_post``, of lists (token, neuron) of one size, and ``token_ids``. Earlier
versions left the data set in pieces, ``shard_0``, ``shard_1``, ..., without ``token_ids``. A cache holds one
hook; several caches of the same contexts make a recording of several layers.
"""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from ..allocate import SiteSpec
from ..errors import InputError
from ..provenance import digest_file
from .arrow_folder import ArrowFolder
from .labels import Labels, number_rows, read_labels
from .stream import Shown, Source, check_target, write_recording

_SITES = {
    "hook_resid_post": "residual",
    "hook_resid_pre": "residual",  # the output of the block before
    "hook_mlp_out": "mlp_out",
    "hook_attn_out": "attention_out",
    "mlp.hook_post": "mlp",
}
_NUMBER = re.compile(r"(?:^|\.)(\d+)(?:\.|$)")


@dataclass(frozen=True)
class _Hook:
    """A column of activations, and what it becomes."""

    name: str
    cache: ArrowFolder
    site: str
    layer: int


def import_saelens(
    folders: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    out: str | os.PathLike[str],
    *,
    labels: Labels | None = None,
    site: str | None = None,
    layers: Sequence[int] | None = None,
    dtype: str | None = None,
) -> str:
    """Write the activations that SAELens cached as a recording.

    Parameters
    ----------
    folders
        A cache, or several of the same contexts, one a hook.
    out
        Where the recording goes: ``NAME.zarr``. An import that was interrupted goes on.
    labels
        A table, or the path of a csv, jsonl or parquet file: row i describes context i. Its column
        ``prompt`` (or ``id``) names the contexts, which are numbered without it.
    site
        The place in the network; by default what the hook's name says.
    layers
        Numbers of the layers, in the order of `folders`; by default what the hooks' names say.
    dtype
        Type in the store, "float16" or "float32"; the cache's own by default.

    Returns
    -------
    The path, for `actome.open`.

    Raises
    ------
    MissingFileError, InputError, MissingDependencyError
        A file is not there, is cut off, or is no data set of activations; the caches are of different
        contexts; a hook says no site or layer; labels do not fit; the path is taken.
    """
    location = check_target(out, site=site, dtype=dtype)
    table = None if labels is None else read_labels(labels)
    paths = [folders] if isinstance(folders, (str, os.PathLike)) else list(folders)
    if not paths:
        raise InputError("folders must name at least one cache, got none")
    caches = [ArrowFolder.open(Path(path)) for path in paths]
    for cache in caches:
        _check_same_contexts(cache, caches[0])
    hooks = _name_hooks(caches, site, layers)
    sites = {name: [h for h in hooks if h.site == name] for name in dict.fromkeys(h.site for h in hooks)}
    n_prompts, n_tokens = caches[0].n_rows, caches[0].n_tokens
    table = pd.DataFrame(index=range(n_prompts)) if table is None else table
    if "n_tokens" in table:
        raise InputError("the labels have a column 'n_tokens', but every context is full; remove it")
    source = Source(
        format="saelens",
        labels=number_rows(table, n_prompts, "the cache"),
        n_tokens=n_tokens,
        sites={name: _spec(name, group, dtype) for name, group in sites.items()},
        read=lambda i: _read(sites, caches[0], i),
        digests={
            f"{k}/{cache.path.resolve().name}/{file.relative_to(cache.path).as_posix()}": digest_file(file)
            for k, cache in enumerate(caches)  # two folders may have the same name
            for file in cache.files
        },
        settings={"hooks": [h.name for h in hooks], "dtype": dtype or "as the source"},
        metadata={
            "names": [c.path.resolve().name for c in caches],
            "caches": [c.description() for c in caches],
        },
        has_token_ids=caches[0].has_token_ids,
        libraries={"pyarrow": metadata.version("pyarrow")},
    )
    return write_recording(source, location)


def _check_same_contexts(cache: ArrowFolder, first: ArrowFolder) -> None:
    size, expected = (cache.n_rows, cache.n_tokens), (first.n_rows, first.n_tokens)
    if size != expected:
        raise InputError(
            f"{cache.path} holds {size[0]} contexts of {size[1]} tokens, {first.path} {expected[0]} of "
            f"{expected[1]}; one recording holds the same contexts at every layer"
        )
    if not cache.has_same_token_ids(first):
        raise InputError(f"{cache.path} and {first.path} are of different tokens; import them apart")


def _name_hooks(caches: list[ArrowFolder], site: str | None, layers: Sequence[int] | None) -> list[_Hook]:
    """Say of every column which site and layer it is."""
    columns = [(name, cache) for cache in caches for name in cache.widths]
    numbers = [_layer_of(name) for name, _ in columns] if layers is None else [int(i) for i in layers]
    if len(numbers) != len(columns) or min(numbers) < 0:
        raise InputError(f"layers must number {[name for name, _ in columns]} from 0 up, got {numbers}")
    hooks = [
        _Hook(name, cache, site or _site_of(name), layer)
        for (name, cache), layer in zip(columns, numbers, strict=True)
    ]
    places = [(h.site, h.layer) for h in hooks]
    twice = sorted({p for p in places if places.count(p) > 1})
    if twice:
        raise InputError(
            f"layer {twice[0][1]} of site {twice[0][0]!r} is there twice: {[h.name for h in hooks]}"
        )
    return sorted(hooks, key=lambda h: (h.site, h.layer))


def _site_of(hook: str) -> str:
    kind = hook.partition(".")[2].partition(".")[2] if hook.startswith("blocks.") else ""
    if kind not in _SITES:
        raise InputError(
            f"hook {hook!r} says no site of a recording; name it with site= (--site). "
            f"Known are blocks.N. and one of {list(_SITES)}"
        )
    return _SITES[kind]


def _layer_of(hook: str) -> int:
    found = _NUMBER.search(hook)
    layer = int(found[1]) - hook.endswith("hook_resid_pre") if found else -1
    if layer < 0:
        raise InputError(f"hook {hook!r} says no layer; give its number with layers= (--layer)")
    return layer


def _spec(site: str, hooks: list[_Hook], dtype: str | None) -> SiteSpec:
    widths = {h.cache.widths[h.name] for h in hooks}
    dtypes = {h.cache.dtypes[h.name] for h in hooks}
    if len(widths) > 1 or len(dtypes) > 1:
        raise InputError(
            f"the caches of site {site!r} differ in their neurons {sorted(widths)} or types "
            f"{sorted(dtypes)}; import them apart"
        )
    return SiteSpec(
        tuple(h.layer for h in hooks),
        tuple(range(widths.pop())),
        tuple(h.name for h in hooks),
        dtype or dtypes.pop(),
    )


def _read(sites: dict[str, list[_Hook]], first: ArrowFolder, i: int) -> Shown:
    activation: dict[str, npt.NDArray[Any]] = {
        site: np.stack([h.cache.read(h.name, i) for h in hooks], axis=1) for site, hooks in sites.items()
    }
    return Shown(activation, first.read_token_ids(i) if first.has_token_ids else None)
