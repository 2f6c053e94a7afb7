"""The estimates that analyses of scores share: means per condition, their bootstrap, p against controls."""

import numpy as np
import scipy.stats

from ...store.moments import Float64
from .measures import Bool, Int, Measured

EXCHANGEABLE = "a target that does nothing special is exchangeable with its matched controls"


def n_items(measured: Measured, among: Bool | None = None) -> Float64:
    """Count the items of each condition: (condition); `among` (prompt) says which prompts take part."""
    n = measured.n if among is None else np.where(among, measured.n, 0.0)
    return np.bincount(measured.code, n, minlength=len(measured.values)).astype(np.float64)


def per_item(total: Float64, measured: Measured, among: Bool | None = None) -> Float64:
    """Mean over the items of each condition, NaN where there is none: (..., condition).

    `total` is (..., prompt); `among` (prompt) says which prompts take part.
    """
    items = n_items(measured, among)
    used = np.ones(len(measured.n), dtype=bool) if among is None else among
    sums = [total[..., used & (measured.code == v)].sum(axis=-1) for v in range(len(items))]
    return np.asarray(np.stack(sums, axis=-1) / np.where(items > 0, items, np.nan))


def bootstrap(
    total: Float64,
    measured: Measured,
    n_bootstrap: int,
    seed: int | np.random.Generator,
    among: Bool | None = None,
) -> tuple[Float64, Int]:
    """Resample the prompts of each condition: means (..., condition, bootstrap), prompts (condition).

    `total` is (..., prompt). Conditions with fewer than two prompts that have items are NaN. All lesions
    share the resamples, so that differences between them can be formed draw by draw.
    """
    rng = np.random.default_rng(seed)
    means = np.full((*total.shape[:-1], len(measured.values), n_bootstrap), np.nan)
    n_prompts = np.zeros(len(measured.values), dtype=np.int64)
    for v in range(len(measured.values)):
        prompts = np.flatnonzero((measured.code == v) & (measured.n > 0) & (True if among is None else among))
        n_prompts[v] = n = len(prompts)
        if n >= 2:
            times = rng.multinomial(n, np.full(n, 1 / n), size=n_bootstrap).T  # (prompt, bootstrap)
            means[..., v, :] = (total[..., prompts] @ times) / (measured.n[prompts] @ times)
    return means, n_prompts


def interval(means: Float64, n_prompts: int) -> tuple[Float64, Float64]:
    """95 % interval of resampled means along the last axis, NaN below two prompts.

    Percentiles of n prompts' resamples are too narrow by the root of (n - 1) / n, and normal, not t.
    """
    if n_prompts < 2:
        return np.full(means.shape[:-1], np.nan), np.full(means.shape[:-1], np.nan)
    spread = np.sqrt(n_prompts / (n_prompts - 1)) * scipy.stats.t.ppf(0.975, n_prompts - 1)
    tail = float(scipy.stats.norm.cdf(-spread))
    low, high = np.quantile(means, [tail, 1 - tail], axis=-1)
    return low, high


def intervals(means: Float64, n_prompts: Int) -> tuple[Float64, Float64]:
    """Intervals of means (..., condition, bootstrap): (..., condition) twice."""
    ends = [interval(means[..., v, :], int(n)) for v, n in enumerate(n_prompts)]
    low, high = (np.stack(side, axis=-1) for side in zip(*ends, strict=True))
    return low, high


def p_against(effect: Float64, control: Float64) -> Float64:
    """Share of the draws, the target among them, at least as strong; `control` has the draws on axis 1.

    NaN without controls or effect; a control without a value counts as strong.
    """
    n_controls = control.shape[1]
    if not n_controls:
        return np.full(effect.shape, np.nan)
    strong = ~(control < effect[:, None])
    return np.where(np.isnan(effect), np.nan, (1 + strong.sum(axis=1)) / (1 + n_controls))
