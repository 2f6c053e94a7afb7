"""What a lesion is measured by: a number per prompt under each lesion, larger where the model does worse."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import numpy.typing as npt
import xarray as xr

from ...store.errors import InputError
from ...store.moments import Float64
from ...store.schema import text_array

Metric = Literal["loss", "hit", "accuracy", "answer", "kl"]
Bool = npt.NDArray[np.bool_]
Int = npt.NDArray[np.int64]

_TOKEN, _ANSWER = "nats per token", "share of the answers"
# metric -> the variable of the scores that it is made of, and the units of an effect
METRICS: Final[Mapping[Metric, tuple[str, str]]] = {
    "loss": ("logprob", _TOKEN),
    "hit": ("hit", "share of the tokens"),
    "accuracy": ("correct", _ANSWER),
    "answer": ("parsed", _ANSWER),
    "kl": ("kl", _TOKEN),
}
_NOT_ASKED, _UNPARSED = -2, -1  # of `parsed`
_AT_A_TIME = 2**24  # numbers held in float64


@dataclass(frozen=True)
class Measured:
    """One metric of some scores, prompts in the order of their names.

    Attributes
    ----------
    total
        (lesion, prompt), float64: summed over the prompt's items, tokens or answers; larger is worse.
    n
        (prompt): its items.
    code, values
        The place of each prompt's label among the sorted labels.
    """

    total: Float64
    n: Float64
    code: Int
    values: npt.NDArray[np.str_]


def measure(scores: xr.Dataset, metric: Metric, by: str, baseline: int) -> Measured:
    """Take one metric from scores.

    What has no value in the lesion `baseline`, such as padding, is no item.

    Raises
    ------
    InputError
        The scores lack what the metric is made of; there is no such label.
    """
    variable = METRICS[metric][0]
    if variable not in scores.data_vars:
        there = [name for name, (v, _) in METRICS.items() if v in scores.data_vars]
        raise InputError(f"the scores have no {variable!r}, which {metric!r} needs; they allow {there}")
    return _summed(scores, variable, metric, by, baseline)


def unparsed(scores: xr.Dataset, by: str, baseline: int) -> Measured:
    """Count the answers in what the model wrote that name no choice, or several."""
    return _summed(scores, "parsed", "unparsed", by, baseline)


def _summed(scores: xr.Dataset, variable: str, what: str, by: str, baseline: int) -> Measured:
    if by not in scores.coords or scores[by].dims != ("prompt",):
        labels = sorted(str(c) for c in scores.coords if scores[c].dims == ("prompt",))
        raise InputError(f"the scores have no label {by!r} of the prompts; they have {labels}")
    order = np.argsort(text_array(scores["prompt"].to_numpy()), kind="stable")
    array = scores[variable].transpose("lesion", "prompt", ...)
    answer = scores["answer_index"].to_numpy() if "answer_index" in scores.variables else None
    is_item = ~np.isnan(_items(array[[baseline]], what, answer))[0]  # (prompt, token)
    step = max(1, _AT_A_TIME // max(1, is_item.size))
    blocks = (_items(array[i : i + step], what, answer) for i in range(0, len(array), step))
    total = np.concatenate([np.where(is_item, block, 0.0).sum(axis=2) for block in blocks])
    values, code = np.unique(text_array(scores[by].to_numpy())[order], return_inverse=True)
    return Measured(total[:, order], is_item.sum(axis=1).astype(np.float64)[order], code, values)


def _items(array: xr.DataArray, what: str, answer: Int | None) -> Float64:
    """Return (lesion, prompt, item), larger where it is worse and NaN where there is no item."""
    values = array.to_numpy().astype(np.float64)
    values = values if values.ndim == 3 else values[:, :, None]
    if what == "loss":
        return np.asarray(-values)
    if what in ("hit", "accuracy"):
        return np.where(values < 0, np.nan, -values)
    if what == "kl" or answer is None:
        return values
    worse = values == _UNPARSED if what == "unparsed" else -1.0 * (values == answer[:, None])
    return np.where(values == _NOT_ASKED, np.nan, worse)
