"""Templates: the text that a model is shown, made from the columns of a prompt."""

import string
from collections.abc import Mapping

import pandas as pd

from ..errors import InputError, InputTypeError

Template = str | Mapping[str, str]


def columns_of(template: Template) -> list[str]:
    """Return the columns that a template names, in order, each once.

    Raises
    ------
    InputError
        Something other than a column's name stands in braces, or a brace stands alone.

    >>> columns_of("{{Q}} {text} ({level})")
    ['text', 'level']
    """
    texts = [template] if isinstance(template, str) else template.values()
    return list(dict.fromkeys(c for text in texts for _, c in _parse(text) if c is not None))


def fill(table: pd.DataFrame, template: Template) -> pd.DataFrame:
    """Put the filled template in the place of each text.

    Parameters
    ----------
    table
        Complete labels, as a `Paradigm` has them.
    template
        One for all prompts, or condition -> template; prompts of a condition without one stay as they are.

    Raises
    ------
    InputError, InputTypeError
        A column or a condition is not there; `columns_of` says what else can be wrong.
    """
    if not isinstance(template, (str, Mapping)):
        raise InputTypeError(
            f"a template is a text, or a mapping condition -> text; got {type(template).__name__}"
        )
    conditions = list(table["condition"].unique())
    by_condition = dict.fromkeys(conditions, template) if isinstance(template, str) else dict(template)
    unknown = [c for c in by_condition if c not in conditions]
    if unknown:
        raise InputError(f"template names unknown condition {unknown[0]!r}; the prompts have {conditions}")
    parsed = {condition: _parse(text) for condition, text in by_condition.items()}
    named = {column for parts in parsed.values() for _, column in parts if column is not None}
    missing = sorted(named - set(table.columns))
    if missing:
        raise InputError(
            f"template names unknown column {missing[0]!r}; the prompts have {list(table.columns)}. "
            "Correct the name, or write {{ and }} for braces that are meant."
        )
    texts = [
        _filled(parsed[row["condition"]], row) if row["condition"] in parsed else row["text"]
        for row in table.to_dict("records")
    ]
    empty = [i for i, text in enumerate(texts) if not text.strip()]
    if empty:
        raise InputError(f"the template leaves prompts {empty[:5]} without text")
    return table.assign(text=pd.Series(texts, index=table.index, dtype=object))


def _filled(parts: list[tuple[str, str | None]], row: Mapping[object, object]) -> str:
    return "".join(literal + ("" if column is None else str(row[column])) for literal, column in parts)


def _parse(template: str) -> list[tuple[str, str | None]]:
    """Literal text and the column after it; the grammar of str.format, of which only names are let in."""
    if not isinstance(template, str):
        raise InputTypeError(f"a template must be a text, got {type(template).__name__}")
    try:
        fields = list(string.Formatter().parse(template))
    except ValueError as error:
        raise InputError(
            f"template {template!r}: {error}; write {{{{ and }}}} for braces that are meant"
        ) from error
    for _, column, spec, conversion in fields:
        if column is None:
            continue
        if not column or column != column.strip() or set(column) & set(".[]{}") or spec or conversion:
            shown = column + (f"!{conversion}" if conversion else "") + (f":{spec}" if spec else "")
            raise InputError(
                f"template {template!r}: only a column's name may stand in braces, got {{{shown}}}; "
                "no attribute, index, conversion or format. Write {{ and }} for braces that are meant."
            )
    return [(literal, column) for literal, column, _, _ in fields]
