"""The design matrix: formula, confounds, drift and kernel put together as one labelled Dataset."""

import math
import numbers
import warnings
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

import numpy as np
import xarray as xr

from ...store.errors import InputError, InputTypeError
from ...store.moments import Float64
from .collinearity import high_inflation, triangle, variance_inflation
from .drift import Drift, drift_columns, read_drift
from .parts import Part, by_prompt, confound_names, confound_parts, convolved_part, formula_part
from .variables import Variables

_ROWS: Final = 2**14  # of the design that are diagnosed at a time


def design_matrix(
    ds: xr.Dataset,
    formula: str = "condition",
    confounds: Sequence[str] | None = None,
    *,
    drift: Drift | None = None,
    kernel: Sequence[float] | None = None,
) -> xr.Dataset:
    """Build the design matrix of a recording.

    A formula that names a single category gives *cell means*: one column per value, named as the
    value. A confound that is a category gives deviations from its mean over values, one column fewer
    than values; one that is a number gives one column, its mean taken off: the cell means stay
    estimable. A confound that does not vary, or that the formula itself names, is left out.

    Formula and confounds may name the labels of the prompts, what is stored a token (``token_id``,
    ``logprob`` ...; of the cube only) and, unless the recording has labels of these names,
    ``n_tokens`` (tokens of the prompt), ``token_position`` (place along the token axis, from the
    prompt's first valid token on) and ``log_frequency`` (natural logarithm of how often the token's id
    occurs in these prompts). Fractional numbers, numbers of tokens and places are numbers; text,
    truth values and other whole numbers are categories, which inside a longer formula C(...) says.

    Tokens are excluded by leaving them out of the Dataset, as with ``ds.isel(token=slice(1, None))``, or by
    a ``token_id`` of -1. A prompt without valid tokens keeps its row and counts for nothing.

    Parameters
    ----------
    ds
        A recording at either level. Labels and the variables of tokens are read, the cube is not, unless
        it lacks ``token_id`` (then one layer, to tell its padding).
    formula
        The name of a variable, or any formula over them in the notation of formulaic.
    confounds
        Names of variables whose effects are removed, in place of ``("run",)``, which is removed where there
        are runs and nothing is given.
    drift
        Slow changes over the order of the prompts, in each run its own: "linear", "quadratic" (with
        linear), or "cosine": discrete cosines whose cycles have 128 prompts or more, or as many as
        ``("cosine", prompts)`` says.
    kernel
        Weights of the token itself, of the one before, and so on, by which the regressors of the formula
        are convolved along the tokens of each prompt, from its first valid token on; a token that is not
        valid contributes nothing. Confounds are not convolved.

    Returns
    -------
    Dataset

    design : (prompt, regressor), float64, where every regressor is constant within a prompt, else
        (prompt, token, regressor), NaN where there is no valid token
    count : (prompt), valid tokens; 1 where the Dataset knows nothing of tokens
    role : (regressor), "condition" (cell means), "effect" (other terms of the formula) or "confound"
    vif : (regressor), variance inflation factor over valid tokens

    attrs ``conditions`` lists the cell means, [] for any other formula; ``confounds`` what has columns.

    Raises
    ------
    InputError
        A variable is unknown, missing, or varies from token to token where the Dataset has no tokens;
        the formula cannot be read; two columns have one name; there are too few prompts (or tokens); or
        columns are linearly dependent, as when a condition fills a run.

    Warns
    -----
    UserWarning
        The variance inflation factor of a regressor of the formula is above 30.

    Examples
    --------
    >>> from actome.store.phantom import phantom
    >>> design_matrix(phantom(n_prompts=4)).regressor.values.tolist()
    ['a', 'b', 'rest', 'run[0]']
    >>> design_matrix(phantom(n_prompts=4), confounds=["token_position"]).design.dims
    ('prompt', 'token', 'regressor')
    """
    _check_types(formula, confounds)
    text, slow, lags = formula.strip(), read_drift(drift), _read_kernel(kernel)
    variables = Variables.of(ds)
    if not variables.count.any():
        raise InputError("no prompt has a valid token; there is nothing to model")
    explained = formula_part(text, variables)
    removed = confound_parts(confound_names(confounds, variables), text, variables)
    parts = [convolved_part(explained, lags, variables), *removed.values()]
    if slow is not None:
        run = variables.values("run") if "run" in variables.labels else None
        parts.append(Part(drift_columns(*slow, run, variables.count), "confound", by_token=False))
    parts = [by_prompt(part, variables) for part in parts]
    names = [name for part in parts for name in part.columns]
    roles = np.array([part.role for part in parts for _ in part.columns], dtype=object)
    _check(parts, names, variables)
    X = _matrix(parts, variables)
    R = triangle(_weighted_rows(X, variables), len(names))
    vif = variance_inflation(R, names)
    if warning := high_inflation(vif, R, names, roles != "confound"):
        warnings.warn(warning, stacklevel=2)
    dims = ("prompt", "regressor") if X.ndim == 2 else ("prompt", "token", "regressor")
    coords = {d: ds[d].variable for d in dims[:-1] if d == "prompt" or d in ds.coords}
    return xr.Dataset(
        {
            "design": (dims, X),
            "count": ("prompt", variables.count),
            "role": ("regressor", roles),
            "vif": ("regressor", vif),
        },
        coords={**coords, "regressor": np.array(names, dtype=object)},
        attrs={
            "kind": "design",
            "conditions": list(explained.columns) if explained.role == "condition" else [],
            "formula": formula,
            "confounds": list(removed),
            "drift": list(slow) if slow is not None and slow[0] == "cosine" else drift,
            "kernel": None if lags is None else lags.tolist(),
        },
    )


def _check_types(formula: object, confounds: object) -> None:
    if not isinstance(formula, str):
        raise InputTypeError(f"formula must be a string, got {type(formula).__name__}")
    if isinstance(confounds, str):
        raise InputTypeError(f"confounds must be a sequence of names, got a string; write ({confounds!r},)")
    if confounds is not None and not isinstance(confounds, Iterable):
        raise InputTypeError(f"confounds must be a sequence of names, got {type(confounds).__name__}")
    if not formula.strip():
        raise InputError("formula is empty; name a label, such as 'condition'")


def _read_kernel(kernel: Sequence[float] | None) -> Float64 | None:
    if kernel is None:
        return None
    is_list = isinstance(kernel, Sequence | np.ndarray) and not isinstance(kernel, str)
    if not is_list or not all(isinstance(w, numbers.Real) for w in kernel):
        raise InputTypeError(f"kernel must be a sequence of numbers, one a lag, got {kernel!r}")
    weights = list(kernel)
    if not all(map(math.isfinite, weights)) or not any(weights):
        raise InputError(f"kernel must hold finite weights, and one that is not zero, got {weights}")
    return np.array(weights, dtype=np.float64)


def _check(parts: list[Part], names: list[str], variables: Variables) -> None:
    if len(set(names)) < len(names):
        raise InputError(f"two regressors have the same name: {names}; rename a label's values")
    by_token = any(part.by_token for part in parts)
    n_rows = int(variables.count.sum() if by_token else (variables.count > 0).sum())
    if n_rows <= len(names):
        raise InputError(
            f"{n_rows} {'tokens' if by_token else 'prompts'} are too few for {len(names)} regressors: {names}"
        )
    bad = [
        name
        for part in parts
        for name, column in part.columns.items()
        if not np.isfinite(column if part.by_token else column[variables.count > 0]).all()
    ]
    if bad:
        raise InputError(f"the regressors {bad} hold values that are not finite")


def _matrix(parts: list[Part], variables: Variables) -> Float64:
    """Put the columns together: (prompt, regressor), or (prompt, token, regressor) with NaN."""
    columns = [(column, part.by_token) for part in parts for column in part.columns.values()]
    if not any(by_token for _, by_token in columns):
        return np.stack([column for column, _ in columns], axis=1)
    valid = variables.real()
    X = np.full((*valid.shape, len(columns)), np.nan)
    for i, (column, by_token) in enumerate(columns):
        X[..., i][valid] = column if by_token else column.repeat(variables.count)
    return X


def _weighted_rows(X: Float64, variables: Variables) -> Iterator[Float64]:
    """Go through the rows, each under the root of how often it counts, after that root itself."""
    step = max(1, _ROWS // (X.shape[1] if X.ndim == 3 else 1))
    for a in range(0, len(X), step):
        count = variables.count[a : a + step]
        if X.ndim == 3:
            rows = X[a : a + step][variables.real()[a : a + step]]
            root = np.ones(len(rows))
        else:
            rows, root = X[a : a + step][count > 0], np.sqrt(count[count > 0])
        yield np.concatenate([root[:, None], root[:, None] * rows], axis=1)
