"""What a model wrote under each lesion: a text of each condition, side by side."""

import numpy as np
import xarray as xr

from ...store.schema import text_array
from .page import Cell, Table
from .wording import shorten

_MOST = 12  # lesions
_CONDITIONS = 4
_SHOWN = 160  # characters


def completions_table(scores: xr.Dataset) -> list[Table]:
    """Tabulate the continuations by the whole model and under the lesion of each network."""
    if "completion" not in scores or "condition" not in scores.coords:
        return []
    prompts = _first_of_each(scores)
    role = text_array(scores["role"].to_numpy())
    lesions = np.flatnonzero(np.isin(role, ["baseline", "target"]))
    written = scores["completion"].transpose("lesion", "prompt")[lesions[:_MOST], prompts].to_numpy()
    rows = [
        (_name(scores, int(i)), [_cell(text) for text in texts])
        for i, texts in zip(lesions[:_MOST], text_array(written), strict=True)
    ]
    if "text" in scores.coords:
        shown = text_array(scores["text"].to_numpy())[prompts]
        rows.insert(0, ("text", [_cell(text) for text in shown]))
    caption = "How the model goes on with the first text of each condition, under each lesion."
    if len(lesions) > _MOST:
        caption += f" The first {_MOST} of {len(lesions)} are shown."
    conditions = text_array(scores["condition"].to_numpy())[prompts].tolist()
    return [Table("lesion", conditions, rows, caption)]


def _first_of_each(scores: xr.Dataset) -> list[int]:
    """Places of the first prompt, by name, of each of the first conditions."""
    condition, name = (text_array(scores[c].to_numpy()) for c in ("condition", "prompt"))
    order = np.lexsort((name, condition))
    first = np.unique(condition[order], return_index=True)[1]
    return [int(i) for i in order[first][:_CONDITIONS]]


def _name(scores: xr.Dataset, i: int) -> str:
    one = scores.isel(lesion=i)
    if str(one["role"].item()) == "baseline":
        return "none (baseline)"
    dose = f", amount {float(one['dose']):g}" if "dose" in scores.coords else ""
    return f"{one['target'].item()}{dose}"


def _cell(text: str) -> Cell:
    return Cell(shorten(str(text), _SHOWN), prose=True)
