"""The paradigm: which prompts are shown, with which labels, in which order."""

import json
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pandas as pd
import pydantic

from .errors import InputError, InputTypeError, MissingDependencyError, MissingFileError
from .provenance import digest_json
from .schema import ROOT, SITE, SITES, SUMMARY
from .yaml import describe, read_mapping

_LABELS = ("prompt", "text", "condition", "block", "run")
_RESERVED = {v.name for v in (*ROOT, *SITE, *SUMMARY)} - set(_LABELS) | {"token", *SITES}


class _Strict(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)


class Design(_Strict):
    """A block design: how often and in which order the conditions are shown.

    Every run shows each task condition once, in an order drawn from `seed`, as the blocks of
    `pattern`; no prompt is shown twice.

    Attributes
    ----------
    pattern
        Blocks around one task, each "rest" or "task".
    per_block, rest_per_block
        Prompts in a task block, and in a rest block (as many when left out).
    runs
        Repeats of the whole design.
    rest
        The condition whose prompts fill the rest blocks.
    seed
        Draws the order of the tasks in a run and of the prompts in a condition.
    """

    pattern: tuple[Literal["rest", "task"], ...] = ("rest", "task", "rest")
    per_block: int = pydantic.Field(10, ge=1)
    rest_per_block: int | None = pydantic.Field(None, ge=1)
    runs: int = pydantic.Field(3, ge=1)
    rest: str
    seed: int = pydantic.Field(0, ge=0)

    @pydantic.field_validator("pattern")
    @classmethod
    def _shows_the_task(cls, pattern: tuple[str, ...]) -> tuple[str, ...]:
        if "task" not in pattern:
            raise ValueError("needs at least one 'task'")
        return pattern


class _PromptFile(_Strict):
    file: str


def _form_of(prompts: Any) -> str:
    return "file" if isinstance(prompts, (Mapping, _PromptFile)) else "list"


class _Document(_Strict):
    name: str = pydantic.Field(min_length=1)
    licence: str | None = None
    description: str | None = None
    prompts: Annotated[
        Annotated[_PromptFile, pydantic.Tag("file")] | Annotated[list[dict[str, Any]], pydantic.Tag("list")],
        pydantic.Discriminator(_form_of),
    ]
    design: Design | None = None


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

    Attributes
    ----------
    table : DataFrame
        One row a prompt: ``prompt``, ``text``, ``condition``, ``block``, ``run`` and further columns.
    source : str
        The YAML it was read from; "" when it was made in Python.

    Raises
    ------
    InputError
        No prompts, a prompt without text, an id used twice, a reserved column name, or fewer
        prompts than the design needs.

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
        source: str = "",
    ) -> None:
        table = prompts.copy() if isinstance(prompts, pd.DataFrame) else pd.DataFrame(list(prompts))
        table = _normalise(table)
        self.name = name
        self.licence = licence
        self.source = source
        self.design = design
        self.table = table if design is None else _lay_out(table, design)

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> "Paradigm":
        """Read a paradigm file (strict YAML 1.2; unknown keys are errors).

        Parameters
        ----------
        path
            The YAML; a prompt file that it names is looked for beside it.

        Raises
        ------
        MissingFileError, InputError, MissingDependencyError
            A file is not there, cannot be read, or does not hold what it must; Parquet needs pyarrow.
        """
        path = Path(path)
        content, text = read_mapping(path, "paradigm")
        try:
            document = _Document.model_validate(content)
        except pydantic.ValidationError as error:
            raise InputError(f"paradigm {path}: {describe(error)}") from error
        prompts = document.prompts
        table = (
            _read_table(path.parent / prompts.file)
            if isinstance(prompts, _PromptFile)
            else pd.DataFrame(prompts)
        )
        return cls(table, name=document.name, licence=document.licence, design=document.design, source=text)

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
    """Return a paradigm as it is, or read it from its file.

    Raises
    ------
    InputTypeError
        It is neither a paradigm nor a path; `Paradigm.read` says what else can be wrong.
    """
    if not isinstance(paradigm, (Paradigm, str, os.PathLike)):
        raise InputTypeError(f"expected a Paradigm or the path of its YAML, got {type(paradigm).__name__}")
    return paradigm if isinstance(paradigm, Paradigm) else Paradigm.read(paradigm)


def _read_table(path: Path) -> pd.DataFrame:
    if not path.is_file():
        raise MissingFileError(f"there is no prompt file at {path}")
    readers: dict[str, Callable[[Path], pd.DataFrame]] = {
        ".csv": _read_csv,
        ".txt": _read_txt,
        ".jsonl": _read_jsonl,
        ".parquet": pd.read_parquet,
    }
    kind = path.suffix.lower()
    if kind not in readers:
        raise InputError(f"prompt file {path} must end in {', '.join(readers)}, got {kind!r}")
    try:
        return readers[kind](path)
    except ImportError as error:
        raise MissingDependencyError(f"prompt file {path} needs the package pyarrow: {error}") from error
    except ValueError as error:
        raise InputError(f"prompt file {path} is not {kind[1:]}: {error}") from error


def _read_csv(path: Path) -> pd.DataFrame:
    return pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig")


def _read_txt(path: Path) -> pd.DataFrame:
    lines = path.read_text(encoding="utf-8-sig").split("\n")
    return pd.DataFrame({"text": [line for line in lines if line.strip()]})


def _read_jsonl(path: Path) -> pd.DataFrame:
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8-sig").split("\n") if line.strip()]
    if not all(isinstance(row, dict) for row in rows):
        raise ValueError("every line must be an object")
    return pd.DataFrame(rows)


def _normalise(table: pd.DataFrame) -> pd.DataFrame:
    """Check the columns and complete the labels; -1 stands for an unknown block."""
    table = table.rename(columns=str).rename(columns={"id": "prompt"}).reset_index(drop=True)
    if not len(table):
        raise InputError("a paradigm needs at least one prompt, got none")
    _check_columns(list(table.columns))
    bad = [i for i, t in enumerate(table["text"]) if not (isinstance(t, str) and t)]
    if bad:
        raise InputError(f"prompts {bad[:5]} have no text; every prompt needs a non-empty string")
    table["condition"] = _names(table["condition"], "condition") if "condition" in table else "all"
    for column, default in (("block", -1), ("run", 0)):
        table[column] = _integers(table[column], column) if column in table else default
    if "prompt" not in table:
        number = table.groupby("condition", sort=False).cumcount()
        table["prompt"] = [f"{c}-{i:04d}" for c, i in zip(table["condition"], number, strict=True)]
    table["prompt"] = _names(table["prompt"], "prompt")
    twice = table["prompt"][table["prompt"].duplicated()].unique()
    if len(twice):
        raise InputError(f"prompt ids must be unique; {list(twice[:5])} stand more than once")
    further = [c for c in table.columns if c not in _LABELS]
    for column in further:
        table[column] = _label_column(table[column])
    return table[[*_LABELS, *further]]


def _check_columns(columns: list[str]) -> None:
    """Columns become arrays of the recording: their names must be free, and fit for a file."""
    if "text" not in columns:
        raise InputError(f"prompts need a column 'text', got {columns}")
    if len(set(columns)) < len(columns):
        raise InputError(f"a column stands twice ('id' is short for 'prompt'), got {columns}")
    reserved = sorted(_RESERVED & set(columns))
    if reserved:
        raise InputError(f"columns {reserved} are reserved for what is recorded; rename them")
    unfit = [c for c in columns if not c or "/" in c or c.startswith((".", "__"))]
    if unfit:
        raise InputError(
            f"columns {unfit} cannot name an array: no '/', no '.' or '__' in front; rename them"
        )


def _is_missing(value: Any) -> bool:
    return value is None or value is pd.NA or (isinstance(value, float) and np.isnan(value))


def _names(values: "pd.Series[Any]", column: str) -> "pd.Series[Any]":
    """Text that a prompt cannot do without."""
    missing = [i for i, v in enumerate(values) if _is_missing(v) or v == ""]
    if missing:
        raise InputError(f"prompts {missing[:5]} have no {column!r}; give one to every prompt or to none")
    return values.map(str).astype(object)


def _integers(values: "pd.Series[Any]", column: str) -> "pd.Series[Any]":
    try:
        whole = values.astype("int64")
    except (ValueError, TypeError) as error:
        raise InputError(f"column {column!r} must hold whole numbers: {error}") from error
    if values.dtype.kind == "f" and (whole != values).any():
        raise InputError(f"column {column!r} must hold whole numbers, got {values[whole != values].iloc[0]}")
    return whole


def _label_column(values: "pd.Series[Any]") -> "pd.Series[Any]":
    """Keep numbers and booleans; everything else, missing values too, becomes text."""
    if values.dtype.kind in "iufb" and not values.isna().any():
        return pd.Series(np.asarray(values.tolist()), index=values.index)
    return values.map(lambda v: "" if _is_missing(v) else str(v)).astype(object)


def _lay_out(table: pd.DataFrame, design: Design) -> pd.DataFrame:
    """Order the prompts in runs and blocks; prompts beyond the design's need are left out."""
    rng = np.random.default_rng(design.seed)
    tasks = [c for c in table["condition"].unique() if c != design.rest]
    if not tasks:
        raise InputError(f"the design needs a condition other than its rest, {design.rest!r}")
    size = {"task": design.per_block, "rest": design.rest_per_block or design.per_block}
    per_run = {c: size["task"] * design.pattern.count("task") for c in tasks}
    per_run[design.rest] = size["rest"] * design.pattern.count("rest") * len(tasks)
    queues: dict[str, list[int]] = {}
    for condition, need in per_run.items():
        rows = np.flatnonzero(table["condition"] == condition)
        if len(rows) < need * design.runs:
            raise InputError(
                f"the design needs {need * design.runs} prompts of condition {condition!r} "
                f"({design.runs} runs of {need}), the paradigm has {len(rows)}"
            )
        queues[condition] = rng.permutation(rows).tolist()
    order, blocks, runs, block = [], [], [], 0
    for run in range(design.runs):
        for task in rng.permutation(np.array(tasks, dtype=object)):
            for part in design.pattern:
                queue = queues[task if part == "task" else design.rest]
                order += [queue.pop(0) for _ in range(size[part])]
                blocks += [block] * size[part]
                runs += [run] * size[part]
                block += 1
    return table.iloc[order].assign(block=blocks, run=runs).reset_index(drop=True)
