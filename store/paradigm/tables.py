"""Tables of labels, one row a prompt: read from a file, and checked so that each column can be an array."""

import json
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..errors import InputError, MissingFileError
from ..schema import ROOT, SITE, SITES, SUMMARY

TABLES = (".csv", ".txt", ".jsonl", ".parquet")  # endings of files of prompts

_RECORDED = {v.name for v in (*ROOT, *SITE, *SUMMARY)} | {"token", *SITES}


def read_table(path: Path, what: str, *, lines: bool = False) -> pd.DataFrame:
    """Read a csv, jsonl or parquet file; a csv holds text alone.

    Parameters
    ----------
    path
        The file.
    what
        What it is to the user, for the errors: "prompt file".
    lines
        Take a txt file too: each line that is not blank is a ``text``.

    Raises
    ------
    MissingFileError, InputError
        It is not there; it is not what its name says.
    """
    if not path.is_file():
        raise MissingFileError(f"there is no {what} at {path}")
    readers: dict[str, Callable[[Path], pd.DataFrame]] = {
        ".csv": _read_csv,
        **({".txt": _read_txt} if lines else {}),
        ".jsonl": _read_jsonl,
        ".parquet": pd.read_parquet,
    }
    kind = path.suffix.lower()
    if kind not in readers:
        raise InputError(f"{what} {path} must end in {', '.join(readers)}, got {kind!r}")
    try:
        return readers[kind](path)
    except ValueError as error:
        raise InputError(f"{what} {path} is not {kind[1:]}: {error}") from error


def _read_csv(path: Path) -> pd.DataFrame:
    with warnings.catch_warnings():
        warnings.simplefilter("error", pd.errors.ParserWarning)
        try:
            table = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig", index_col=False)
        except pd.errors.ParserWarning as error:
            raise ValueError("a row has more fields than the header names") from error
    table = table.rename(columns=str.strip)  # of ``text, condition`` the blank belongs to the comma
    if table.columns.has_duplicates:
        raise ValueError("two columns have one name")
    return table


def _read_txt(path: Path) -> pd.DataFrame:
    lines = path.read_text(encoding="utf-8-sig").split("\n")
    return pd.DataFrame({"text": [line for line in lines if line.strip()]})


def _read_jsonl(path: Path) -> pd.DataFrame:
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8-sig").split("\n") if line.strip()]
    if not all(isinstance(row, dict) for row in rows):
        raise ValueError("every line must be an object")
    return pd.DataFrame(rows)


def check_columns(columns: Sequence[str], allowed: Sequence[str]) -> None:
    """Refuse columns that cannot become arrays of a recording.

    Parameters
    ----------
    columns
        The names.
    allowed
        Those of the schema that a user may give.

    Raises
    ------
    InputError
        A name stands twice, is taken by what is recorded, or cannot name a file.
    """
    if len(set(columns)) < len(columns):
        raise InputError(f"a column stands twice ('id' is short for 'prompt'), got {list(columns)}")
    reserved = sorted((_RECORDED - set(allowed)) & set(columns))
    if reserved:
        raise InputError(f"columns {reserved} are reserved for what is recorded; rename them")
    unfit = [c for c in columns if not c or c != c.strip() or "/" in c or c.startswith((".", "__"))]
    if unfit:
        raise InputError(
            f"columns {unfit} cannot name an array: no '/', no blank around, no '.' or '__' in front; "
            "rename them"
        )


def name_column(values: "pd.Series[Any]", column: str) -> "pd.Series[Any]":
    """Return text that no row can do without, and that no one mistakes for another."""
    missing = [i for i, v in enumerate(values) if _is_missing(v) or v == ""]
    if missing:
        raise InputError(f"rows {missing[:5]} have no {column!r}; give one to every prompt or to none")
    names = values.map(str).astype(object)
    padded = [name for name in names.unique() if name != name.strip()]
    if padded:
        raise InputError(
            f"{column} {padded[0]!r} has blanks around it; take them out, in a csv also behind the commas"
        )
    return names


def check_unique(prompts: "pd.Series[Any]") -> None:
    """Refuse a prompt id that stands twice."""
    twice = prompts[prompts.duplicated()].unique()
    if len(twice):
        raise InputError(f"prompt ids must be unique; {list(twice[:5])} stand more than once")


def integer_column(values: "pd.Series[Any]", column: str) -> "pd.Series[Any]":
    """Return whole numbers, read from text where they are text."""
    try:
        whole = values.astype("int64")
    except (ValueError, TypeError) as error:
        raise InputError(f"column {column!r} must hold whole numbers: {error}") from error
    if values.dtype.kind == "f" and (whole != values).any():
        raise InputError(f"column {column!r} must hold whole numbers, got {values[whole != values].iloc[0]}")
    return whole


def number_column(values: "pd.Series[Any]", column: str) -> "pd.Series[Any]":
    """Return numbers, read from text where they are text: floats, as designs take whole numbers for names."""
    numbers = pd.to_numeric(values, errors="coerce").astype("float64")
    bad = np.flatnonzero(~np.isfinite(numbers.to_numpy()))
    if len(bad):
        shown = [values.iloc[i] for i in bad[:5]]
        raise InputError(
            f"column {column!r} must hold a number in every row; rows {bad[:5].tolist()} hold {shown}"
        )
    return numbers


def label_column(values: "pd.Series[Any]") -> "pd.Series[Any]":
    """Keep numbers and booleans; everything else, missing values too, becomes text."""
    if values.dtype.kind in "iufb" and not values.isna().any():
        return pd.Series(np.asarray(values.tolist()), index=values.index)
    return values.map(lambda v: "" if _is_missing(v) else str(v)).astype(object)


def _is_missing(value: Any) -> bool:
    return (
        value is None or value is pd.NA or value is pd.NaT or (isinstance(value, float) and np.isnan(value))
    )
