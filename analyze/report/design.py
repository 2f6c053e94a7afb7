"""The section on the design: which prompts were shown, in which order, and the model of them."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import xarray as xr

from ...store.moments import Float64
from ...store.schema import text_array
from ..design.collinearity import HIGH_INFLATION
from .figures import draw_design, draw_timeline
from .gather import Results
from .page import Block, Cell, Gallery, Paragraph, Section, Table, captions_once, headed
from .wording import MISSING, count, decimal, plural, shorten

_EXAMPLES = 2  # of each condition
_MAX_CONDITIONS = 40
_MAX_RUNS = 10
_TEXT_LENGTH = 120
_MAX_ROWS = 2000  # of a design matrix that are drawn
_MAX_REGRESSORS = 60  # whose variance inflation is told


def design(results: Results) -> Section | None:
    """Show timeline, prompts and tokens per condition and run, examples, and the design matrix."""
    shown = results.of("recording") or results.of("fit")
    blocks: list[Block] = []
    for ds in shown:
        labels = prompt_labels(ds)
        if len(shown) > 1:
            blocks += headed(str(ds.attrs.get("name") or ds.attrs.get("source_name") or ""))
        blocks += _timeline(labels)
        blocks += _prompts_table(labels)
        blocks += _examples(labels)
    for ds in (*results.of("design"), *results.of("fit")):
        blocks += [_design_matrix(ds), *_inflation(ds)]
    return Section("design", "Design", captions_once(blocks)) if blocks else None


def prompt_labels(ds: xr.Dataset) -> pd.DataFrame:
    """Return what the report needs of the labels, one row a prompt; tokens are NaN where unknown."""
    columns = {
        name: text_array(ds[name].to_numpy())
        for name in ("text", "condition", "run")
        if name in ds.variables and ds[name].dims == ("prompt",)
    }
    table = pd.DataFrame(columns, index=pd.RangeIndex(ds.sizes["prompt"]), dtype=object)
    return table.assign(tokens=_tokens(ds))


def _tokens(ds: xr.Dataset) -> "np.ndarray[tuple[int], np.dtype[np.float64]]":
    if ds.attrs.get("kind") == "fit" and ds.attrs.get("unit") == "prompt":
        return np.full(ds.sizes["prompt"], np.nan)
    for name in ("n_tokens", "count"):
        if name in ds.variables and ds[name].dims == ("prompt",):
            return np.asarray(ds[name].to_numpy(), dtype=np.float64)
    return np.full(ds.sizes["prompt"], np.nan)


def _timeline(labels: pd.DataFrame) -> list[Block]:
    if "condition" not in labels:
        return [Paragraph("The prompts have no conditions.")]
    names = labels["condition"].nunique()
    if names > _MAX_CONDITIONS:
        return [Paragraph(f"The prompts have {names} conditions, too many to draw.")]
    runs = labels["run"].tolist() if "run" in labels else None
    figure, key = draw_timeline(labels["condition"].tolist(), runs)
    caption = "The prompts from left to right in the order shown; one row a condition." + (
        " Bottom row and lines: the runs." if runs else ""
    )
    return [Gallery([figure], f"{caption} {key}".strip(), wide=True)]


def _prompts_table(labels: pd.DataFrame) -> list[Block]:
    if "condition" not in labels:
        return []
    runs = sorted(labels["run"].unique(), key=_natural) if "run" in labels else []
    runs = runs if len(runs) <= _MAX_RUNS else []
    rows = [(str(name), _row(own, runs)) for name, own in labels.groupby("condition", sort=False)]
    rows.append(("all", _row(labels, runs)))
    caption = "Prompts, and beside them their tokens." + (
        " The runs are too many to tell apart." if "run" in labels and not runs else ""
    )
    return [
        Table("condition", [*(f"run {r}" for r in runs), "all runs" if runs else "prompts"], rows, caption)
    ]


def _natural(value: str) -> tuple[int, str]:
    return (len(value), value) if value.lstrip("-").isdigit() else (1000, value)


def _row(own: pd.DataFrame, runs: Sequence[str]) -> list[Cell]:
    parts = [own[own["run"] == r] for r in runs] + [own]
    return [Cell(count(len(p)), _token_note(p)) for p in parts]


def _token_note(part: pd.DataFrame) -> str:
    total = part["tokens"].sum(skipna=False)
    return "" if np.isnan(total) else plural(total, "token")


def _examples(labels: pd.DataFrame) -> list[Block]:
    """Show the first prompts of each condition as text, which the browser can draw in any script."""
    if "text" not in labels or not labels["text"].str.len().any():
        return []
    groups = list(labels.groupby("condition", sort=False)) if "condition" in labels else [("", labels)]
    rows = [
        (str(name) if i == 0 else "", [Cell(shorten(text, _TEXT_LENGTH) or MISSING, prose=True)])
        for name, own in groups[:_MAX_CONDITIONS]
        for i, text in enumerate(own["text"].iloc[:_EXAMPLES])
    ]
    left_out = len(groups) - _MAX_CONDITIONS
    caption = f"The first {_EXAMPLES} prompts of each condition, cut to {_TEXT_LENGTH} characters."
    caption += f" {plural(left_out, 'condition')} left out." if left_out > 0 else ""
    return [Table("condition", ["example prompts"], rows, caption)]


def _design_matrix(fit: xr.Dataset) -> Gallery:
    regressors = [str(r) for r in fit["regressor"].to_numpy()]
    X, row, n_rows = _rows(fit)
    figure, key = draw_design(X, regressors, row)
    attrs = fit.attrs
    caption = (
        f"Design matrix of the formula “{attrs.get('formula', MISSING)}”: "
        f"{plural(n_rows, row)} from top to bottom{f' ({count(len(X))} drawn)' if len(X) < n_rows else ''}, "
        f"{plural(len(regressors), 'regressor')}. "
        "Red 1, white 0, blue minus 1, each column scaled to its largest magnitude."
    )
    parts = [f"{k} {count(attrs[k])}" for k in ("rows", "rank") if k in attrs]
    options = ("measure", "noise", "unit", "drift", "kernel")
    parts += [f"{k} {attrs[k]}" for k in options if attrs.get(k) is not None]
    how = f"{'; '.join(parts).capitalize()}." if parts else ""
    return Gallery([figure], " ".join([caption, how, key]).strip(), wide=True)


def _rows(fit: xr.Dataset) -> tuple[Float64, str, int]:
    """Return rows of the design in order (row, regressor), few if there are many; what one is; how many."""
    names = [d for d in ("prompt", "token", "regressor") if d in fit["design"].dims]
    X = fit["design"].transpose(*names).to_numpy().reshape(-1, fit.sizes["regressor"])
    there = np.flatnonzero(~np.isnan(X[:, 0]))
    return X[there[:: -(-len(there) // _MAX_ROWS)]], names[-2], len(there)


def _inflation(fit: xr.Dataset) -> list[Block]:
    """Show how far each regressor is told from the others; none where an older fit does not say."""
    if not {"vif", "role"} <= set(fit.variables):
        return []
    names, roles, vif = (fit[v].to_numpy().tolist() for v in ("regressor", "role", "vif"))
    entries = list(zip(map(str, names), map(str, roles), vif, strict=True))
    shown = set(sorted(range(len(entries)), key=lambda i: -vif[i])[:_MAX_REGRESSORS])
    rows = [
        (name, [Cell(role, prose=True), Cell(decimal(x), marked=x > HIGH_INFLATION and role != "confound")])
        for i, (name, role, x) in enumerate(entries)
        if i in shown
    ]
    left_out = len(entries) - len(rows)
    caption = (
        "Variance inflation: how many times larger the other regressors make the variance of each one's "
        f"effect; 1 is independent. Outlined: above {HIGH_INFLATION:g}, poorly known."
        + (f" {plural(left_out, 'regressor')} of lower values left out." if left_out else "")
    )
    return [Table("regressor", ["role", "variance inflation"], rows, caption)]
