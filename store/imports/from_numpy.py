"""Importing an array and a table of labels."""

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from ..allocate import SiteSpec
from ..errors import InputError, InputTypeError, MissingFileError
from ..moments import valid_tokens
from ..provenance import digest_file
from .labels import Labels, number_rows, read_labels
from .stream import Shown, Source, check_target, choose_numbers, write_recording

_FLOATS = ("float16", "float32", "float64")


def import_numpy(
    array: npt.NDArray[Any] | str | os.PathLike[str],
    labels: Labels,
    out: str | os.PathLike[str],
    *,
    site: str,
    layers: Sequence[int] | None = None,
    neurons: Sequence[int] | None = None,
    n_tokens: Sequence[int] | None = None,
    dtype: str | None = None,
) -> str:
    """Write an array of activations and the labels of its prompts as a recording.

    Parameters
    ----------
    array
        (prompt, token, layer, neuron), or (prompt, layer, neuron) where each prompt has one
        token; or the path of a ``.npy`` file, which is read prompt by prompt. Tokens after a prompt's
        last real one are NaN in every neuron, or `n_tokens` says how many are real.
    labels
        One row a prompt, in the array's order; or the path of a csv, jsonl or parquet file. Its column
        ``prompt`` (or ``id``) names the prompts, which are numbered without it.
    out
        Where the recording goes: ``NAME.zarr``. An import that was interrupted goes on.
    site
        The place in the network that the activations come from.
    layers, neurons
        Their numbers in the model, in the array's order; 0, 1, 2, ... by default.
    n_tokens
        Real tokens of each prompt; also as a column of `labels`. What comes after them is not kept.
    dtype
        Type in the store, "float16" or "float32"; the array's own by default.

    Returns
    -------
    The path, for `actome.open`.

    Raises
    ------
    InputTypeError, InputError, MissingFileError
        The array is of another type or shape, is cut off or pickled; labels or numbers do not fit it; a
        real token is NaN; the path is taken.
    """
    location = check_target(out, site=site, dtype=dtype)
    table = read_labels(labels)
    values, digests = _open_array(array)
    table = number_rows(table, len(values), "the array")
    lengths = _token_counts(table, n_tokens, values)
    source = Source(
        format="numpy",
        labels=table.drop(columns="n_tokens", errors="ignore"),
        n_tokens=values.shape[1] if values.ndim == 4 else 1,
        sites={
            site: SiteSpec(
                layers=choose_numbers("layers", layers, values.shape[-2]),
                neurons=choose_numbers("neurons", neurons, values.shape[-1]),
                hook_names=("",) * values.shape[-2],
                dtype=dtype or values.dtype.name,
            )
        },
        read=lambda i: Shown({site: _prompt(values, i, None if lengths is None else int(lengths[i]))}),
        digests=digests,
        settings={
            "dtype": dtype or "as the source",
            "neurons": None if neurons is None else [int(i) for i in neurons],
            "n_tokens": None if lengths is None else lengths.tolist(),
        },
        metadata={"name": next(iter(digests)), "shape": list(values.shape), "dtype": values.dtype.name},
    )
    return write_recording(source, location)


def _open_array(array: npt.NDArray[Any] | str | os.PathLike[str]) -> tuple[npt.NDArray[Any], dict[str, str]]:
    """Return the array, on disk where it is a file, and its digest by its name."""
    if isinstance(array, np.ndarray):
        _check_array(array, "the array")
        return array, {"array in memory": _digest_array(array)}
    if not isinstance(array, (str, os.PathLike)):
        raise InputTypeError(
            f"array must be a NumPy array or the path of a .npy file, got {type(array).__name__}"
        )
    path = Path(array)
    if not path.is_file():
        raise MissingFileError(f"there is no array file at {path}")
    try:
        values = np.lib.format.open_memmap(path, mode="r")  # maps numbers only: nothing is unpickled
    except ValueError as error:
        raise InputError(
            f"{path} is no .npy file of numbers, whole and without Python objects: {error}; write it with "
            "np.save(path, array, allow_pickle=False)"
        ) from error
    _check_array(values, str(path))
    return values, {path.name: digest_file(path)}


def _check_array(array: npt.NDArray[Any], what: str) -> None:
    if array.dtype.name not in _FLOATS:
        raise InputError(f"{what} must be {' or '.join(_FLOATS)}, got {array.dtype}; convert it first")
    if array.ndim not in (3, 4):
        raise InputError(
            f"{what} must have shape (prompt, token, layer, neuron) or (prompt, layer, neuron), "
            f"got {array.shape}"
        )
    if 0 in array.shape:
        raise InputError(f"{what} holds nothing: its shape is {array.shape}")


def _digest_array(array: npt.NDArray[Any]) -> str:
    h = hashlib.sha256(f"{array.dtype.str} {array.shape}".encode())
    for prompt in array:
        h.update(np.ascontiguousarray(prompt).data)
    return f"sha256:{h.hexdigest()}"


def _token_counts(
    table: pd.DataFrame, n_tokens: Sequence[int] | None, values: npt.NDArray[Any]
) -> npt.NDArray[np.int64] | None:
    """Real tokens of each prompt, (prompt,); None where they are to be read off the padding."""
    if n_tokens is not None and "n_tokens" in table:
        raise InputError("n_tokens is given twice, as an argument and as a column of the labels; give one")
    if n_tokens is None and "n_tokens" not in table:
        return None
    counts = np.asarray(table["n_tokens"] if n_tokens is None else n_tokens)
    most = values.shape[1] if values.ndim == 4 else 1
    whole = counts.shape == (len(values),) and counts.dtype.kind in "iu"
    if not whole or counts.min() < 0 or counts.max() > most:
        raise InputError(
            f"n_tokens must be {len(values)} whole numbers from 0 to {most}, one a prompt; "
            f"got {counts.size}, such as {counts.ravel()[:5].tolist()}"
        )
    return counts.astype(np.int64)


def _prompt(values: npt.NDArray[Any], i: int, n_tokens: int | None) -> npt.NDArray[Any]:
    """Read the real tokens of a prompt: (token, layer, neuron)."""
    prompt = np.asarray(values[i] if values.ndim == 4 else values[i][None])
    n = int(valid_tokens(prompt[None])[0]) if n_tokens is None else n_tokens
    return prompt[:n].astype(prompt.dtype.newbyteorder("="), copy=False)
