"""The table of labels that comes with imported activations: one row a prompt."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..errors import InputError, InputTypeError
from ..paradigm.tables import (
    check_columns,
    check_unique,
    integer_column,
    label_column,
    name_column,
    read_table,
)

Labels = pd.DataFrame | str | os.PathLike[str]

_WHOLE = ("block", "run", "n_tokens")
_GIVEN = ("prompt", "text", "condition", *_WHOLE)


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
    InputTypeError, MissingFileError, InputError
        It is no table; there is no such file; it is not what its name says, an id stands twice, a column
        cannot become an array.
    """
    if isinstance(labels, (str, os.PathLike)):
        labels = read_table(Path(labels), "table of labels")
    if not isinstance(labels, pd.DataFrame):
        raise InputTypeError(
            f"labels must be a DataFrame or the path of a table, got {type(labels).__name__}"
        )
    table = labels.rename(columns=str).rename(columns={"id": "prompt"}).reset_index(drop=True)
    check_columns(list(table.columns), _GIVEN)
    columns = {str(c): _column(str(c), table[c]) for c in table.columns}
    if "prompt" in columns:
        check_unique(columns["prompt"])
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


def _column(name: str, values: "pd.Series[Any]") -> "pd.Series[Any]":
    """Return a column as what the store holds: whole numbers, numbers, truth values, or text."""
    if name in ("prompt", "condition"):
        return name_column(values, name)
    if name in _WHOLE:
        return integer_column(name_column(values, name) if values.dtype.kind not in "iufb" else values, name)
    if name == "text":
        return label_column(values.astype(object))
    return label_column(values)
