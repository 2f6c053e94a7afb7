"""The parts of a design: what the formula explains with, what confounds take away."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from ...store.errors import InputError
from ...store.moments import Float64
from .columns import Columns, categories, cell_means, centred, deviations
from .formula import formula_columns, formula_variables
from .tokens import convolved
from .variables import Variables

_RUN = ("run",)  # the confounds by default, and the one that a recording may lack


@dataclass(frozen=True)
class Part:
    """Regressors of one role: "condition", "effect" or "confound".

    Attributes
    ----------
    columns
        (prompt,) each or, `by_token`, (valid token,).
    role, by_token
        What they are for; whether they have a value a token.
    """

    columns: Columns
    role: str
    by_token: bool


def formula_part(formula: str, variables: Variables) -> Part:
    """Make the regressors of a formula."""
    names = {formula} if formula in variables else formula_variables(formula)
    for name in sorted(names):
        variables.refuse_hidden(name, f"formula {formula!r}")
    unknown = sorted(n for n in names if n not in variables)
    if unknown:
        stored = variables.stored_by_token()
        raise InputError(
            f"formula {formula!r} names {unknown}, which the recording lacks; "
            f"its labels are {list(variables.labels.columns)}"
            + (f", its variables of tokens {stored}" if stored else "")
        )
    by_token = any(variables.is_by_token(n) for n in names)
    single = names == {formula}
    if single and not variables.is_number(formula):
        return Part(cell_means(formula, variables.values(formula)), "condition", by_token)
    table = pd.DataFrame(
        {n: _table_column(n, variables, by_token) for n in sorted(names)},
        index=pd.RangeIndex(variables.count.sum() if by_token else len(variables.count)),
    )
    text = f"`{formula}`" if single else formula  # a label need not be an identifier
    return Part(formula_columns(text, table), "effect", by_token)


def _table_column(name: str, variables: Variables, by_token: bool) -> pd.Categorical | npt.NDArray[Any]:
    """Return a variable as formulas take it, a value a prompt or a token."""
    values = variables.values(name)
    repeat = variables.count if by_token and not variables.is_by_token(name) else 1
    if values.dtype.kind == "U":
        levels, code = categories(name, values)
        return pd.Categorical.from_codes(code.repeat(repeat), categories=pd.Index(levels.astype(object)))
    wide = {"i": np.int64, "u": np.int64, "f": np.float64}  # small integers would overflow in a product
    return np.asarray(values, dtype=wide.get(values.dtype.kind)).repeat(repeat)


def confound_part(name: str, variables: Variables) -> Part:
    """Make the regressors of a confound; none if it does not vary."""
    values, by_token = variables.values(name), variables.is_by_token(name)
    if variables.is_number(name):
        weight = np.ones(len(values), dtype=np.int64) if by_token else variables.count
        return Part(centred(name, values, weight), "confound", by_token)
    return Part(deviations(name, values), "confound", by_token)


def confound_names(given: Sequence[str] | None, variables: Variables) -> list[str]:
    """Return the confounds that are asked for: those given, or the runs; runs only where there are any.

    Raises
    ------
    InputError
        The recording lacks one that was given: left out unseen, its effect would be taken for the formula's.
    """
    asked = dict.fromkeys(_RUN if given is None else given)
    names = [n for n in asked if n not in _RUN or n in variables.labels]
    for name in names:
        variables.refuse_hidden(name, "confounds")
    if unknown := [n for n in names if n not in variables]:
        raise InputError(
            f"confounds name {unknown}, which the recording lacks; its labels are "
            f"{list(variables.labels.columns)}; correct the name or leave it out"
        )
    return names


def confound_parts(names: Sequence[str], formula: str, variables: Variables) -> dict[str, Part]:
    """Make the regressors of the confounds that vary and that the formula does not name: name -> part."""
    used = {formula} if formula in variables else formula_variables(formula)
    parts = {n: confound_part(n, variables) for n in names if n not in used}
    return {n: part for n, part in parts.items() if part.columns}


def convolved_part(part: Part, kernel: Float64 | None, variables: Variables) -> Part:
    """Convolve the regressors along the tokens of each prompt."""
    if kernel is None:
        return part
    if len(kernel) == 1:
        return replace(part, columns={n: kernel[0] * c for n, c in part.columns.items()})
    if variables.valid is None:
        raise InputError(
            f"a kernel of {len(kernel)} weights makes the design vary from token to token; "
            "open the cube with level='token'"
        )
    valid, repeat = variables.valid, 1 if part.by_token else variables.count
    columns = {n: convolved(c.repeat(repeat), kernel, valid) for n, c in part.columns.items()}
    return Part(columns, part.role, by_token=True)


def by_prompt(part: Part, variables: Variables) -> Part:
    """Give one value a prompt where all tokens of a prompt have the same; NaN to a prompt without tokens."""
    if not part.by_token:
        return part
    there = variables.count > 0
    first = (np.cumsum(variables.count) - variables.count)[there]
    columns: Columns = {}
    for name, values in part.columns.items():
        if not np.array_equal(values, values[first].repeat(variables.count[there])):
            return part
        columns[name] = np.full(len(there), np.nan)
        columns[name][there] = values[first]
    return Part(columns, part.role, by_token=False)
