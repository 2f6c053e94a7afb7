"""Importing the hidden states that vLLM extracts.

vLLM's ``extract_hidden_states`` with its ``ExampleHiddenStatesConnector`` (since 0.17) writes one
safetensors file a request, ``REQUEST.safetensors``, with ``hidden_states`` (token, layer, neuron), mostly
bfloat16, and ``token_ids`` (token,). The files do not say which layers they hold: that is
``eagle_aux_hidden_state_layer_ids`` of the run, where id i is the state after i blocks. Whatever the
order of the ids, the layers come in the order of the network.
"""

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from ..allocate import SiteSpec
from ..errors import InputError, MissingFileError
from ..provenance import digest_file
from .labels import Labels, match_ids, read_labels
from .safetensors_file import TensorFile
from .stream import Shown, Source, check_target, write_recording

_DTYPES = {"F16": "float16", "F32": "float32", "F64": "float64"}


def import_vllm(
    folder: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    layer_ids: Sequence[int],
    labels: Labels | None = None,
    site: str = "residual",
    dtype: str | None = None,
) -> str:
    """Write the hidden states that vLLM extracted as a recording.

    Parameters
    ----------
    folder
        Holds one ``.safetensors`` file a request; the name before the dot is the prompt's id.
    out
        Where the recording goes: ``NAME.zarr``. An import that was interrupted goes on.
    layer_ids
        ``eagle_aux_hidden_state_layer_ids`` of the run, rising. Id i becomes layer i - 1, the block
        whose output it is; id 0, the embedding, is no block's output and is left out.
    labels
        A table, or the path of a csv, jsonl or parquet file, with the request's id in its column
        ``prompt`` (or ``id``); the prompts get its order. Without it they come in the order of their ids.
    site
        The place in the network.
    dtype
        Type in the store, "float16" or "float32". By default the files' own; of bfloat16, float16 unless a
        value is beyond its range, as for `actome.record`.

    Returns
    -------
    The path, for `actome.open`.

    Raises
    ------
    MissingFileError, InputError
        There are no such files; one is cut off, lacks a tensor or a layer, or differs from the others; the
        labels name other prompts; a token is NaN; the path is taken.
    """
    location = check_target(out, site=site, dtype=dtype)
    table = None if labels is None else read_labels(labels)
    files = [TensorFile.open(path) for path in _find(Path(folder))]
    kept = _check_layers(layer_ids)
    for file in files:
        _check_file(file, files[0], len(layer_ids))
    names = [file.path.stem for file in files]
    if table is None:
        table = pd.DataFrame({"prompt": np.array(names, dtype=object)})
    else:
        if "n_tokens" in table:
            raise InputError("the labels have a column 'n_tokens', which the files give; remove it")
        files = [files[i] for i in match_ids(table, names, "the file's name without .safetensors")]
    neurons = files[0].shapes["hidden_states"][2]
    source = Source(
        format="vllm",
        labels=table,
        n_tokens=max(file.shapes["token_ids"][0] for file in files),
        sites={
            site: SiteSpec(
                layers=tuple(int(layer_ids[k]) - 1 for k in kept),
                neurons=tuple(range(neurons)),
                hook_names=tuple(f"hidden_states of layer id {layer_ids[k]}" for k in kept),
                dtype=dtype or _storage_dtype(files),
            )
        },
        read=lambda i: _read(files[i], site, kept),
        digests={file.path.name: digest_file(file.path) for file in files},
        settings={"layer_ids": [int(i) for i in layer_ids], "dtype": dtype or "as the source"},
        metadata={
            "name": Path(folder).resolve().name,
            "dtype": files[0].dtypes["hidden_states"],
            "metadata": dict(files[0].metadata),
        },
        has_token_ids=True,
    )
    return write_recording(source, location)


def _find(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise MissingFileError(f"there is no folder of safetensors files at {folder}")
    paths = sorted(folder.glob("*.safetensors"), key=_by_number)
    if not paths:
        raise MissingFileError(f"folder {folder} holds no .safetensors file; vLLM writes one a request")
    return paths


def _by_number(path: Path) -> list[tuple[int, str]]:
    """Sort 2 before 10."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", path.stem)]


def _check_layers(layer_ids: Sequence[int]) -> list[int]:
    """Return the places of the layers that are some block's output."""
    ids = [int(i) for i in layer_ids]
    if not ids or min(ids) < 0 or sorted(set(ids)) != ids:
        raise InputError(
            "layer_ids must be the eagle_aux_hidden_state_layer_ids of the run in rising order, the order "
            f"of the layers in the files; got {ids}"
        )
    kept = [k for k, i in enumerate(ids) if i > 0]
    if not kept:
        raise InputError(
            "layer_ids has only id 0, the embedding, which is no block's output; nothing is left"
        )
    return kept


def _check_file(file: TensorFile, first: TensorFile, n_layers: int) -> None:
    missing = sorted({"hidden_states", "token_ids"} - file.shapes.keys())
    if missing:
        raise InputError(f"{file.path} has no tensor {missing[0]!r}; it has {sorted(file.shapes)}")
    shape, tokens = file.shapes["hidden_states"], file.shapes["token_ids"]
    if len(shape) != 3 or tokens != shape[:1]:
        raise InputError(
            f"{file.path}: hidden_states must be (token, layer, neuron) and token_ids (token,), "
            f"got {shape} and {tokens}"
        )
    if shape[1] != n_layers:
        raise InputError(
            f"{file.path} holds {shape[1]} layers, layer_ids names {n_layers}; give those of the run"
        )
    if shape[2] != first.shapes["hidden_states"][2]:
        raise InputError(
            f"{file.path} has {shape[2]} neurons, {first.path.name} {first.shapes['hidden_states'][2]}; "
            "one recording holds one model"
        )
    dtype = file.dtypes["hidden_states"]
    if dtype not in (*_DTYPES, "BF16") or dtype != first.dtypes["hidden_states"]:
        raise InputError(
            f"{file.path}: hidden_states must be {', '.join(_DTYPES)} or BF16 and the same in all files, "
            f"got {dtype}"
        )
    if file.dtypes["token_ids"] not in ("I32", "I64"):
        raise InputError(f"{file.path}: token_ids must be I32 or I64, got {file.dtypes['token_ids']}")
    if 0 in shape:
        raise InputError(f"{file.path} holds no tokens, as of a prompt given as embeddings; remove it")


def _storage_dtype(files: list[TensorFile]) -> str:
    dtype = files[0].dtypes["hidden_states"]
    if dtype != "BF16":
        return _DTYPES[dtype]
    return "float16" if all(file.fits_float16("hidden_states") for file in files) else "float32"


def _read(file: TensorFile, site: str, kept: list[int]) -> Shown:
    states = file.read("hidden_states")
    if len(kept) < states.shape[1]:
        states = states[:, kept]
    return Shown({site: states}, _token_ids(file))


def _token_ids(file: TensorFile) -> npt.NDArray[Any]:
    ids = file.read("token_ids")
    if ids.min() < 0 or ids.max() > np.iinfo(np.int32).max:
        raise InputError(f"{file.path}: token_ids must be numbers of tokens, got {ids.min()} to {ids.max()}")
    return ids.astype(np.int32)
