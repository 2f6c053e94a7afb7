"""The table of labels that comes with imported activations: one row a prompt."""

import json
import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..errors import InputError, InputTypeError, MissingDependencyError, MissingFileError
from ..schema import ROOT, SITE, SITES, SUMMARY

Labels = pd.DataFrame | str | os.PathLike[str]

_WHOLE = ("block", "run", "n_tokens")
_TAKEN = {v.name for v in (*ROOT, *SITE, *SUMMARY)} - {"prompt", "text", "condition", *_WHOLE}
_RESERVED = _TAKEN | {"token", *SITES}


def read_labels(labels: Labels) -> pd.DataFrame:
    """Read a table of labels, or take one that is there, and check its columns.

    Parameters
    ----------
    labels
        A table, or the path of a csv, jsonl or parquet file. ``prompt`` (or ``id``) names the
        prompts; ``text``, ``condition``, ``block``, ``run``, ``n_tokens`` and any further column
        are optional. In a csv, columns other than ``block``, ``run`` and ``n_tokens`` are text.

    Returns
    -------
    DataFrame with text, whole numbers, numbers and truth values only.

    Raises
    ------
    InputTypeError, MissingFileError, InputError, MissingDependencyError
        It is no table; there is no such file; it is not what its name says, an id stands twice, a column
        cannot become an array; Parquet needs pyarrow.
    """
    if isinstance(labels, (str, os.PathLike)):
        labels = _read_file(Path(labels))
    if not isinstance(labels, pd.DataFrame):
        raise InputTypeError(
            f"labels must be a DataFrame or the path of a table, got {type(labels).__name__}"
        )
    table = labels.rename(columns=str).rename(columns={"id": "prompt"}).reset_index(drop=True)
    _check_columns([str(c) for c in table.columns])
    columns = {str(c): _column(str(c), table[c]) for c in table.columns}
    if "prompt" in columns:
        twice = columns["prompt"][columns["prompt"].duplicated()].unique()
        if len(twice):
            raise InputError(f"prompt ids must be unique; the labels have {list(twice[:5])} more than once")
    return pd.DataFrame(columns, index=table.index)


def number_rows(labels: pd.DataFrame, n_prompts: int, what: str) -> pd.DataFrame:
    """Join labels to prompts that have no ids of their own: row i of the table describes prompt i.

    Raises
    ------
    InputError
        There are more or fewer rows than prompts, or the ids are the row numbers in another order.
    """
    if len(labels) != n_prompts:
        raise InputError(
            f"the labels have {len(labels)} rows, {what} {n_prompts} prompts; give one row a prompt"
        )
    numbers = [str(i) for i in range(n_prompts)]
    if "prompt" not in labels:
        return labels.assign(prompt=np.array(numbers, dtype=object))
    ids = labels["prompt"].tolist()
    if ids != numbers and sorted(ids) == sorted(numbers):
        raise InputError(
            "the labels' prompt ids are the row numbers in another order, but row i describes prompt i; "
            "sort the table by its ids, or name the prompts otherwise"
        )
    return labels


def match_ids(labels: pd.DataFrame, ids: list[str], what: str) -> list[int]:
    """Join labels to prompts by id: return, for each row of the table, the place of its prompt in `ids`.

    Raises
    ------
    InputError
        The table has no ids, or others than the prompts.
    """
    if "prompt" not in labels:
        raise InputError(
            f"labels need a column 'prompt' (or 'id') with {what}; they have {list(labels.columns)}"
        )
    place = {name: i for i, name in enumerate(ids)}
    unknown = [name for name in labels["prompt"] if name not in place]
    missing = sorted(place.keys() - set(labels["prompt"]))
    for names, problem in (
        (unknown, "in the labels have no file"),
        (missing, "have no row in the labels"),
    ):
        if names:
            raise InputError(
                f"{len(names)} prompts, such as {names[:3]}, {problem}; they are joined by {what}"
            )
    return [place[name] for name in labels["prompt"]]


def _read_file(path: Path) -> pd.DataFrame:
    if not path.is_file():
        raise MissingFileError(f"there is no file of labels at {path}")
    readers: dict[str, Callable[[Path], pd.DataFrame]] = {
        ".csv": _read_csv,
        ".jsonl": _read_jsonl,
        ".parquet": pd.read_parquet,
    }
    kind = path.suffix.lower()
    if kind not in readers:
        raise InputError(f"labels {path} must end in {', '.join(readers)}, got {kind!r}")
    try:
        return readers[kind](path)
    except ImportError as error:
        raise MissingDependencyError(
            f"labels {path} need the package pyarrow, which is not installed here: "
            "pip install 'actome[arrow]'"
        ) from error
    except ValueError as error:
        raise InputError(f"labels {path} are not {kind[1:]}: {error}") from error


def _read_csv(path: Path) -> pd.DataFrame:
    with warnings.catch_warnings():
        warnings.simplefilter("error", pd.errors.ParserWarning)
        try:
            return pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig", index_col=False)
        except pd.errors.ParserWarning as error:
            raise ValueError("a row has more fields than the header names") from error


def _read_jsonl(path: Path) -> pd.DataFrame:
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8-sig").split("\n") if line.strip()]
    if not all(isinstance(row, dict) for row in rows):
        raise ValueError("every line must be an object")
    return pd.DataFrame(rows)


def _check_columns(columns: list[str]) -> None:
    """Columns become arrays of the recording: their names must be free, and fit for a file."""
    if len(set(columns)) < len(columns):
        raise InputError(f"a column of the labels stands twice ('id' is short for 'prompt'), got {columns}")
    reserved = sorted(_RESERVED & set(columns))
    if reserved:
        raise InputError(f"label columns {reserved} are reserved for what is recorded; rename them")
    unfit = [c for c in columns if not c or "/" in c or c.startswith((".", "__"))]
    if unfit:
        raise InputError(
            f"label columns {unfit} cannot name an array: no '/', no '.' or '__' in front; rename them"
        )


def _column(name: str, values: "pd.Series[Any]") -> "pd.Series[Any]":
    """Return a column as what the store holds: whole numbers, numbers, truth values, or text."""
    missing = [i for i, v in enumerate(values) if _is_missing(v)]
    if name in ("prompt", "condition", *_WHOLE):
        absent = missing or [i for i, v in enumerate(values) if v == ""]
        if absent:
            raise InputError(f"rows {absent[:5]} of the labels have no {name!r}; give one to every row")
    if name in _WHOLE:
        return _whole(name, values)
    if name not in ("prompt", "text", "condition") and values.dtype.kind in "iufb" and not missing:
        return pd.Series(np.asarray(values.tolist()), index=values.index)
    return values.map(lambda v: "" if _is_missing(v) else str(v)).astype(object)


def _whole(name: str, values: "pd.Series[Any]") -> "pd.Series[Any]":
    try:
        whole = values.astype("int64")
    except (ValueError, TypeError) as error:
        raise InputError(f"label column {name!r} must hold whole numbers: {error}") from error
    if values.dtype.kind == "f" and (whole != values).any():
        raise InputError(
            f"label column {name!r} must hold whole numbers, got {values[whole != values].iloc[0]}"
        )
    return whole


def _is_missing(value: Any) -> bool:
    return (
        value is None or value is pd.NA or value is pd.NaT or (isinstance(value, float) and np.isnan(value))
    )
