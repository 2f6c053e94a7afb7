"""What a lesion does to each condition, beside what its matched controls do."""

from collections.abc import Mapping

import numpy as np
import xarray as xr

from ... import _version
from ...store.errors import InputError
from ...store.moments import Float64
from .estimates import (
    ASSUMPTIONS,
    EXCHANGEABLE,
    Correction,
    bootstrap,
    corrected,
    intervals,
    p_against,
    per_item,
)
from .measures import METRICS, Measured, Metric, measure, unparsed
from .rows import Rows, inputs_of, n_lesioned, rows_of, selected_on
from .selectivity import given_conditions, selectivity


def lesion_effects(
    scores: xr.Dataset,
    *,
    by: str = "condition",
    metric: Metric = "loss",
    own: Mapping[str, str] | None = None,
    dose: float | None = None,
    correction: Correction = "fdr",
    n_bootstrap: int = 1000,
    seed: int = 0,
) -> xr.Dataset:
    """How much worse the model does under each lesion, per condition, with intervals and controls.

    The matrix network x condition says what each network is needed for; `own` sums it up in one number
    a network.

    Parameters
    ----------
    scores
        From `actome.score`: ``logprob`` (lesion, prompt, token).
    by
        The label of the prompts whose values are told apart.
    metric
        "loss", nats per token; or, where the scores hold it, a share: "hit" (tokens that were the
        likeliest), "accuracy" (choices), "answer" (answers in what the model wrote); or "kl", the
        divergence of the next token's distribution from the whole model's.
    own
        Network -> the condition that it is thought to serve, which must not come from the scored
        prompts. None: a network that is named like a condition serves that one. For the others the
        condition that suffers most is chosen on one half of the prompts and judged on the other, in
        both directions; so are their controls.
    dose
        Which of several doses; see `dose_response` for all.
    correction
        For the number of tests: "fdr" (Benjamini-Hochberg), "by" (Benjamini-Yekutieli), "holm", "none".
    n_bootstrap
        Resamples of the prompts for the 95 % intervals.
    seed
        Draws them, and the halves.

    Returns
    -------
    Dataset of kind "effects"

    effect : (network, condition), in units of the metric above the baseline; positive hurts
    low, high : its 95 % bootstrap interval over prompts: percentiles, widened for few prompts [1]_; NaN
        below two prompts with scored tokens
    control : (network, draw, condition), the same effect of each matched control
    p_value : (network, condition), (1 + controls at least as strong) / (1 + controls); NaN without
        controls
    p_corrected : (network, condition), for all cells of the matrix
    selectivity, selectivity_low, selectivity_high : (network), effect on its own condition less the mean
        effect on the others; selectivity_p against the controls, selectivity_p_corrected
    own : (network), the condition, "" where the halves of the prompts disagree; own_given : (network)
    size : (network), neurons changed
    other_control : (network, control_kind, condition), where the scores hold controls of other kinds
    untrained : (network, copy, condition), of "loss": the same lesion in copies with random weights
    perplexity, perplexity_baseline : of "loss", (network, condition) and (condition)
    accuracy, accuracy_baseline : of the shares
    unparsed, unparsed_baseline : of "answer", the share that names no choice; it counts as wrong

    NaN for a condition without scored tokens, and for a lesion after which a scored token has no
    log probability; a control like that counts as strong.

    Raises
    ------
    InputError, InputTypeError
        Something else than scores was given, they lack the label or what the metric needs, a network's
        name comes twice, networks have different numbers of controls, a scored prompt took part in
        selecting the networks.

    References
    ----------
    .. [1] Hesterberg (2015), The American Statistician 69:371-386.
    """
    if n_bootstrap < 1:
        raise InputError(f"n_bootstrap must be at least 1, got {n_bootstrap}")
    rows = rows_of(scores, "lesion_effects", dose)
    measured = measure(scores, metric, by, int(rows.baseline[0]))
    values = measured.values.tolist()
    own_code = given_conditions(rows.names, values, own)
    change = measured.total - measured.total[rows.baseline]
    effects = per_item(change, measured)  # (lesion, condition)
    effect, control = effects[rows.target], effects[rows.control]
    low, high = intervals(*bootstrap(change[rows.target], measured, n_bootstrap, seed))
    p = p_against(effect, control)
    select = selectivity(change, measured, rows, own_code, n_bootstrap, seed)
    dims = ("network", by)
    named = np.array([*values, ""], dtype=object)[select.own]
    variables = {
        "effect": (dims, effect, {"units": METRICS[metric][1]}),
        "low": (dims, low),
        "high": (dims, high),
        "control": (("network", "draw", by), control),
        "p_value": (dims, p),
        "p_corrected": (dims, corrected(p, correction)),
        "selectivity": ("network", select.value, {"units": METRICS[metric][1]}),
        "selectivity_low": ("network", select.low),
        "selectivity_high": ("network", select.high),
        "selectivity_p": ("network", select.p_value),
        "selectivity_p_corrected": ("network", corrected(select.p_value, correction)),
        "own": ("network", named),
        "own_given": ("network", own_code >= 0),
        "size": ("network", n_lesioned(scores)[rows.target]),
        **_levels(scores, metric, measured, rows, by),
    }
    ds = xr.Dataset(
        variables,
        coords={"network": np.array(rows.names, dtype=object), by: np.array(values, dtype=object)},
        attrs=attrs_of(scores, "effects", by, metric, correction, n_bootstrap, seed),
    )
    if dose is not None:
        ds.attrs["dose"] = float(dose)
    return _with_untrained(_with_other_controls(ds, rows, effects, by), scores, rows, by)


def attrs_of(
    scores: xr.Dataset,
    kind: str,
    by: str,
    metric: Metric,
    correction: Correction,
    n_bootstrap: int,
    seed: int,
) -> dict[str, object]:
    """Return what every analysis of scores says of where its numbers come from, and what they rest on."""
    inputs = inputs_of(scores)
    return {
        "kind": kind,
        "by": by,
        "metric": metric,
        "lesion": inputs.get("kind", ""),
        "correction": correction,
        "assumption": f"{EXCHANGEABLE}; correction: {ASSUMPTIONS[correction]}",
        "n_bootstrap": n_bootstrap,
        "seed": seed,
        "selected_on": selected_on(scores),
        "site": inputs.get("site", ""),
        "model": inputs.get("model", ""),
        "source": scores.attrs.get("manifest_digest", ""),
        "source_name": scores.attrs.get("name", ""),
        "actome": _version.__version__,
    }


def _levels(
    scores: xr.Dataset, metric: Metric, measured: Measured, rows: Rows, by: str
) -> dict[str, tuple[object, Float64]]:
    """Return the metric itself under each lesion and in the baseline, as it is usually given."""
    places = [*rows.target, *rows.baseline]
    level = per_item(measured.total[places], measured)
    if metric == "loss":
        return _beside("perplexity", np.exp(level), by)
    if metric == "kl":
        return {}
    found = _beside("accuracy", -level, by)
    if metric == "answer":
        failures = unparsed(scores, by, places[-1])
        found |= _beside("unparsed", per_item(failures.total[places], failures), by)
    return found


def _beside(name: str, level: Float64, by: str) -> dict[str, tuple[object, Float64]]:
    return {name: (("network", by), level[:-1]), f"{name}_baseline": (by, level[-1])}


def _with_other_controls(ds: xr.Dataset, rows: Rows, effects: Float64, by: str) -> xr.Dataset:
    """Add the controls that are no random draws, where there are any: their mean effect."""
    if not rows.others:
        return ds
    means = np.stack([effects[index].mean(axis=1) for index in rows.others.values()], axis=1)
    ds = ds.assign_coords(control_kind=np.array(list(rows.others), dtype=object))
    return ds.assign(other_control=(("network", "control_kind", by), means))


def _with_untrained(ds: xr.Dataset, scores: xr.Dataset, rows: Rows, by: str) -> xr.Dataset:
    """Add the effects of the same lesions in copies of the model with random weights, where there are any."""
    if ds.attrs["metric"] != "loss" or "logprob_untrained" not in scores:
        return ds
    few = scores[["logprob_untrained", by]].isel(lesion=[*rows.baseline, *rows.target])  # controls have none
    effects = []
    for k in range(scores.sizes["copy"]):
        copy = few.isel(copy=k).rename(logprob_untrained="logprob")
        measured = measure(copy, "loss", by, 0)
        effects.append(per_item(measured.total[1:] - measured.total[:1], measured))
    return ds.assign(untrained=(("network", "copy", by), np.stack(effects, axis=1)))
