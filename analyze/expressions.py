"""Contrast expressions: from "fr - mean(de, en)" to weights. Nothing in an expression is executed."""

import ast
import re
from collections.abc import Mapping, Sequence

import numpy as np

from ..store.errors import InputError
from ..store.moments import Float64


def regressor_position(name: str, names: Sequence[str]) -> int:
    """Return the place of a regressor, or say that there is none of that name."""
    if name not in names:
        raise InputError(
            f"contrast names unknown regressor {name!r}; the fit has {list(names)}. "
            "Add it to the formula or correct the name."
        )
    return list(names).index(name)


def parse_contrast(expression: str, names: Sequence[str], conditions: Sequence[str] | None = None) -> Float64:
    """Read a contrast expression: sums, differences and multiples of names and of ``mean(...)``.

    Parameters
    ----------
    expression
        Nothing in it is executed; names, numbers, + - * / and mean are all that is known.
    names
        The regressors.
    conditions
        Those that ``rest`` may stand for; all by default.

    Returns
    -------
    (regressor,): the weights.

    Raises
    ------
    InputError
        It cannot be read, or it names an unknown regressor or none.

    Examples
    --------
    >>> parse_contrast("fr - mean(rest)", ["fr", "en", "de"]).tolist()
    [1.0, -0.5, -0.5]
    """
    quoted: dict[str, str] = {}

    def placeholder(match: re.Match[str]) -> str:
        key = f"quoted_{len(quoted)}_"
        quoted[key] = match.group(1)
        return key

    source = re.sub(r"`([^`]+)`", placeholder, expression).strip()
    reader = _Reader(expression, names, quoted)
    try:
        tree = ast.parse(source, mode="eval").body
        called = {id(n.func) for n in ast.walk(tree) if isinstance(n, ast.Call)}
        mentioned = {reader.name_of(n) for n in ast.walk(tree) if id(n) not in called} - {""}
        reader.rest = [n for n in (names if conditions is None else conditions) if n not in mentioned]
        with np.errstate(over="ignore", invalid="ignore"):  # weights that are not finite are refused below
            value = reader.value(tree)
    except SyntaxError as error:
        raise InputError(
            f"contrast {expression!r} cannot be read; write it like 'fr - mean(de, en)', "
            "with a name that is no Python identifier in backticks"
        ) from error
    except RecursionError as error:
        raise InputError(
            f"contrast of {len(expression)} characters is nested too deeply; give weights"
        ) from error
    if isinstance(value, float):
        raise InputError(
            f"contrast {expression!r} names no regressor; the fit has {list(names)}. "
            "A name that is a number stands in backticks."
        )
    if not np.isfinite(value).all():
        raise reader.unreadable()
    return value


class _Reader:
    """Walks the syntax tree of an expression; nothing but names, numbers, + - * / and mean is known."""

    def __init__(self, expression: str, names: Sequence[str], quoted: Mapping[str, str]) -> None:
        self.expression, self.names, self.quoted = expression, names, quoted
        self.rest: list[str] = []

    def name_of(self, node: ast.AST) -> str:
        """Return the name that a node stands for, "" if none; True, False and None may be labels."""
        if isinstance(node, ast.Name):
            return self.quoted.get(node.id, node.id)
        if isinstance(node, ast.Constant) and any(node.value is word for word in (True, False, None)):
            return str(node.value)
        return ""

    def value(self, node: ast.expr) -> Float64 | float:
        if name := self.name_of(node):
            return self.named(name)
        if isinstance(node, ast.Constant) and isinstance(node.value, int | float):
            return self.number(node.value)
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.UAdd):
            value = self.value(node.operand)
            return -value if isinstance(node.op, ast.USub) else value
        if isinstance(node, ast.BinOp):
            return self.combined(node.op, self.value(node.left), self.value(node.right))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "mean":
            return self.mean(node)
        raise self.unreadable()

    def number(self, value: int | float) -> float:
        try:
            return float(value)
        except OverflowError as error:
            raise self.unreadable() from error

    def named(self, name: str) -> Float64:
        out = np.zeros(len(self.names))
        out[regressor_position(name, self.names)] = 1.0
        return out

    def combined(self, op: ast.operator, left: Float64 | float, right: Float64 | float) -> Float64 | float:
        scalars = [isinstance(v, float) for v in (left, right)]
        if isinstance(op, ast.Add) and scalars[0] == scalars[1]:
            return left + right
        if isinstance(op, ast.Sub) and scalars[0] == scalars[1]:
            return left - right
        if isinstance(op, ast.Mult) and any(scalars):
            return left * right
        if isinstance(op, ast.Div) and scalars[1] and right != 0:
            return left / right
        raise self.unreadable()

    def mean(self, node: ast.Call) -> Float64:
        values: list[Float64] = []
        for argument in node.args:
            if isinstance(argument, ast.Name) and argument.id == "rest" and "rest" not in self.names:
                values += [self.named(n) for n in self.rest]
            else:
                value = self.value(argument)
                if isinstance(value, float):
                    raise self.unreadable()
                values.append(value)
        if node.keywords:
            raise self.unreadable()
        if not values:
            raise InputError(
                f"contrast {self.expression!r}: mean() of nothing; "
                "'rest' stands for the cell means that the contrast does not name, and none is left"
            )
        return np.asarray(np.mean(values, axis=0))

    def unreadable(self) -> InputError:
        return InputError(
            f"contrast {self.expression!r} cannot be read: "
            "only names, numbers, + - * / and mean(...) are known"
        )
