"""The paradigm: which prompts are shown, with which labels, in which order."""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
import pydantic

from ..errors import InputError, InputTypeError, MissingFileError
from ..provenance import digest_json
from ..yaml import describe, read_mapping
from .design import Design, lay_out
from .prompts import PromptDataset, PromptFile
from .tables import TABLES, check_columns, check_unique, integer_column, label_column, name_column
from .template import Template, columns_of, fill

SHIPPED = Path(__file__).parents[2] / "paradigms"

_LABELS = ("prompt", "text", "condition", "block", "run")


def _form_of(prompts: Any) -> str:
    if not isinstance(prompts, dict):
        return "list"
    return "dataset" if "dataset" in prompts else "file"


_Prompts = (
    Annotated[PromptFile, pydantic.Tag("file")]
    | Annotated[PromptDataset, pydantic.Tag("dataset")]
    | Annotated[list[dict[str, Any]], pydantic.Tag("list")]
)


class _Document(pydantic.BaseModel, extra="forbid", frozen=True):
    name: str = pydantic.Field(min_length=1)
    licence: str | None = None
    description: str | None = None
    prompts: Annotated[_Prompts, pydantic.Discriminator(_form_of)]
    template: str | dict[str, str] | None = None
    design: Design | None = None

    def table(self, folder: Path) -> pd.DataFrame:
        if isinstance(self.prompts, PromptFile):
            return self.prompts.read(folder)
        if isinstance(self.prompts, PromptDataset):
            return self.prompts.read(folder, columns=columns_of(self.template or ""))
        return pd.DataFrame(self.prompts)


class Paradigm:
    """Prompts with their labels, in the order in which they are shown.

    Parameters
    ----------
    prompts
        One mapping a prompt, or a table: ``text`` is required; ``prompt`` (or ``id``; unique),
        ``condition``, ``block``, ``run`` and any further column are kept as labels.
    name
        A short name, kept in the provenance.
    licence
        SPDX expression of the texts.
    design
        Lays the prompts out in blocks; without it they are shown as listed.
    template
        What a prompt shows: a text with names of columns in braces ("Question: {text}"), or such a text
        for each condition; it becomes the prompt's ``text``.

    Attributes
    ----------
    table : DataFrame
        One row a prompt: ``prompt``, ``text``, ``condition``, ``block``, ``run`` and further columns.
    source : str
        The YAML it was read from; "" when it was made in Python.

    Raises
    ------
    InputError
        No prompts, a prompt without text, an id used twice, a reserved column name, fewer prompts
        than the design needs, or a template that names a column or condition that is not there.

    Examples
    --------
    >>> p = Paradigm([{"text": "le chat", "condition": "fr"}, {"text": "the cat", "condition": "en"}])
    >>> p.table[["prompt", "condition", "run"]].values.tolist()
    [['fr-0000', 'fr', 0], ['en-0000', 'en', 0]]
    """

    def __init__(
        self,
        prompts: pd.DataFrame | Iterable[Mapping[str, Any]],
        *,
        name: str = "paradigm",
        licence: str | None = None,
        design: Design | None = None,
        template: Template | None = None,
        source: str = "",
    ) -> None:
        table = prompts.copy() if isinstance(prompts, pd.DataFrame) else pd.DataFrame(list(prompts))
        table = _normalise(table)
        self.name = name
        self.licence = licence
        self.source = source
        self.design = design
        table = table if design is None else lay_out(table, design)
        self.table = table if template is None else fill(table, template)

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> "Paradigm":
        """Read a paradigm file (strict YAML 1.2; unknown keys are errors).

        Parameters
        ----------
        path
            The YAML, or the name of a paradigm that ships with Actome ("tasks"), which a file of that name
            goes before. A prompt file that it names is looked for beside it.

        Raises
        ------
        MissingFileError, InputError, MissingDependencyError
            A file is not there, cannot be read, or does not hold what it must; a data set of Hugging Face
            needs the package `datasets`.
        """
        path = _find(Path(path))
        _refuse_table(path)
        content, text = read_mapping(path, "paradigm")
        try:
            document = _Document.model_validate(content)
        except pydantic.ValidationError as error:
            raise InputError(f"paradigm {path}: {describe(error)}") from error
        return cls(
            document.table(path.parent),
            name=document.name,
            licence=document.licence,
            design=document.design,
            template=document.template,
            source=text,
        )

    def select(self, **labels: Any) -> "Paradigm":
        """Return the prompts whose labels have the given value, or one of the given values.

        Raises
        ------
        InputError
            There is no such column, or no such prompt.

        >>> p = Paradigm([{"text": "a", "run": 0}, {"text": "b", "run": 1}, {"text": "c", "run": 2}])
        >>> list(p.select(run=[1, 2]).table.text)
        ['b', 'c']
        """
        keep = np.ones(len(self.table), dtype=bool)
        for column, value in labels.items():
            if column not in self.table:
                raise InputError(f"the paradigm has no column {column!r}; it has {list(self.table.columns)}")
            values = list(value) if isinstance(value, (list, tuple, set, np.ndarray)) else [value]
            keep &= self.table[column].isin(values).to_numpy()
        if not keep.any():
            raise InputError(f"no prompt of the paradigm has {labels}")
        return Paradigm(self.table[keep], name=self.name, licence=self.licence, source=self.source)

    @property
    def digest(self) -> str:
        """Digest of the prompts, their labels and their order."""
        return digest_json(self.table.to_dict(orient="list"))

    def __len__(self) -> int:
        """Count the prompts."""
        return len(self.table)

    def __repr__(self) -> str:
        """Show the name, and how many prompts each condition has."""
        counts = self.table.condition.value_counts(sort=False).to_dict()
        return f"Paradigm({self.name!r}, {len(self)} prompts, conditions {counts})"


def as_paradigm(paradigm: Paradigm | str | os.PathLike[str]) -> Paradigm:
    """Return a paradigm as it is, or read it from its file; a name stands for one that ships.

    Raises
    ------
    InputTypeError
        It is neither a paradigm nor a path; `Paradigm.read` says what else can be wrong.
    """
    if not isinstance(paradigm, (Paradigm, str, os.PathLike)):
        raise InputTypeError(f"expected a Paradigm or the path of its YAML, got {type(paradigm).__name__}")
    return paradigm if isinstance(paradigm, Paradigm) else Paradigm.read(paradigm)


def _find(path: Path) -> Path:
    """Return the file that is meant: the path, or the shipped paradigm of that name."""
    if path.is_file() or len(path.parts) != 1 or path.suffix:
        return path
    shipped = SHIPPED / f"{path}.yaml"
    if not shipped.is_file():
        names = sorted(p.stem for p in SHIPPED.glob("*.yaml"))
        raise MissingFileError(
            f"there is no paradigm file at {path}, and no paradigm of that name ships; those that do: {names}"
        )
    return shipped


def _refuse_table(path: Path) -> None:
    """Refuse prompts alone: which name and licence they have, a paradigm says."""
    if path.suffix.lower() in TABLES and path.is_file():
        raise InputError(
            f"{path} is a table of prompts; write a paradigm beside it, a YAML with the lines "
            f"`name: {path.stem}` and `prompts: {{file: {path.name}}}`, and give that"
        )


def _normalise(table: pd.DataFrame) -> pd.DataFrame:
    """Check the columns and complete the labels; -1 stands for an unknown block."""
    table = table.rename(columns=str).rename(columns={"id": "prompt"}).reset_index(drop=True)
    if not len(table):
        raise InputError("a paradigm needs at least one prompt, got none")
    if "text" not in table:
        raise InputError(f"prompts need a column 'text', got {list(table.columns)}")
    check_columns(list(table.columns), _LABELS)
    bad = [i for i, t in enumerate(table["text"]) if not (isinstance(t, str) and t.strip())]
    if bad:
        raise InputError(f"prompts {bad[:5]} have no text; every prompt needs one that is not blank")
    table["condition"] = name_column(table["condition"], "condition") if "condition" in table else "all"
    for column, default in (("block", -1), ("run", 0)):
        table[column] = integer_column(table[column], column) if column in table else default
    if "prompt" not in table:
        number = table.groupby("condition", sort=False).cumcount()
        table["prompt"] = [f"{c}-{i:04d}" for c, i in zip(table["condition"], number, strict=True)]
    table["prompt"] = name_column(table["prompt"], "prompt")
    check_unique(table["prompt"])
    further = [c for c in table.columns if c not in _LABELS]
    for column in further:
        table[column] = label_column(table[column])
    return table[[*_LABELS, *further]]
