"""What a lesion does to each condition, beside what its matched controls do."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr

from ...store.errors import InputError
from ...store.moments import Float64
from ..corrections import Correction, corrected
from .adjustment import p_at_equal_activity
from .comparison import Comparison, compare
from .estimates import per_item
from .measures import Measured, Metric, measure, unparsed
from .options import Options
from .rows import Rows, check_scores, keeps_only, n_lesioned, rows_of
from .selectivity import given_conditions, selectivity

Variables = dict[str, tuple[Any, ...]]


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
        From `actome.score`: ``logprob`` (lesion, prompt, token). Of networks kept alone: see `preservation`.
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

    effect : (network, condition), in units of the metric above the baseline; positive hurts. The mean over
        all tokens (answers) of the condition, so that a prompt counts as much as it is long
    low, high : its 95 % bootstrap interval over prompts: percentiles, widened for few prompts [1]_; NaN
        below two prompts with scored tokens. Of a share that no prompt changes it has no width
    control : (network, draw, condition), the same effect of each matched control
    p_value : (network, condition), (1 + controls at least as strong) / (1 + controls); NaN without
        controls
    p_corrected : (network, condition), for all cells of the matrix
    p_at_equal_activity : (network, condition), where the scores say how active the controls are: what goes
        with activity alone is taken out first, as controls of the most active neurons are less active
    selectivity, selectivity_low, selectivity_high : (network), effect on its own condition less the mean
        effect on the others; selectivity_p against the controls, selectivity_p_corrected
    own : (network), the condition, "" where there is none or the halves of the prompts disagree;
        own_given : (network)
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
        Something else than scores was given, or scores of which other processes have not ended; they lack
        the label or what the metric needs; a prompt or a network comes twice; networks have different
        numbers of controls; a scored prompt took part in selecting the networks; there are several doses
        and none was chosen; the networks were kept and all else lesioned.

    References
    ----------
    .. [1] Hesterberg (2015), The American Statistician 69:371-386.
    """
    options = Options(by, metric, correction, n_bootstrap, seed)
    check_scores(scores, "lesion_effects")
    if keeps_only(scores):
        raise InputError(
            "lesion_effects takes scores of networks that were lesioned; with keep_only=True they were kept "
            "and all else was lesioned, so that little harm is what to ask for: use preservation"
        )
    rows = rows_of(scores, "lesion_effects", dose)
    measured = measure(scores, metric, by, rows.baseline)
    values = measured.values.tolist()
    own_code = given_conditions(rows.names, values, own)
    change = measured.total - measured.total[rows.baseline]
    compared = compare(change, measured, rows.target, rows.control, options)
    select = selectivity(change, measured, rows, own_code, options)
    named = np.array([*values, ""], dtype=object)[select.own]
    variables = {
        **compared.variables(("network", by), options.units),
        "selectivity": ("network", select.value, {"units": options.units}),
        "selectivity_low": ("network", select.low),
        "selectivity_high": ("network", select.high),
        "selectivity_p": ("network", select.p_value),
        "selectivity_p_corrected": ("network", corrected(select.p_value, correction)),
        "own": ("network", named),
        "own_given": ("network", own_code >= 0),
        "size": ("network", n_lesioned(scores)[rows.target]),
        **_levels(scores, options, measured, rows),
        **_of_other_controls(change, measured, rows, by),
        **_at_equal_activity(scores, compared, rows, by),
        **_in_untrained(scores, options, rows),
    }
    ds = xr.Dataset(
        variables,
        coords={"network": np.array(rows.names, dtype=object), by: np.array(values, dtype=object)},
        attrs=options.attrs(scores, "effects"),
    )
    if rows.others:
        ds = ds.assign_coords(control_kind=np.array(list(rows.others), dtype=object))
    return ds if dose is None else ds.assign_attrs(dose=float(dose))


def _levels(scores: xr.Dataset, options: Options, measured: Measured, rows: Rows) -> Variables:
    """Return the metric itself under each lesion and in the baseline, as it is usually given."""
    level = per_item(measured.total, measured)
    if options.metric == "loss":
        return _beside("perplexity", np.exp(level), rows, options.by)
    if options.metric == "kl":
        return {}
    found = _beside("accuracy", 0.0 - level, rows, options.by)  # no minus zero
    if options.metric == "answer":
        failures = unparsed(scores, options.by, rows.baseline)
        found |= _beside("unparsed", per_item(failures.total, failures), rows, options.by)
    return found


def _beside(name: str, level: Float64, rows: Rows, by: str) -> Variables:
    return {name: (("network", by), level[rows.target]), f"{name}_baseline": (by, level[rows.baseline])}


def _of_other_controls(change: Float64, measured: Measured, rows: Rows, by: str) -> Variables:
    """Return the mean effect of the controls that are no random draws, where there are any."""
    if not rows.others:
        return {}
    means = [per_item(change[places], measured).mean(axis=1) for places in rows.others.values()]
    return {"other_control": (("network", "control_kind", by), np.stack(means, axis=1))}


def _at_equal_activity(scores: xr.Dataset, compared: Comparison, rows: Rows, by: str) -> Variables:
    if "mismatch" not in scores.variables:
        return {}
    mismatch = scores["mismatch"].to_numpy()[rows.control]
    if not np.isfinite(mismatch).any():
        return {}
    p = p_at_equal_activity(compared.effect, compared.control, mismatch)
    return {"p_at_equal_activity": (("network", by), p)}


def _in_untrained(scores: xr.Dataset, options: Options, rows: Rows) -> Variables:
    """Return the effects of the same lesions in copies of the model with random weights, if there are any."""
    if options.metric != "loss" or "logprob_untrained" not in scores:
        return {}
    places = [rows.baseline, *rows.target]  # controls have none
    few = scores[["logprob_untrained", options.by]].isel(lesion=places)
    effects = []
    for k in range(scores.sizes["copy"]):
        copy = few.isel(copy=k).rename(logprob_untrained="logprob")
        measured = measure(copy, "loss", options.by, 0)
        effects.append(per_item(measured.total[1:] - measured.total[0], measured))
    return {"untrained": (("network", "copy", options.by), np.stack(effects, axis=1))}
