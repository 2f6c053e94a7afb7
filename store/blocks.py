"""The block engine: how an analysis goes through a recording without ever holding it whole.

An analysis maps over the Dask chunks of the Dataset that it is given; each is one shard of the
store unless the user cut the Dataset otherwise. One task reads a chunk, keeps the valid tokens and
reduces them; the small results are merged in a tree. The active Dask scheduler runs the tasks.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar, Literal

import dask
import dask.array as da
import numpy as np
import numpy.typing as npt
import xarray as xr
from dask.delayed import Delayed, delayed
from threadpoolctl import ThreadpoolController

from .errors import InputError, InputTypeError
from .moments import Bool, Float64, masked_moments
from .schema import ACTIVATION_DIMS

_ARITY = 8  # results merged in one step of a tree reduction


def level_of(ds: xr.Dataset) -> Literal["token", "prompt"]:
    """Say whether a Dataset holds the cube or the per-prompt moments.

    Raises
    ------
    InputTypeError, InputError
        It is no Dataset, or it holds neither.
    """
    if not isinstance(ds, xr.Dataset):
        raise InputTypeError(f"expected a Dataset from actome.open, got {type(ds).__name__}")
    if "activation" in ds:
        missing = [d for d in ACTIVATION_DIMS if d not in ds["activation"].dims]
        if missing:
            raise InputError(
                f"activation must have dims {ACTIVATION_DIMS}, got {ds['activation'].dims}; "
                "select with a list or a slice to keep a dimension"
            )
        return "token"
    if {"count", "mean", "m2", "mean_abs"} <= set(ds.variables):
        return "prompt"
    raise InputError(
        f"the Dataset holds neither 'activation' nor per-prompt moments; it has {list(ds.data_vars)}"
    )


def valid_tokens(ds: xr.Dataset) -> Bool:
    """Which tokens are real: (prompt, token).

    From ``token_id``, or, where a recording has none, from the NaN padding; the latter reads one
    layer of the cube.
    """
    if "token_id" in ds.variables:
        return np.asarray(ds["token_id"].transpose("prompt", "token").to_numpy() != -1)
    layer = ds["activation"].transpose(*ACTIVATION_DIMS).isel(layer=slice(0, 1))
    return np.asarray(layer.notnull().any(("layer", "neuron")).to_numpy())


def activation_array(ds: xr.Dataset) -> da.Array:
    """Return the cube as a Dask array (prompt, token, layer, neuron), whole along ``token``."""
    cube = ds["activation"].variable.transpose(*ACTIVATION_DIMS)
    if cube.chunks is None:
        cube = cube.chunk({"prompt": "auto", "token": -1, "layer": "auto", "neuron": "auto"})
    array: da.Array = cube.chunk({"token": -1}).data
    return array


def prompt_level(ds: xr.Dataset) -> xr.Dataset:
    """Per-prompt moments of whatever is given: as stored, or reduced from the cube, lazily.

    The labels of the tokens are read here, the cube is not.

    Returns
    -------
    Dataset
        ``count`` (prompt), in memory; ``mean``, ``m2``, ``mean_abs`` (prompt, layer, neuron), float64.
    """
    if level_of(ds) == "prompt":
        names = ["mean", "m2", "mean_abs"]
        ds = ds.assign({n: ds[n].transpose("prompt", "layer", "neuron") for n in names})
        return ds.assign(count=ds["count"].compute())
    valid = valid_tokens(ds)
    cube = activation_array(ds)
    moments = da.blockwise(  # type: ignore[no-untyped-call]
        _block_moments, "mplf",
        cube, "ptlf",
        da.from_array(valid, chunks=cube.chunks[:2]), "pt",  # type: ignore[no-untyped-call]
        new_axes={"m": 3}, concatenate=True, dtype=np.float64, meta=np.empty((0,) * 4),
    )  # fmt: skip
    dims = ("prompt", "layer", "neuron")
    out = {name: (dims, moments[i]) for i, name in enumerate(("mean", "m2", "mean_abs"))}
    keep = ds.drop_vars([v for v in ds.variables if "token" in ds[v].dims])
    return keep.assign(out).assign(count=("prompt", valid.sum(axis=1)))


def with_tokens(ds: xr.Dataset) -> xr.Dataset:
    """Leave out the prompts without tokens, at either level."""
    there = valid_tokens(ds).any(axis=1) if level_of(ds) == "token" else ds["count"].to_numpy() > 0
    return ds if there.all() else ds.isel(prompt=np.flatnonzero(there))


def neuron_blocks(values: xr.DataArray, n_bytes: int) -> da.Array:
    """Return maps (prompt, layer, neuron) in chunks of all prompts, of at most `n_bytes` each."""
    values = values.transpose("prompt", "layer", "neuron")
    lazy = values if values.chunks is not None else values.chunk()
    limits = {0: -1, 1: "auto", 2: "auto"}
    out: da.Array = lazy.data.rechunk(limits, block_size_limit=n_bytes)
    return out


def _block_moments(block: npt.NDArray[Any], valid: Bool) -> Float64:
    """Mean, m2 and mean magnitude of each prompt's valid tokens: (3, prompt, layer, neuron)."""
    for prompt, mask in zip(block, valid, strict=True):
        valid_rows(prompt, mask)
    moments = masked_moments(block, valid)
    return np.stack([moments[name] for name in ("mean", "m2", "mean_abs")])


def valid_rows(prompt: npt.NDArray[Any], valid: Bool) -> npt.NDArray[Any]:
    """Keep the valid tokens of one prompt: (token, layer, neuron).

    Raises
    ------
    InputError
        A token that counts as valid was masked with NaN, so that the moments would be wrong.
    """
    check_valid(prompt[None], valid[None])
    return prompt[valid] if not valid.all() else prompt


def check_valid(block: npt.NDArray[Any], valid: Bool) -> None:
    """Refuse a chunk (prompt, token, layer, neuron) in which a valid token (prompt, token) is all NaN.

    Raises
    ------
    InputError
        A token that counts as valid was masked with NaN, so that sums over tokens would be wrong.
    """
    flat = block.reshape(*block.shape[:2], -1)
    suspect = valid & np.isnan(flat[..., :1]).all(axis=-1)  # mostly none, so that the rest is not looked at
    if flat.shape[-1] and np.isnan(flat[suspect]).all(axis=-1).any():
        raise InputError(
            "a token that counts as valid is NaN in every neuron; "
            "if it was masked on purpose, set its token_id to -1 too"
        )


def tree_reduce(
    parts: Sequence[Delayed], combine: Callable[[list[Any]], Any], *, arity: int = _ARITY
) -> Delayed:
    """Merge delayed results, a few at a time, so that no task holds them all.

    Parameters
    ----------
    parts
        At least one; a single part is returned as it is.
    combine
        Merges a list of results into one of the same kind; associative.
    arity
        Results merged in one step: fewer where they are large.

    Raises
    ------
    InputError
        There is no part: the Dataset is empty.
    """
    if not parts:
        raise InputError("there is nothing to reduce: the Dataset is empty")
    merge = delayed(one_blas_thread(combine), pure=False)
    nodes = list(parts)
    while len(nodes) > 1:
        nodes = [merge(nodes[i : i + arity]) for i in range(0, len(nodes), arity)]
    return nodes[0]


def one_blas_thread(function: Callable[..., Any]) -> Callable[..., Any]:
    """Make a task use one BLAS thread: Dask runs as many tasks as there are cores."""
    return _OneBlasThread(function)


class _OneBlasThread:
    """A wrapper that can be sent to a worker.

    Most BLAS libraries have one limit for the whole process, so the first task in sets it and the
    last one out lifts it; where OpenMP gives each thread its own, every task sets its own too.
    """

    _lock = threading.Lock()
    _running = 0
    _before: ClassVar[list[tuple[Any, int]]] = []  # each library, and its threads before the first task

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function

    def __dask_tokenize__(self) -> Any:
        """Name the task after the function, so that equal graphs get equal names."""
        return dask.base.normalize_token(self.function)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function under the limit."""
        with self._limited():
            return self.function(*args, **kwargs)

    @classmethod
    @contextmanager
    def _limited(cls) -> Iterator[None]:
        with cls._lock:
            if cls._running == 0:
                libraries = ThreadpoolController().select(user_api="blas").lib_controllers
                cls._before = [(library, library.num_threads) for library in libraries]
                _set_threads([(library, 1) for library in libraries])
            cls._running += 1
            own = [(lib, lib.num_threads) for lib, _ in cls._before if _is_per_thread(lib)]
            _set_threads([(library, 1) for library, _ in own])
        try:
            yield
        finally:
            with cls._lock:
                cls._running -= 1
                _set_threads(own)
                if cls._running == 0:
                    _set_threads(cls._before)


def _is_per_thread(library: Any) -> bool:
    return bool(library.internal_api == "openblas" and library.threading_layer == "openmp")


def _set_threads(numbers: list[tuple[Any, int]]) -> None:
    """Set the threads of each library, whichever thread of ours set them before.

    threadpoolctl 3.8 lets only the first thread that sets a limit change it again, and silently
    ignores the others, until that claim is cleared.
    """
    for library, n in numbers:
        clear = getattr(library, "clear_controlling_thread", lambda *, force: None)
        clear(force=True)
        library.set_num_threads(n)
        clear(force=True)
