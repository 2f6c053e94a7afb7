"""Selectivity: how much more a lesion costs a network's own condition than the others."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ...store.errors import InputError, InputTypeError
from ...store.moments import Float64
from .estimates import bootstrap, interval, n_items, p_against, per_item
from .measures import Bool, Int, Measured
from .options import Options
from .rows import Rows


@dataclass(frozen=True)
class Selectivity:
    """Per network: own effect less the mean of the others, its interval, and p against the controls.

    Attributes
    ----------
    value, low, high, p_value
        (network).
    own
        (network): place of the condition, -1 where there is none or the halves of the prompts disagree.
    """

    value: Float64
    low: Float64
    high: Float64
    p_value: Float64
    own: Int


def given_conditions(names: list[str], values: list[str], own: Mapping[str, str] | None) -> Int:
    """Return the place of each network's own condition, -1 where it is to be chosen: (network).

    Without a mapping a network that is named like a condition has that one.

    Raises
    ------
    InputError, InputTypeError
        It is no mapping, or names a network or a condition that there is not.
    """
    if own is None:
        own = {name: name for name in names if name in values}
    if not isinstance(own, Mapping):
        raise InputTypeError(f"own must be a mapping from networks to conditions, got {own!r}")
    for what, asked, known in (("network", own.keys(), names), ("condition", own.values(), values)):
        unknown = [a for a in asked if a not in known]
        if unknown:
            raise InputError(f"own names the {what} {unknown[0]!r}; there are {known}")
    return np.array([values.index(own[n]) if n in own else -1 for n in names], dtype=np.int64)


def halves(measured: Measured, seed: int) -> list[Bool]:
    """Split the prompts of each condition into two halves at random."""
    rng = np.random.default_rng(seed)
    first = np.zeros(len(measured.code), dtype=bool)
    for v in range(len(measured.values)):
        prompts = np.flatnonzero((measured.code == v) & (measured.n > 0))
        first[rng.permutation(prompts)[: len(prompts) // 2]] = True
    return [first, ~first]


def selectivity(change: Float64, measured: Measured, rows: Rows, own: Int, options: Options) -> Selectivity:
    """Effect on the own condition less the mean effect on the others, per network.

    Parameters
    ----------
    change
        (lesion, prompt): the total of each prompt above the baseline's.
    own
        (network): from `given_conditions`. Where it is -1, each half of the prompts is asked which
        condition suffers most, and answers for the other half; the controls are treated alike.
    """
    value, low, high, p_value = np.full((4, len(own)), np.nan)
    chosen = own.copy()
    all_prompts = [np.ones(len(measured.code), dtype=bool)]
    for is_group, parts in ((own >= 0, all_prompts), (own < 0, halves(measured, options.seed))):
        group = np.flatnonzero(is_group)
        if not len(group) or len(measured.values) < 2:
            continue
        target, control = change[rows.target[group]], change[rows.control[group]]
        n_draws = control.shape[1]
        flat = control.reshape(-1, change.shape[1])
        if len(parts) == 1:
            favoured, of_controls = [own[group]], [np.repeat(own[group], n_draws)]
        else:
            favoured, of_controls = (_favoured(x, measured, parts) for x in (target, flat))
        value[group] = _selectivity(target, measured, parts, favoured)
        null = _selectivity(flat, measured, parts, of_controls).reshape(len(group), n_draws)
        p_value[group] = p_against(value[group], null)
        low[group], high[group] = _interval(target, measured, parts, favoured, options)
        agree = np.all([f == favoured[0] for f in favoured], axis=0)
        chosen[group] = np.where(agree, favoured[0], -1)
    return Selectivity(value, low, high, p_value, chosen)


def _favoured(change: Float64, measured: Measured, parts: list[Bool]) -> list[Int]:
    """Return for each part the condition that suffers most outside it, -1 without any: (lesion) each."""
    out = []
    for part in parts:
        effect = per_item(change, measured, ~part)
        effect = np.where(np.isnan(effect), np.inf, effect)  # a lesion that breaks the model
        present = n_items(measured, ~part) > 0
        favoured = np.where(present, effect, -np.inf).argmax(axis=1)
        out.append(np.where(present.any(), favoured, -1))
    return out


def _selectivity(change: Float64, measured: Measured, parts: list[Bool], own: list[Int]) -> Float64:
    """Average over the parts of own effect less the mean of the others: (lesion)."""
    values = [
        _contrast(per_item(change, measured, part), o, n_items(measured, part) > 0)
        for part, o in zip(parts, own, strict=True)
    ]
    return np.asarray(np.mean(values, axis=0))


def _contrast(effect: Float64, own: Int, present: Bool) -> Float64:
    """Return own less the mean of the others that have items.

    `effect` is (lesion, condition, ...), `own` (lesion), `present` (condition); NaN without own or others.
    """
    is_own = np.arange(len(present)) == own[:, None]  # (lesion, condition)
    is_other = present & ~is_own
    further = (1,) * (effect.ndim - 2)
    mine, others = (
        np.where(chosen.reshape(*chosen.shape, *further), effect, 0.0).sum(axis=1)
        / _or_nan(chosen.sum(axis=1)).reshape(-1, *further)
        for chosen in (is_own, is_other)
    )
    return np.asarray(mine - others)


def _or_nan(count: Int) -> Float64:
    return np.where(count > 0, count, np.nan)


def _interval(
    change: Float64, measured: Measured, parts: list[Bool], own: list[Int], options: Options
) -> tuple[Float64, Float64]:
    """Interval over prompts, as wide as the condition with the fewest prompts asks for."""
    rng = np.random.default_rng(options.seed)  # goes on: the parts are resampled independently
    draws, fewest = [], []
    for part, o in zip(parts, own, strict=True):
        means, n_prompts = bootstrap(change, measured, options.n_bootstrap, rng, part)
        draws.append(_contrast(means, o, n_prompts > 0))
        fewest.append(min((int(n) for n in n_prompts if n), default=0))
    return interval(np.mean(draws, axis=0), min(fewest))
