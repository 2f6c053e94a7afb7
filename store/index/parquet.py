"""The labels of a recording as two Parquet tables, for SQL and for whatever reads data frames."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet as pq
import xarray as xr

from ..location import Location

PROMPTS = "prompts.parquet"
TOKENS = "tokens.parquet"


def write_tables(location: Location, ds: xr.Dataset, unit: int) -> None:
    """Write the table of prompts and, where tokens have labels, the table of tokens.

    Parameters
    ----------
    location
        The folder of the index.
    ds
        As `actome.open` gives the cube.
    unit
        Prompts that are read at a time.
    """
    _write(location, PROMPTS, iter([_prompts(ds)]))
    if "token_id" in ds.variables:
        _write(location, TOKENS, _tokens(ds, unit))


def _write(location: Location, name: str, tables: Iterator[pa.Table]) -> None:
    location.fs.makedirs(location.root, exist_ok=True)
    first = next(tables)
    with (
        location.fs.open(f"{location.root}/{name}", "wb") as file,
        pq.ParquetWriter(file, first.schema, compression="zstd", write_page_checksum=True) as writer,
    ):
        writer.write_table(first)
        for table in tables:
            writer.write_table(table)


def _prompts(ds: xr.Dataset) -> pa.Table:
    """One row a prompt, in the order of the recording."""
    columns = [v for v in ds.variables if ds[v].dims == ("prompt",)]
    return pa.table({str(c): _column(ds[c].to_numpy()) for c in columns})


def _tokens(ds: xr.Dataset, unit: int) -> Iterator[pa.Table]:
    """One row a token, padding left out, in the order of the recording."""
    labels = [v for v in ds.variables if ds[v].dims == ("prompt", "token")]
    for start in range(0, ds.sizes["prompt"], unit):
        part = ds[labels].isel(prompt=slice(start, start + unit)).compute()
        valid = part["token_id"].to_numpy() != -1
        prompt, token = np.nonzero(valid)
        columns: dict[str, Any] = {
            "prompt": pa.array(part["prompt"].to_numpy()[prompt].astype(str), pa.string()),
            "token": pa.array(token.astype(np.int32)),
        }
        if {"char_start", "char_end", "text"} <= set(part.variables):
            texts = part["text"].to_numpy()[prompt]
            spans = zip(
                texts, part["char_start"].to_numpy()[valid], part["char_end"].to_numpy()[valid], strict=True
            )
            columns["text"] = pa.array(
                [str(text)[a:b] if a >= 0 else "" for text, a, b in spans], pa.string()
            )
        columns |= {str(v): _column(part[v].to_numpy()[valid]) for v in labels}
        yield pa.table(columns)


def table_of(location: Location, name: str) -> pyarrow.dataset.Dataset:
    """Open one of the two tables of an index, lazily."""
    return pyarrow.dataset.dataset(f"{location.root}/{name}", filesystem=location.fs)


def token_ids(location: Location, text: str) -> list[int]:
    """Return the ids of the tokens that have this text; none where the texts are not known."""
    if not location.exists(TOKENS):
        return []
    table = table_of(location, TOKENS)
    if not {"text", "token_id"} <= set(table.schema.names):
        return []
    wanted = pyarrow.dataset.field("text") == text
    batches = table.to_batches(columns=["token_id"], filter=wanted)
    return sorted({id_ for batch in batches for id_ in batch["token_id"].unique().to_pylist()})


def _column(values: npt.NDArray[Any]) -> pa.Array:
    """Text as text; NaN as a missing value, which SQL leaves out of a mean."""
    if values.dtype.kind in "OUT":
        return pa.array(values.astype(str), pa.string())
    return pa.array(values, from_pandas=True)
