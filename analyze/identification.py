"""Identification: the networks found in some runs name the condition of a prompt of another."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import xarray as xr

from .. import _version
from ..store.blocks import level_of, prompt_level
from ..store.errors import InputError, InputTypeError
from ..store.moments import Float64
from ..store.schema import text_array
from .glm import Measure
from .threshold import Top, top_fraction

Int = npt.NDArray[np.int64]
_DEFAULT = Top(0.01)
_ROUNDING = 1e-12  # a standard deviation this small beside the mean is rounding


@dataclass(frozen=True)
class _Data:
    """Prompt means in memory: values (prompt, neuron), codes of condition and fold (prompt,)."""

    values: Float64
    fold: Int
    n_conditions: int


def identify(
    ds: xr.Dataset,
    *,
    by: str = "run",
    measure: Measure = "magnitude",
    network: Top = _DEFAULT,
    n_permutations: int = 200,
    seed: int = 0,
) -> xr.Dataset:
    """Name the condition of held-out prompts from the networks of the other runs.

    For each value of `by` in turn, every condition's network is selected on the other prompts alone:
    the neurons with the largest t of that condition against the mean of the others, over prompts. A
    held-out prompt gets the condition in whose network its standardised values lie highest above those
    of the other neurons.

    Parameters
    ----------
    ds
        A recording at either level, with ``condition`` and `by`. The prompts' means are held in memory.
    by
        The label whose values are left out in turn.
    measure
        "magnitude" or "signed".
    network
        Size of the networks.
    n_permutations
        Times the whole procedure is repeated with conditions permuted within the values of `by`.
    seed
        Draws the permutations.

    Returns
    -------
    Dataset

    predicted, condition : (prompt), prompts without tokens left out
    confusion : (true, named), counts
    accuracy : share of prompts named rightly
    null : (permutation), accuracies under permuted labels
    p_value : (1 + permutations at least as accurate) / (1 + permutations)

    Raises
    ------
    InputError
        A label is missing, there is one condition or fold only, a fold lacks a condition elsewhere, or
        no fold has two conditions to permute.
    """
    _check_options(ds, by, measure, network, n_permutations)
    moments = prompt_level(ds)
    moments = moments.isel(prompt=np.flatnonzero(moments["count"] > 0))
    values = moments["mean_abs" if measure == "magnitude" else "mean"].to_numpy()
    values = values.reshape(len(values), -1)
    values = values[:, ~np.isnan(values).any(axis=0)]  # a neuron with a NaN is in no network
    names, code = np.unique(text_array(moments["condition"].to_numpy()), return_inverse=True)
    _, fold = np.unique(np.asarray(moments[by].to_numpy()), return_inverse=True)
    data = _Data(values, fold, len(names))
    _check(data, code, names, by)
    predicted = _predict(data, code, network.fraction)
    rng = np.random.default_rng(seed)
    null = np.empty(n_permutations)
    for i in range(n_permutations):
        shuffled = _permute_within(code, fold, rng)
        null[i] = (_predict(data, shuffled, network.fraction) == shuffled).mean()
    accuracy = float((predicted == code).mean())
    confusion = np.zeros((len(names), len(names)), dtype=np.int64)
    np.add.at(confusion, (code, predicted), 1)
    return xr.Dataset(
        {
            "predicted": ("prompt", names[predicted].astype(object)),
            "confusion": (("true", "named"), confusion),
            "accuracy": accuracy,
            "null": ("permutation", null),
            "p_value": (1 + int((null >= accuracy).sum())) / (1 + n_permutations),
        },
        coords={
            "prompt": moments["prompt"].to_numpy(),
            "condition": ("prompt", names[code].astype(object)),
            "true": names.astype(object),
            "named": names.astype(object),
        },
        attrs={
            "kind": "identification",
            "by": by,
            "measure": measure,
            "network": repr(network),
            "seed": seed,
            "exchangeability": f"conditions are exchangeable between prompts of one {by}",
            "source": ds.attrs.get("manifest_digest", ""),
            "source_name": ds.attrs.get("name", ""),
            "actome": _version.__version__,
        },
    )


def _check_options(ds: xr.Dataset, by: str, measure: str, network: object, n_permutations: int) -> None:
    level_of(ds)
    for label in ("condition", by):
        if label not in ds.coords or ds[label].dims != ("prompt",):
            labels = sorted(str(c) for c in ds.coords if ds[c].dims == ("prompt",))
            raise InputError(f"identify needs the label {label!r} of the prompts; the recording has {labels}")
    if measure not in ("magnitude", "signed"):
        raise InputError(f"measure must be 'magnitude' or 'signed', got {measure!r}")
    if not isinstance(network, Top):
        raise InputTypeError(f"network must be Top(...), the share of the neurons, got {network!r}")
    if n_permutations < 1:
        raise InputError(f"n_permutations must be at least 1, got {n_permutations}")


def _check(data: _Data, code: Int, names: npt.NDArray[np.str_], by: str) -> None:
    if data.n_conditions < 2:
        raise InputError(f"identify needs at least two conditions, got {names.tolist()}")
    if len(np.unique(data.fold)) < 2:
        raise InputError(
            f"identify needs at least two values of {by!r}, to learn from one and test on another"
        )
    for fold in np.unique(data.fold):
        counts = np.bincount(code[data.fold != fold], minlength=data.n_conditions)
        if counts.min() < 2:
            raise InputError(
                f"condition {str(names[counts.argmin()])!r} has {counts.min()} prompts when one {by} "
                "is left out; two are needed"
            )
    if all(len(np.unique(code[data.fold == f])) < 2 for f in np.unique(data.fold)):
        raise InputError(
            f"every {by} holds one condition only, so that permuting within it tests nothing; "
            "leave out another label"
        )


def _permute_within(code: Int, fold: Int, rng: np.random.Generator) -> Int:
    out = code.copy()
    for f in np.unique(fold):
        where = np.flatnonzero(fold == f)
        out[where] = code[rng.permutation(where)]
    return out


def _predict(data: _Data, code: Int, fraction: float) -> Int:
    """Condition named for each prompt from the networks of the other folds."""
    out = np.empty(len(code), dtype=np.int64)
    for fold in np.unique(data.fold):
        test = data.fold == fold
        train, labels = data.values[~test], code[~test]
        masks = np.stack([top_fraction(t, fraction) for t in _condition_t(train, labels, data.n_conditions)])
        mean, sd = train.mean(axis=0), train.std(axis=0)
        varies = sd > _ROUNDING * np.abs(mean)
        z = np.where(varies, (data.values[test] - mean) / np.where(varies, sd, 1.0), 0.0)
        out[test] = _inside_minus_outside(z, masks).argmax(axis=1)
    return out


def _condition_t(values: Float64, code: Int, n_conditions: int) -> Float64:
    """Pooled-variance t of each condition against the mean of the others: (condition, neuron)."""
    member = np.eye(n_conditions)[code]  # (prompt, condition)
    n = member.sum(axis=0)
    centre = values.mean(axis=0)
    means = member.T @ (values - centre) / n[:, None]
    rss = np.square(values - centre - means[code]).sum(axis=0)
    varies = rss > len(values) * np.square(_ROUNDING * centre)
    variance = np.where(varies, rss, np.nan) / (len(values) - n_conditions)
    contrast = (n_conditions * np.eye(n_conditions) - 1.0) / (n_conditions - 1)
    scale = (contrast**2 / n).sum(axis=1)  # of the contrast's variance
    return np.asarray(contrast @ means / np.sqrt(variance * scale[:, None]))


def _inside_minus_outside(z: Float64, masks: npt.NDArray[np.bool_]) -> Float64:
    """Mean inside less mean outside each network: (prompt, condition)."""
    size = masks.sum(axis=1)
    inside = z @ masks.T.astype(np.float64)
    outside = z.sum(axis=1, keepdims=True) - inside
    return np.asarray(inside / np.maximum(size, 1) - outside / np.maximum(masks.shape[1] - size, 1))
