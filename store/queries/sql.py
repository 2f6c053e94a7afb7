"""SQL over the labels of a recording: its tables of prompts and tokens, through DuckDB."""

import os
from typing import Final

import pandas as pd

from ..errors import InputError, MissingDependencyError
from ..index.build import index_of, is_current
from ..index.parquet import PROMPTS, TOKENS, table_of
from ..location import Location

_SHUT_IN: Final[dict[str, str | bool | int | float | list[str]]] = {
    "python_enable_replacements": False,
    "temp_directory": "",
}  # no variable of ours, no file of its own


def sql(path: str | os.PathLike[str], query: str) -> pd.DataFrame:
    """Ask the tables of a recording a question in SQL.

    Parameters
    ----------
    path
        A recording with an index.
    query
        SQL of DuckDB. The tables are ``prompts`` (a row a prompt, with every label) and, where tokens
        have labels, ``tokens`` (a row a token: ``prompt``, ``token``, ``text``, ``token_id``,
        ``logprob``, ...). It can read nothing else, and write nothing.

    Returns
    -------
    DataFrame

    Raises
    ------
    InputError
        There is no index, or the query is wrong.
    MissingDependencyError
        DuckDB is not installed.
    """
    try:
        import duckdb
    except ImportError as error:
        raise MissingDependencyError(
            "SQL needs the package duckdb; install it with pip install 'actome[sql]'"
        ) from error
    location = Location.of(path)
    if not is_current(location):
        raise InputError(f"{location} has no index of what it holds now; build one with `actome index`")
    folder = index_of(location)
    with duckdb.connect(config=_SHUT_IN) as connection:
        for name in (PROMPTS, TOKENS):
            if folder.exists(name):
                connection.register(name.removesuffix(".parquet"), table_of(folder, name))
        connection.execute("SET enable_external_access = false; SET lock_configuration = true")
        try:
            return connection.execute(query).df()
        except duckdb.Error as error:
            raise InputError(f"the query failed: {error}") from error
