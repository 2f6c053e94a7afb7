"""What a block-design study states, judged by rules that look at no more than the results they name."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import scipy.stats
import xarray as xr

from ...analyze.report.wording import decimal, probability, share
from ..outcome import LEVEL, Statement, Verdict, all_or_none

Float64 = npt.NDArray[np.float64]

_SHOWN = 4  # pairs or tasks that are named in a measurement


def active(mask: xr.DataArray) -> Statement:
    """Judge whether every task has active values: `mask` (network, layer, neuron)."""
    size = mask.sum(("layer", "neuron")).to_numpy()
    verdict = all_or_none(size > 0)
    sizes = ", ".join(f"{n} {k}" for n, k in zip(mask["network"].to_numpy(), size.tolist(), strict=True))
    return Statement(
        "A linear model of each output value finds values that are active with a task.",
        f"Values above rest, of {mask[0].size:,}: {sizes}.",
        verdict,
        "Agree: every task has at least one at the controlled error rate. Disagree: none has.",
    )


def distinct(repeated: xr.Dataset) -> Statement:
    """Judge whether a task's network differs from those of other tasks: a result of `repeatability`."""
    one = repeated.sel(metric="dice")
    within, between, difference, p = (float(one[v]) for v in ("within", "between", "difference", "p_value"))
    alike = _between_runs(repeated, np.nan_to_num(repeated["dice"].to_numpy()))
    others = (alike.sum(axis=1) - np.diagonal(alike)) / (len(alike) - 1)
    own = np.diagonal(alike) > others
    verdict: Verdict = "cannot say"
    if difference <= 0:
        verdict = "disagree"
    elif p <= LEVEL and own.all():
        verdict = "agree"
    return Statement(
        "Each task has a network of its own.",
        f"Mean Dice of networks of different runs: {within:.2f} of the same task, {between:.2f} of "
        f"two tasks; difference {difference:.2f}, p = {probability(p)} "
        f"({one.sizes['permutation']} permutations). "
        f"So it is for {own.sum()} of {len(own)} tasks taken alone.",
        verdict,
        f"Agree: more alike within tasks than between, p at most {LEVEL}, and so for every task taken alone. "
        "Disagree: not more alike.",
    )


def overlapping(repeated: xr.Dataset, n_values: int) -> Statement:
    """Judge whether networks of different tasks share values, out of `n_values`."""
    names, ratio, p = shared_between_runs(repeated, n_values)
    rows, columns = np.triu_indices(len(names), k=1)
    n = len(rows)
    above = p[rows, columns] <= LEVEL / n
    verdict: Verdict = "cannot say"
    if above.any():
        verdict = "agree"
    elif (ratio[rows, columns] == 0).all() and (repeated["size"] > 0).all():
        verdict = "disagree"
    most = sorted(range(n), key=lambda k: -ratio[rows[k], columns[k]])[:_SHOWN]
    most = [k for k in most if ratio[rows[k], columns[k]] > 0]
    listed = ", ".join(
        f"{names[rows[k]]} and {names[columns[k]]} {ratio[rows[k], columns[k]]:.1f} times" for k in most
    )
    return Statement(
        "The networks of different tasks overlap.",
        f"{above.sum()} of {n} pairs of tasks share more values between runs than chance gives; the most, "
        f"relative to chance: {listed or 'none shares any'}.",
        verdict,
        f"Agree: some pair shares more than networks of these sizes would by chance, p at most {LEVEL} over "
        "the number of pairs. Disagree: no pair shares any value, though no network is empty.",
    )


def largest_overlap(overlapped: xr.Dataset, repeated: xr.Dataset, pair: tuple[str, str]) -> Statement:
    """Judge whether a pair of tasks shares the most: results of `overlap` and `repeatability`."""
    claim = f"The largest overlap is that of {pair[0].replace('_', ' ')} with {pair[1].replace('_', ' ')}."
    rule = (
        "Agree: the pair has the largest Dice of all pairs, over all runs and within at least half of the "
        "single runs. Disagree: neither over all runs nor within any, though no network of the two is empty."
    )
    names = [str(n) for n in overlapped["network"].to_numpy()]
    if not set(pair) <= set(names):
        missing = " and ".join(n for n in pair if n not in names)
        return Statement(claim, f"The paradigm has no condition {missing}.", "not asked", rule)
    dice = overlapped["dice"].to_numpy()
    best = _largest_pair(dice, names)
    by = str(repeated.attrs["by"])
    contrast, run = repeated["map_contrast"].to_numpy().astype(str), repeated[by].to_numpy()
    wins, n_runs = 0, 0
    for value in np.unique(run):
        rows = np.flatnonzero(run == value)
        in_run = repeated["dice"].to_numpy()[np.ix_(rows, rows)]
        wins += _largest_pair(in_run, contrast[rows].tolist()) == frozenset(pair)
        n_runs += 1
    first = best == frozenset(pair)
    verdict: Verdict = "cannot say"
    own = float(dice[names.index(pair[0]), names.index(pair[1])])
    compared = bool(best) and np.isfinite(own)
    if first and 2 * wins >= n_runs:
        verdict = "agree"
    elif compared and not first and not wins:
        verdict = "disagree"
    largest = (
        f"the largest, {_largest(dice):.2f}, is that of {' and '.join(sorted(best))}"
        if best
        else "no pair is the first"
    )
    return Statement(
        claim,
        f"Dice over all runs: {decimal(own)}; {largest}. "
        f"The pair is the first in {wins} of {n_runs} single runs.",
        verdict,
        rule,
    )


def repeating(repeated: xr.Dataset, n_values: int) -> Statement:
    """Judge whether a task's network comes back in other runs, out of `n_values`."""
    names, ratio, p = shared_between_runs(repeated, n_values)
    back = np.diagonal(p) <= LEVEL / len(names)
    times = np.diagonal(ratio)
    icc = repeated["icc2"].to_numpy()
    icc = icc[np.isfinite(icc)]
    agreement = f"; ICC(2,1) of the effects {icc.min():.2f} to {icc.max():.2f}" if icc.size else ""
    return Statement(
        "The networks come back in repeated runs.",
        f"{back.sum()} of {len(names)} networks share more values between their runs than chance gives, "
        f"{times.min():.1f} to {times.max():.1f} times as many{agreement}.",
        all_or_none(back),
        "Agree: every task's networks of different runs share more than networks of these sizes would by "
        f"chance, p at most {LEVEL} over the number of tasks. Disagree: those of no task do.",
    )


def identified(named: xr.Dataset) -> Statement:
    """Judge whether held-out runs tell the task: a result of `identify`."""
    accuracy, p = float(named["accuracy"]), float(named["p_value"])
    chance = float(named["null"].mean())
    verdict: Verdict = "cannot say"
    if accuracy <= chance:
        verdict = "disagree"
    elif p <= LEVEL:
        verdict = "agree"
    n = int(named["confusion"].sum())
    return Statement(
        "How the activation of other runs fits the networks tells which task was shown.",
        f"{share(accuracy, 1)} of {n} maps of held-out runs named rightly, {share(chance, 1)} under permuted "
        f"labels; p = {probability(p)} ({named.sizes['permutation']} permutations).",
        verdict,
        f"Agree: accuracy above chance, p at most {LEVEL}. Disagree: accuracy at chance or below.",
    )


def shared_between_runs(repeated: xr.Dataset, n_values: int) -> tuple[list[str], Float64, Float64]:
    """Compare what networks of different runs share with chance.

    By chance, networks of their sizes lie anywhere among `n_values`. The p of a pair of tasks is twice the
    mean of its p over pairs of runs, which is one however these depend on each other [1]_; neurons are
    taken as independent.

    Returns
    -------
    names
        Of the tasks.
    ratio
        (task, task): values shared over those expected, both summed over pairs of runs; 0 without any.
    p
        (task, task).

    References
    ----------
    .. [1] Vovk & Wang (2020), Biometrika 107:791-808.
    """
    size = repeated["size"].to_numpy().astype(np.float64)
    both = np.rint(np.nan_to_num(repeated["dice"].to_numpy()) * (size[:, None] + size) / 2)
    expected = size[:, None] * size / n_values
    each = np.asarray(scipy.stats.hypergeom.sf(both - 1, n_values, size[:, None], size))
    shared, chance, p = (_between_runs(repeated, v) for v in (both, expected, each))
    ratio = np.divide(shared, chance, out=np.zeros_like(shared), where=chance > 0)
    return _tasks(repeated), ratio, np.minimum(1.0, 2 * p)


def _tasks(repeated: xr.Dataset) -> list[str]:
    return list(dict.fromkeys(str(c) for c in repeated["map_contrast"].to_numpy()))


def _between_runs(repeated: xr.Dataset, values: Float64) -> Float64:
    """Average what was found of every two maps (map, map) over those of different runs: (task, task)."""
    run = repeated[str(repeated.attrs["by"])].to_numpy()
    contrast = repeated["map_contrast"].to_numpy().astype(str)
    member = np.array([contrast == name for name in _tasks(repeated)], dtype=np.float64)  # (task, map)
    apart = (run[:, None] != run).astype(np.float64)
    return np.asarray((member @ (apart * values) @ member.T) / (member @ apart @ member.T))


def _largest(dice: Float64) -> float:
    return float(np.nanmax(np.where(np.eye(len(dice)) > 0, np.nan, dice)))


def _largest_pair(dice: Float64, names: Sequence[str]) -> frozenset[str]:
    """Return the pair that shares the most; empty where none shares anything, or several share as much."""
    apart = np.nan_to_num(np.triu(dice, k=1))
    rows, columns = np.nonzero(apart == apart.max())
    return (
        frozenset((names[rows[0]], names[columns[0]])) if len(rows) == 1 and apart.max() > 0 else frozenset()
    )
