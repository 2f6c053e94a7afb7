"""Where prompts come from: a file beside the paradigm, or a data set of Hugging Face."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pydantic

from ..errors import ActomeError, InputError, MissingDependencyError, MissingFileError
from .tables import number_column, read_table

_HUB_ID = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?")
_COMPLETED = {"prompt", "condition", "block", "run"}  # columns that a paradigm has in any case


class PromptFile(pydantic.BaseModel, extra="forbid", frozen=True):
    """A csv, txt, jsonl or parquet file; its columns are the labels.

    Attributes
    ----------
    file
        Its path; a relative one starts at the paradigm's folder.
    numbers
        Columns that hold numbers, for a design to take as such. A csv holds text alone, so that a column of
        it is otherwise a label whose every value is a category.
    """

    file: str
    numbers: tuple[str, ...] = ()

    def read(self, folder: Path) -> pd.DataFrame:
        """Read the table.

        Parameters
        ----------
        folder
            Where a relative path starts.

        Raises
        ------
        MissingFileError, InputError, MissingDependencyError
            It is not there, or is not what its name says; a column of `numbers` is not there, or holds
            something else.
        """
        table = read_table(folder / self.file, "prompt file", lines=True)
        unknown = [c for c in self.numbers if c not in table]
        if unknown:
            raise InputError(
                f"`numbers` names unknown column {unknown[0]!r}; prompt file {self.file} has {list(table)}"
            )
        return table.assign(**{c: number_column(table[c], c) for c in self.numbers})


class PromptDataset(pydantic.BaseModel, extra="forbid", frozen=True):
    """A data set of the Hugging Face Hub, or a folder that `datasets` saved.

    Attributes
    ----------
    dataset
        Its id, or the folder's path; a relative one starts at the paradigm's folder.
    name, revision
        Of the Hub: the configuration; the branch, tag or commit.
    split
        "train", "test", ...
    text, condition
        The columns that become the prompts' text and condition.
    limit, seed
        Take at most so many rows: the first ones, or, with a seed, rows drawn at random.
    """

    dataset: str = pydantic.Field(min_length=1)
    name: str | None = None
    revision: str | None = None
    split: str | None = None
    text: str = "text"
    condition: str | None = None
    limit: int | None = pydantic.Field(None, ge=1)
    seed: int | None = pydantic.Field(None, ge=0)

    def read(self, folder: Path, *, columns: Sequence[str] = ()) -> pd.DataFrame:
        """Load the rows; class labels become their names.

        Parameters
        ----------
        folder
            Where a relative path starts.
        columns
            Columns to keep besides the text and the condition.

        Raises
        ------
        MissingFileError, InputError, MissingDependencyError
            It cannot be had, has no such split or column, or the package `datasets` is not installed.
        """
        rows = self._load(folder)
        wanted = {"text": self.text} | ({"condition": self.condition} if self.condition else {})
        wanted |= {
            c: c for c in columns if c not in wanted and (c in rows.column_names or c not in _COMPLETED)
        }
        missing = [c for c in wanted.values() if c not in rows.column_names]
        if missing:
            raise InputError(
                f"data set {self.dataset!r} has no column {missing[0]!r}; it has {rows.column_names}"
            )
        # selected in memory: what `datasets` would keep for the next time, it would write into the folder
        rows = rows.select_columns(list(dict.fromkeys(wanted.values())))
        rows = rows.select(self._drawn(len(rows)), keep_in_memory=True)
        return pd.DataFrame({c: _named(rows, source) for c, source in wanted.items()})

    def _drawn(self, n_rows: int) -> Any:
        order = (
            np.arange(n_rows) if self.seed is None else np.random.default_rng(self.seed).permutation(n_rows)
        )
        return order[: self.limit]

    def _load(self, folder: Path) -> Any:
        try:
            import datasets
        except ImportError as error:
            raise MissingDependencyError(
                f"prompts from the data set {self.dataset!r} need the package datasets, which is not "
                "installed here: pip install 'actome[datasets]'"
            ) from error
        path = folder / self.dataset
        try:
            if path.is_dir():
                return self._of_folder(datasets.load_from_disk(str(path)))
            self._check_id(path)
            loaded = datasets.load_dataset(self.dataset, self.name, split=self.split, revision=self.revision)
            return self._one_split(loaded)
        except ActomeError:
            raise
        except (OSError, ValueError, LookupError, RuntimeError, datasets.exceptions.DatasetsError) as error:
            reason = " ".join(str(error).split())
            kind = MissingFileError if isinstance(error, OSError) else InputError
            raise kind(f"data set {self.dataset!r} cannot be loaded: {reason}") from error

    def _check_id(self, path: Path) -> None:
        """Refuse what is no id, or names a folder where a paradigm does not look, before the Hub is asked."""
        if not _HUB_ID.fullmatch(self.dataset):
            raise MissingFileError(
                f"there is no data set at {path}, and {self.dataset!r} is no id of the Hugging Face Hub"
            )
        if Path(self.dataset).exists():
            raise InputError(
                f"data set {self.dataset!r} is in the working folder, but a paradigm's paths start at "
                f"its own folder, {path.parent}; move it there or give its whole path"
            )

    def _of_folder(self, loaded: Any) -> Any:
        if self.name or self.revision:
            raise InputError(f"data set {self.dataset!r} is a folder; `name` and `revision` are of the Hub")
        if not isinstance(loaded, dict) and self.split not in (None, loaded.split):
            raise InputError(
                f"data set {self.dataset!r} is one table, of split {loaded.split!r}, got {self.split!r}; "
                "leave `split` out"
            )
        return self._one_split(loaded)

    def _one_split(self, loaded: Any) -> Any:
        if not isinstance(loaded, dict):
            return loaded
        if self.split not in loaded:
            raise InputError(
                f"data set {self.dataset!r} has the splits {list(loaded)}, got {self.split!r}; "
                "name one with `split`"
            )
        return loaded[self.split]


def _named(rows: Any, column: str) -> list[Any]:
    """Values of a column; a class label becomes its name, the label of an unlabelled row (-1) missing."""
    names = getattr(rows.features[column], "names", None)
    values = list(rows[column])
    if names is None:
        return values
    return [None if value is None or value < 0 else names[value] for value in values]
