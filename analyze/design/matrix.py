"""The design matrix: from a formula over the prompts' labels to one labelled column a regressor."""

import ast
import re
from collections.abc import Sequence

import formulaic
import numpy as np
import pandas as pd
import xarray as xr
from formulaic.errors import FormulaicError

from ..store.errors import InputError, InputTypeError
from ..store.moments import Float64
from ..store.schema import text_array

_FUNCTIONS = {
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
_ARITHMETIC = (
    ast.Expression, ast.Name, ast.Load, ast.Constant, ast.keyword, ast.Tuple, ast.List,
    ast.BinOp, ast.UnaryOp, ast.operator, ast.unaryop,
)  # fmt: skip


def prompt_labels(ds: xr.Dataset) -> pd.DataFrame:
    """Return the labels of the prompts, one row each."""
    names = [v for v in ds.coords if ds[v].dims == ("prompt",)]
    columns = {str(v): np.asarray(ds[v].to_numpy()) for v in names}
    table = {k: text_array(v).astype(object) if v.dtype.kind in "OUT" else v for k, v in columns.items()}
    return pd.DataFrame(table, index=pd.RangeIndex(ds.sizes["prompt"]))


def design_matrix(ds: xr.Dataset, formula: str, confounds: Sequence[str] = ("run",)) -> xr.DataArray:
    """Build the design matrix of a recording, one row a prompt.

    A formula that names a single label, unless its values are fractional numbers, gives *cell
    means*: one column per value, named as the value. A confound gives deviations from its mean over
    values, one column fewer than values, so that the cell means stay estimable. A confound that the
    recording lacks, that does not vary, or that the formula itself names, is left out.

    Parameters
    ----------
    ds
        A recording at either level.
    formula
        The name of a label, or any formula over the labels in the notation of formulaic.
    confounds
        Names of labels whose effects are removed.

    Returns
    -------
    DataArray (prompt, regressor)
        float64; attrs ``conditions`` lists the cell means, [] for any other formula.

    Raises
    ------
    InputError
        A label is unknown or missing, the formula cannot be read, two columns have one name, there
        are too few prompts, or the columns are linearly dependent (as when a condition fills a run).

    Examples
    --------
    >>> from actome.store.phantom import phantom
    >>> design_matrix(phantom(n_prompts=4), "condition").regressor.values.tolist()
    ['a', 'b', 'rest', 'run[0]']
    """
    if not isinstance(formula, str):
        raise InputTypeError(f"formula must be a string, got {type(formula).__name__}")
    if isinstance(confounds, str):
        raise InputTypeError(f"confounds must be a sequence of labels, got a string; write ({confounds!r},)")
    if not formula.strip():
        raise InputError("formula is empty; name a label, such as 'condition'")
    labels = prompt_labels(ds)
    cells = formula in labels and labels[formula].dtype.kind != "f"
    used = {formula} if formula in labels else _variables(labels, formula)
    parts = [_cell_means(labels, formula) if cells else _from_formula(labels, formula)]
    parts += [
        _deviations(labels, name) for name in dict.fromkeys(confounds) if name in labels and name not in used
    ]
    table = pd.concat(parts, axis=1)
    X = table.to_numpy(dtype=np.float64)
    names = [str(c) for c in table.columns]
    _check(X, names)
    return xr.DataArray(
        X,
        dims=("prompt", "regressor"),
        coords={"prompt": ds["prompt"], "regressor": np.array(names, dtype=object)},
        name="design",
        attrs={"conditions": [str(c) for c in parts[0].columns] if cells else []},
    )


def _cell_means(labels: pd.DataFrame, name: str) -> pd.DataFrame:
    values = labels[name]
    columns = [(values == v).astype(np.float64).rename(str(v)) for v in sorted(pd.unique(values))]
    return pd.concat(columns, axis=1) if columns else pd.DataFrame(index=labels.index)


def _deviations(labels: pd.DataFrame, name: str) -> pd.DataFrame:
    """Sum-to-zero columns: the last value is minus one in each."""
    values = labels[name]
    levels = sorted(pd.unique(values))
    last = (values == levels[-1]).to_numpy(dtype=np.float64)
    return pd.DataFrame({f"{name}[{v}]": (values == v) - last for v in levels[:-1]}, index=labels.index)


def _variables(labels: pd.DataFrame, formula: str) -> set[str]:
    """Name the labels that a formula needs; refuse one that is more than a formula."""
    try:
        parsed = formulaic.Formula(formula)
        names = {str(v) for v in getattr(parsed, "required_variables", ())}
    except (FormulaicError, SyntaxError) as error:
        raise InputError(f"formula {formula!r} cannot be read: {_first_line(error)}") from error
    if not isinstance(parsed, formulaic.SimpleFormula):
        raise InputError(f"formula {formula!r} must have one side; the activation is what it explains")
    python = [f.expr for term in parsed for f in term.factors if f.eval_method.name == "PYTHON"]
    refused = [e for e in python if not _is_arithmetic(e)]
    if refused:
        raise InputError(
            f"formula {formula!r}: {refused[0]!r} is not allowed; labels, numbers, arithmetic and "
            f"{sorted(_FUNCTIONS)} are"
        )
    unknown = sorted(names - set(labels.columns))
    if unknown:
        raise InputError(
            f"formula {formula!r} names {unknown}, which the recording lacks; "
            f"its labels are {list(labels.columns)}"
        )
    return names


def _is_arithmetic(expression: str) -> bool:
    """Whether a term holds known functions and operators alone: formulaic would run any Python in it."""
    try:
        tree = ast.parse(re.sub(r"`[^`]*`", "quoted", expression), mode="eval")
    except SyntaxError:
        return False
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):  # contr.sum and its like choose a coding
            allowed = isinstance(node.value, ast.Name) and node.value.id == "contr"
        elif isinstance(node, ast.Call):
            name = node.func.id if isinstance(node.func, ast.Name) else "contr"
            allowed = name in _FUNCTIONS or (name == "contr" and isinstance(node.func, ast.Attribute))
        else:
            allowed = isinstance(node, _ARITHMETIC)
        if not allowed:
            return False
    return True


def _from_formula(labels: pd.DataFrame, formula: str) -> pd.DataFrame:
    text = f"`{formula}`" if formula in labels else formula  # a label need not be an identifier
    try:
        with np.errstate(divide="ignore", invalid="ignore"):  # log(0): _check names the regressor
            matrix = formulaic.model_matrix(text, labels, na_action="raise")
    except (FormulaicError, ValueError) as error:
        raise InputError(
            f"formula {formula!r} cannot be applied to the labels: {_first_line(error)}"
        ) from error
    return pd.DataFrame(np.asarray(matrix, dtype=np.float64), columns=list(matrix.columns))


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _check(X: Float64, names: list[str]) -> None:
    if len(set(names)) < len(names):
        raise InputError(f"two regressors have the same name: {names}; rename a label's values")
    if len(X) < X.shape[1] + 1:
        raise InputError(f"{len(X)} prompts are too few for {X.shape[1]} regressors: {names}")
    if not np.isfinite(X).all():
        bad = [n for i, n in enumerate(names) if not np.isfinite(X[:, i]).all()]
        raise InputError(f"the regressors {bad} hold values that are not finite")
    norm = np.linalg.norm(X, axis=0)
    unit = X / np.where(norm > 0, norm, 1.0)  # the rank must not depend on a regressor's units
    ranks = [int(np.linalg.matrix_rank(unit[:, : i + 1])) for i in range(len(names))]
    dependent = [n for i, n in enumerate(names) if ranks[i] <= i]
    if dependent:
        raise InputError(
            f"the {len(names)} regressors have rank {ranks[-1]}: {dependent[0]!r} "
            "follows from those before it; leave a confound or a term out"
        )
