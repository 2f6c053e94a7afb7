"""What other tools leave on disk, written the way they write it, with a planted difference of conditions."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import torch
from safetensors.torch import save_file

from actome.analyze.contrasts import compute_contrast
from actome.analyze.glm import fit_glm
from actome.store.archive import open as open_recording
from actome.store.integrity import verify
from actome.store.validation import validate

PLANTED = (1, 3)  # layer and neuron, by their places, that condition "a" raises
IDS = [f"cmpl-{i:02x}" for i in range(12)]  # of requests
LENGTHS = [4, 2, 3, 4, 1, 3, 4, 4, 2, 3, 4, 4]


def cube(*, full: bool = False, scale: float = 1.0) -> np.ndarray:
    """(12 prompts, 4 tokens, 2 layers, 6 neurons) in float32; NaN on padding unless `full`."""
    values = np.random.default_rng(3).standard_normal((12, 4, 2, 6)).astype(np.float32)
    values[::2, :, PLANTED[0], PLANTED[1]] += 4  # even prompts are condition "a"
    values *= np.float32(scale)
    if not full:
        values[np.arange(4) >= np.array(LENGTHS)[:, None]] = np.nan
    return values


def table(**columns: Any) -> pd.DataFrame:
    """Labels of the 12 prompts, in order."""
    return pd.DataFrame({"condition": ["a", "b"] * 6, "run": [0, 0, 1, 1] * 3, **columns})


def token_ids() -> np.ndarray:
    return np.arange(48, dtype=np.int32).reshape(12, 4)


def check_found(path: str, *, site: str | None = None) -> Any:
    """Sound, and the planted difference is the largest of a fit; return the opened recording."""
    assert validate(path) == verify(path) == []
    ds = open_recording(path, site=site)
    stat = compute_contrast(fit_glm(ds, "condition", measure="signed"), "a - b")["stat"].to_numpy()
    assert np.unravel_index(np.nanargmax(stat), stat.shape) == PLANTED
    assert stat[PLANTED] > 5
    return ds


def write_saelens(
    folder: Path,
    hooks: dict[str, np.ndarray],
    *,
    ids: np.ndarray | None = None,
    n_files: int = 2,
    rows_in_batch: int = 4,
    storage: Any = pa.float32,
) -> Path:
    """A cache as SAELens 6.52 leaves it (sae_lens/cache_activations_runner.py): `datasets` saved to disk.

    `Array2D` is stored as lists of lists with the name of its extension type in the field's
    metadata, `token_ids` as lists of one size. hooks: column -> (row, token, neuron).
    """
    folder.mkdir(parents=True)
    n_rows, n_tokens, _ = next(iter(hooks.values())).shape
    dtype = np.dtype(storage().to_pandas_dtype()).name
    fields, columns = [], []
    for name, values in hooks.items():
        extension = {
            "ARROW:extension:name": "datasets.features.features.Array2DExtensionType",
            "ARROW:extension:metadata": json.dumps([list(values.shape[1:]), dtype]),
        }
        kind = pa.list_(pa.list_(storage()))
        fields.append(pa.field(name, kind, metadata=extension))
        columns.append([[list(token) for token in row] for row in values])
    if ids is not None:
        fields.append(pa.field("token_ids", pa.list_(pa.int32(), n_tokens)))
        columns.append(ids.tolist())
    features = {
        name: {"shape": list(values.shape[1:]), "dtype": dtype, "_type": "Array2D"}
        for name, values in hooks.items()
    }
    schema = pa.schema(fields, metadata={"huggingface": json.dumps({"info": {"features": features}})})
    bounds = np.linspace(0, n_rows, n_files + 1).astype(int)
    names = [f"data-{k:05d}-of-{n_files:05d}.arrow" for k in range(n_files)]
    for name, start, stop in zip(names, bounds[:-1], bounds[1:], strict=True):
        arrays = [pa.array(c[start:stop], type=f.type) for c, f in zip(columns, fields, strict=True)]
        with pa.OSFile(str(folder / name), "wb") as sink, pa.ipc.new_stream(sink, schema) as writer:
            writer.write_table(pa.table(arrays, schema=schema), max_chunksize=rows_in_batch)
    info = {"citation": "", "description": "", "features": features, "homepage": "", "license": ""}
    (folder / "dataset_info.json").write_text(json.dumps(info))
    state = {
        "_data_files": [{"filename": n} for n in names],
        "_fingerprint": "f279cc51c2bc8906",
        "_split": None,
    }
    (folder / "state.json").write_text(json.dumps(state))
    return folder


def write_vllm(
    folder: Path, values: np.ndarray, *, dtype: torch.dtype = torch.bfloat16, names: list[str] | None = None
) -> Path:
    """What vLLM's `extract_hidden_states` leaves: one file a request.

    As `ExampleHiddenStatesConnector` of 0.17 to 0.23 writes it
    (vllm/distributed/kv_transfer/kv_connector/v1/example_hidden_states_connector.py):
    `hidden_states` (token, layer, neuron) in the model's type, `token_ids` (token,) as int64, and a
    `.lock` beside it. values: (prompt, token, layer, neuron), NaN on padding.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for i, prompt in enumerate(values):
        n = int((~np.isnan(prompt).all(axis=(1, 2))).sum())
        path = folder / f"{names[i] if names else i}.safetensors"
        tensors = {
            "hidden_states": torch.from_numpy(np.ascontiguousarray(prompt[:n])).to(dtype),
            "token_ids": torch.from_numpy(token_ids()[i, :n].astype(np.int64)),
        }
        save_file(tensors, path)
        Path(f"{path}.lock").touch()
    return folder


def as_bfloat16(values: np.ndarray) -> np.ndarray:
    """float32 values rounded to bfloat16."""
    return torch.from_numpy(values).to(torch.bfloat16).to(torch.float32).numpy()
