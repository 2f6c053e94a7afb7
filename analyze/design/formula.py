"""Formulas, read as data: what one names is known, and what it holds is checked, before any of it is run."""

import ast
import re
from collections.abc import Iterator
from typing import Final

import formulaic
import numpy as np
import pandas as pd
from formulaic.errors import FormulaicError
from formulaic.parser.algos.tokenize import tokenize
from formulaic.parser.types import Token

from ...store.errors import InputError
from ...store.moments import Float64

_FUNCTIONS: Final = {
    "C",
    "center",
    "scale",
    "standardize",
    "log",
    "log2",
    "log10",
    "exp",
    "poly",
    "bs",
    "cs",
    "cr",
    "cc",
}
_CODINGS: Final = {"treatment", "sum", "helmert", "diff", "poly", "SAS", "custom"}  # as in contr.sum
_SYNTAX: Final = (
    ast.Expression, ast.Name, ast.Load, ast.Constant, ast.keyword, ast.Tuple, ast.List, ast.BinOp,
    ast.UnaryOp, ast.Add, ast.Sub, ast.Mult, ast.Div, ast.FloorDiv, ast.Mod, ast.Pow, ast.UAdd, ast.USub,
)  # fmt: skip
# text, or a name in backticks; neither holds what could end the other, for whoever reads the term next
_QUOTED: Final = re.compile(r"\"[^\"`\\]*\"|'[^'`\\]*'|`([^`\"'\\]+)`")


def formula_variables(formula: str) -> set[str]:
    """Return the names of the variables that a formula needs.

    Raises
    ------
    InputError
        It cannot be read, has two sides, or holds more than names, numbers, arithmetic and a few functions.
    """
    names: set[str] = set()
    try:
        # formulaic runs parts of a term even to list its variables, so each is checked as bare text first
        for token in tokenize(formula):
            if token.kind is Token.Kind.NAME:
                names.add(token.token)
            elif token.kind is Token.Kind.PYTHON:
                names |= _term_variables(token.token, formula)
        parsed = formulaic.Formula(formula)
    except (FormulaicError, SyntaxError, RecursionError) as error:
        raise InputError(f"formula {formula!r} cannot be read: {_first_line(error)}") from error
    if not isinstance(parsed, formulaic.SimpleFormula):
        raise InputError(f"formula {formula!r} must have one side; the activation is what it explains")
    return names


def _term_variables(term: str, formula: str) -> set[str]:
    """Name the variables of a term of known functions and operators; refuse any other Python."""
    refused = InputError(
        f"formula {formula!r}: {term!r} is not allowed; labels, numbers, arithmetic and "
        f"{sorted(_FUNCTIONS)} are"
    )
    quoted: dict[str, str] = {}

    def placeholder(match: re.Match[str]) -> str:
        if match.group(1) is None:
            return "''"
        key = f"quoted_{len(quoted)}_"
        quoted[key] = match.group(1)
        return key

    source = _QUOTED.sub(placeholder, term)
    if set(source.replace("''", "")) & set("`\"'\\"):
        raise refused
    try:
        tree = ast.parse(source.strip(), mode="eval")
    except (SyntaxError, ValueError) as error:
        raise refused from error
    if not all(_is_allowed(node) for node in ast.walk(tree)):
        raise refused
    called = {id(node) for node in _functions(tree)}
    read = (node for node in ast.walk(tree) if isinstance(node, ast.Name) and id(node) not in called)
    return {quoted.get(node.id, node.id) for node in read}


def _is_allowed(node: ast.AST) -> bool:
    if isinstance(node, ast.Attribute):
        return isinstance(node.value, ast.Name) and node.value.id == "contr" and node.attr in _CODINGS
    if isinstance(node, ast.Call):
        return isinstance(node.func, ast.Attribute) or (
            isinstance(node.func, ast.Name) and node.func.id in _FUNCTIONS
        )
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Pow):
        # a power of numbers alone could take all memory
        return any(isinstance(part, ast.Name) for part in ast.walk(node.left))
    return isinstance(node, _SYNTAX)


def _functions(tree: ast.AST) -> Iterator[ast.AST]:
    """Go through the names that are no variables: of functions, and the ``contr`` of a coding."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield node.func
        elif isinstance(node, ast.Attribute):
            yield node.value


def formula_columns(formula: str, table: pd.DataFrame) -> dict[str, Float64]:
    """Apply a formula to its variables: regressor -> (row,).

    Parameters
    ----------
    formula
        One that `formula_variables` has read.
    table
        The variables that it needs, and no others.

    Raises
    ------
    InputError
        A function of it does not take these variables.
    """
    try:
        with np.errstate(divide="ignore", invalid="ignore"):  # log(0): the regressor is named later
            matrix = formulaic.Formula(formula).get_model_matrix(table, context={}, na_action="raise")
    except (FormulaicError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise InputError(
            f"formula {formula!r} cannot be applied to {list(table.columns)}: {_first_line(error)}"
        ) from error
    return {str(name): np.asarray(matrix[name], dtype=np.float64) for name in matrix.columns}


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
