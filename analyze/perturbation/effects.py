"""What a lesion does to each condition, beside what its matched controls do."""

import numpy as np
import numpy.typing as npt
import scipy.stats
import xarray as xr

from ... import _version
from ...store.errors import InputError, InputTypeError
from ...store.moments import Float64
from ...store.schema import text_array


def lesion_effects(
    scores: xr.Dataset, *, by: str = "condition", n_bootstrap: int = 1000, seed: int = 0
) -> xr.Dataset:
    """Rise of the loss per token under each lesion, per condition, with intervals and controls.

    Parameters
    ----------
    scores
        From `actome.score`: ``logprob`` (lesion, prompt, token).
    by
        The label of the prompts whose values are told apart.
    n_bootstrap
        Resamples of the prompts for the 95 % intervals.
    seed
        Draws them.

    Returns
    -------
    Dataset

    effect : (network, condition), nats per token above the baseline; positive hurts
    low, high : its 95 % bootstrap interval over prompts: percentiles, widened for few prompts [1]_; NaN
        below two prompts with scored tokens
    perplexity : (network, condition); perplexity_baseline : (condition)
    control : (network, draw, condition), the same effect of each matched control
    p_value : (network, condition), (1 + controls at least as strong) / (1 + controls); NaN without
        controls
    size : (network), neurons removed

    NaN for a condition without scored tokens, and for a lesion after which a scored token has no
    log probability; a control like that counts as strong.

    Raises
    ------
    InputError, InputTypeError
        Something else than scores was given, they lack the label, a network's name comes twice, or
        networks have different numbers of controls.

    References
    ----------
    .. [1] Hesterberg (2015), The American Statistician 69:371-386.
    """
    _check(scores, by, n_bootstrap)
    role, target = (text_array(scores[c].to_numpy()) for c in ("role", "target"))
    loss, n_tokens = _losses(scores, role == "baseline")  # (lesion, prompt), (prompt,)
    values, code = np.unique(text_array(scores[by].to_numpy()), return_inverse=True)
    base = loss[role == "baseline"][0]
    change = _per_token(loss - base, n_tokens, code)  # (lesion, condition)
    is_target = role == "target"
    names = target[is_target].tolist()
    effect = change[is_target]
    control = np.stack([change[(role == "control") & (target == n)] for n in names])
    low, high = _intervals((loss - base)[is_target], n_tokens, code, n_bootstrap, seed)
    baseline = _per_token(base[None], n_tokens, code)[0]
    dims = ("network", by)
    return xr.Dataset(
        {
            "effect": (dims, effect, {"units": "nats per token"}),
            "low": (dims, low),
            "high": (dims, high),
            "perplexity": (dims, np.exp(effect + baseline)),
            "perplexity_baseline": (by, np.exp(baseline)),
            "control": (("network", "draw", by), control),
            "p_value": (dims, _p_value(effect, control)),
            "size": ("network", scores["network"].sum(("layer", "neuron")).to_numpy()[is_target]),
        },
        coords={"network": np.array(names, dtype=object), by: values.astype(object)},
        attrs={
            "kind": "effects",
            "by": by,
            "lesion": scores.attrs.get("inputs", {}).get("kind", ""),
            "n_bootstrap": n_bootstrap,
            "seed": seed,
            "source": scores.attrs.get("manifest_digest", ""),
            "actome": _version.__version__,
        },
    )


def _check(scores: xr.Dataset, by: str, n_bootstrap: int) -> None:
    needed = {"logprob", "network", "role", "target"}
    if not isinstance(scores, xr.Dataset) or not needed <= set(scores.variables):
        raise InputTypeError("lesion_effects takes scores from actome.score")
    if by not in scores.coords or scores[by].dims != ("prompt",):
        labels = sorted(str(c) for c in scores.coords if scores[c].dims == ("prompt",))
        raise InputError(f"the scores have no label {by!r} of the prompts; they have {labels}")
    if n_bootstrap < 1:
        raise InputError(f"n_bootstrap must be at least 1, got {n_bootstrap}")
    role, target = (text_array(scores[c].to_numpy()) for c in ("role", "target"))
    names = target[role == "target"].tolist()
    if (role == "baseline").sum() != 1 or not names:
        raise InputError(f"the scores must hold one baseline and a target at least, got {sorted(set(role))}")
    if len(set(names)) < len(names):
        raise InputError(f"a network's name comes twice: {names}")
    draws = {n: int(((role == "control") & (target == n)).sum()) for n in names}
    if len(set(draws.values())) > 1:
        raise InputError(f"the networks have different numbers of controls: {draws}")


def _losses(scores: xr.Dataset, is_baseline: npt.NDArray[np.bool_]) -> tuple[Float64, Float64]:
    """Loss of each prompt under each lesion, summed over its scored tokens; and their number."""
    logprob = scores["logprob"].transpose("lesion", "prompt", "token").to_numpy().astype(np.float64)
    scored = ~np.isnan(logprob[is_baseline][0])  # (prompt, token)
    return -np.where(scored, logprob, 0.0).sum(axis=2), scored.sum(axis=1).astype(np.float64)


def _per_token(loss: Float64, n_tokens: Float64, code: npt.NDArray[np.int64]) -> Float64:
    """Mean over the tokens of each condition, NaN where there is none: (lesion, condition)."""
    tokens = np.bincount(code, n_tokens)
    total = np.stack([loss[:, code == v].sum(axis=1) for v in range(len(tokens))], axis=1)
    return np.asarray(total / np.where(tokens > 0, tokens, np.nan))


def _intervals(
    change: Float64, n_tokens: Float64, code: npt.NDArray[np.int64], n_bootstrap: int, seed: int
) -> tuple[Float64, Float64]:
    """Bootstrap intervals over prompts, resampled within each condition: (network, condition) twice."""
    rng = np.random.default_rng(seed)
    low = np.full((len(change), int(code.max()) + 1), np.nan)
    high = low.copy()
    for v in range(low.shape[1]):
        prompts = np.flatnonzero((code == v) & (n_tokens > 0))
        n = len(prompts)
        if n < 2:
            continue
        times = rng.multinomial(n, np.full(n, 1 / n), size=n_bootstrap).T  # (prompt, bootstrap)
        means = (change[:, prompts] @ times) / (n_tokens[prompts] @ times)  # (network, bootstrap)
        # percentiles of n prompts' resamples are too narrow by the root of (n - 1) / n, and normal, not t
        tail = scipy.stats.norm.cdf(-np.sqrt(n / (n - 1)) * scipy.stats.t.ppf(0.975, n - 1))
        low[:, v], high[:, v] = np.quantile(means, [tail, 1 - tail], axis=1)
    return low, high


def _p_value(effect: Float64, control: Float64) -> Float64:
    n_controls = control.shape[1]
    if not n_controls:
        return np.full(effect.shape, np.nan)
    strong = ~(control < effect[:, None])
    return np.where(np.isnan(effect), np.nan, (1 + strong.sum(axis=1)) / (1 + n_controls))
