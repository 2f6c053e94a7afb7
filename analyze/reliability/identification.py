"""Identification: the networks found in some runs name the condition of a prompt, or a map, of another."""

import numpy as np
import numpy.typing as npt
import xarray as xr

from ...store.errors import InputError, InputTypeError
from ...store.moments import Measure
from ...store.provenance import source_attrs
from ..condition_maps import Labels, PromptMeans, Rule, draws_at_once, read_labels
from ..threshold import Top
from .identification_scores import SCORES, Level, Score, Task

Int = npt.NDArray[np.int64]

_DEFAULT = Top(0.01)
_LEVELS = ("prompt", "run")


def identify(
    ds: xr.Dataset,
    *,
    by: str = "run",
    measure: Measure = "magnitude",
    network: Top = _DEFAULT,
    score: Score = "difference",
    level: Level = "prompt",
    n_permutations: int = 200,
    seed: int = 0,
) -> xr.Dataset:
    """Name the condition of what is held out, from the networks of the other runs.

    For each value of `by` in turn, every condition's network is selected on the other prompts alone:
    the neurons with the largest t of that condition against the mean of the others, over prompts. What
    is held out gets the condition with the highest score, of equal ones the first in the alphabet.

    Parameters
    ----------
    ds
        A recording at either level, with ``condition`` and `by`.
    by
        The label whose values are left out in turn.
    measure
        "magnitude" or "signed".
    network
        Size of the networks.
    score
        How a held-out map is compared with a condition. "difference": its mean inside the condition's
        network less its mean outside. "dice": overlap of its own network, of the same size, with the
        condition's. "correlation": of the map with the condition's map of t, over neurons. A neuron
        that does not vary counts as 0 in a map.
    level
        What is named. "prompt": each prompt of the held-out run; its map is its values, standardised by
        the other runs. "run": each condition of the held-out run as a whole; its map is the t of the
        condition against the mean of the others within that run.
    n_permutations
        Times the whole procedure is repeated with conditions permuted within the values of `by`.
    seed
        Draws the permutations.

    Returns
    -------
    Dataset

    predicted, condition : (prompt), prompts without tokens left out; at the level of runs (map), with
        the coordinate `by`
    confusion : (true, named), counts
    accuracy : share named rightly
    condition_accuracy : (true), the same for each condition
    null : (permutation), accuracies under permuted labels
    p_value : (1 + permutations at least as accurate) / (1 + permutations)

    Computed here. The prompts' means are kept in memory up to 512 MB, else read again in blocks of
    neurons: once for every few hundred permutations, twice for "difference". Besides, the largest t of
    every map are held, a few hundred MB.

    Raises
    ------
    InputError
        A label is missing, there is one condition or fold only, a fold lacks a condition elsewhere,
        no fold has two conditions to permute, or (level "run") a run is too small for a map.
    """
    _check_options(network, score, level)
    means, labels = read_labels(ds, by, measure, n_permutations, seed, "identify")
    _check(labels, by, level)
    rule = Rule(network)
    n_maps = labels.count.size * (2 if score == "dice" else 1)
    named = []
    for draws in draws_at_once(labels, means, n_maps * rule.bytes_per_map(means.n_neurons)):
        task = Task(means, labels.batch(draws), rule, level)
        named.append([s.argmax(axis=1) for s in SCORES[score](task)])
    predicted = [np.concatenate(parts) for parts in zip(*named, strict=True)]  # of each fold (draw, item)
    truth = Task(means, labels, rule, level).truth
    right = np.concatenate([p == t for p, t in zip(predicted, truth, strict=True)], axis=1).mean(axis=1)
    confusion = np.zeros((len(labels.conditions),) * 2, dtype=np.int64)
    for p, t in zip(predicted, truth, strict=True):
        np.add.at(confusion, (t[0], p[0]), 1)
    shown = np.array(labels.conditions, dtype=object)
    with np.errstate(invalid="ignore"):
        per_condition = np.diag(confusion) / confusion.sum(axis=1)
    return xr.Dataset(
        {
            "confusion": (("true", "named"), confusion),
            "accuracy": right[0],
            "condition_accuracy": ("true", per_condition),
            "null": ("permutation", right[1:]),
            "p_value": (1 + int((right[1:] >= right[0]).sum())) / (1 + n_permutations),
        },
        coords={"true": shown, "named": shown},
        attrs={
            "kind": "identification",
            "by": by,
            "measure": measure,
            "network": repr(network),
            "score": score,
            "level": level,
            "n_permutations": n_permutations,
            "seed": seed,
            "exchangeability": f"conditions are exchangeable between prompts of one {by}",
            **source_attrs(ds.attrs),
        },
    ).assign(_items(means, labels, level, by, [p[0] for p in predicted], [t[0] for t in truth]))


def _items(
    means: PromptMeans, labels: Labels, level: Level, by: str, predicted: list[Int], truth: list[Int]
) -> xr.Dataset:
    """Return what was held out, with its condition and the one that it got."""
    shown = np.array(labels.conditions, dtype=object)
    if level == "run":
        coords = {
            "condition": ("map", shown[np.concatenate(truth)]),
            by: ("map", np.repeat(np.array(labels.folds), [len(t) for t in truth])),
        }
        return xr.Dataset({"predicted": ("map", shown[np.concatenate(predicted)])}, coords)
    order = np.argsort(np.concatenate(labels.rows))
    return xr.Dataset(
        {"predicted": ("prompt", shown[np.concatenate(predicted)[order]])},
        {"prompt": means.moments["prompt"].to_numpy(), "condition": ("prompt", shown[labels.code[0]])},
    )


def _check_options(network: object, score: str, level: str) -> None:
    if not isinstance(network, Top):
        raise InputTypeError(f"network must be Top(...), the share of the neurons, got {network!r}")
    if score not in SCORES:
        raise InputError(f"score must be one of {list(SCORES)}, got {score!r}")
    if level not in _LEVELS:
        raise InputError(f"level must be one of {list(_LEVELS)}, got {level!r}")


def _check(labels: Labels, by: str, level: str) -> None:
    if len(labels.conditions) < 2:
        raise InputError(f"identify needs at least two conditions, got {labels.conditions}")
    if len(labels.folds) < 2:
        raise InputError(
            f"identify needs at least two values of {by!r}, to learn from one and test on another"
        )
    elsewhere = labels.count.sum(axis=0) - labels.count
    for counts in elsewhere:
        if counts.min() < 2:
            raise InputError(
                f"condition {labels.conditions[counts.argmin()]!r} has {counts.min()} prompts when one {by} "
                "is left out; two are needed"
            )
    present = np.count_nonzero(labels.count, axis=1)
    if (present < 2).all():
        raise InputError(
            f"every {by} holds one condition only, so that permuting within it tests nothing; "
            "leave out another label"
        )
    small = (present < 2) | (labels.count.sum(axis=1) <= present)
    if level == "run" and small.any():
        raise InputError(
            f"{by} {labels.folds[int(small.argmax())]!r} is too small for maps of its own: it needs two "
            "conditions, and more prompts than conditions; use level='prompt' (--level prompt)"
        )
