"""What region lesions, sweeps of single parameters and frozen training do to each condition."""

from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from ...store.arguments import whole_number
from ...store.errors import InputError, InputTypeError
from ...store.moments import Float64
from ...store.provenance import source_attrs
from ...store.schema import text_array
from ...store.selection import joined_selection
from ..perturbation.estimates import EXCHANGEABLE, bootstrap, intervals, p_against, per_item
from ..perturbation.measures import Measured, measure
from ..perturbation.rows import check_prompts


def region_effects(
    scores: xr.Dataset, *, by: str = "condition", n_bootstrap: int = 1000, seed: int = 0
) -> xr.Dataset:
    """Rise of the loss per token under each region's lesion, per condition, beside random regions.

    Parameters
    ----------
    scores
        From `actome.score_regions`.
    by
        The label of the prompts whose values are told apart.
    n_bootstrap
        Resamples of the prompts for the 95 % intervals.
    seed
        Draws them.

    Returns
    -------
    Dataset

    effect : (region, condition), nats per token above the baseline; positive hurts
    low, high : its 95 % bootstrap interval over prompts, widened for few prompts; NaN below two
    perplexity : (region, condition); perplexity_baseline : (condition)
    control : (region, draw, condition), the effect of each of the region's random controls, `n_controls`
        (region) of them; NaN behind these
    p_value : (region, condition), (1 + controls at least as strong) / (1 + controls); NaN without any
    size : (region), parameters; magnitude, magnitude_control : (region), mean |weight| of the region, and
        of its controls

    with ``role`` and ``top`` along ``region``. NaN for a condition without scored tokens, and for a lesion
    after which a scored token has no log probability; a control like that counts as strong.

    Raises
    ------
    InputError, InputTypeError
        Something else than scores of regions was given; they were not written to their end, lack the label,
        hold a prompt twice, or one that took part in selecting the regions.
    """
    needed = {"logprob", "region_role", "role", "size", "magnitude", "shared"}
    if not isinstance(scores, xr.Dataset) or not needed <= set(scores.variables):
        raise InputTypeError("region_effects takes scores from actome.score_regions")
    _check(scores, "score_regions", n_bootstrap, seed)
    role, target = (text_array(scores[c].to_numpy()) for c in ("role", "target"))
    baseline, targets = np.flatnonzero(role == "baseline"), np.flatnonzero(role == "target")
    measured = measure(scores, "loss", by, int(baseline[0]))
    change = measured.total - measured.total[baseline]
    effects = per_item(change, measured)  # (lesion, condition)
    own_controls = [np.flatnonzero((role == "control") & (target == name)) for name in target[targets]]
    control = np.full((len(targets), max(map(len, own_controls), default=0), effects.shape[1]), np.nan)
    p = np.full((len(targets), effects.shape[1]), np.nan)
    for k, rows in enumerate(own_controls):
        control[k, : len(rows)] = effects[rows]
        p[k] = p_against(effects[targets[[k]]], effects[rows][None])[0]
    low, high = intervals(*bootstrap(change[targets], measured, n_bootstrap, seed))
    base = per_item(measured.total[baseline], measured)[0]
    magnitude, shared = (scores[v].to_numpy() for v in ("magnitude", "shared"))
    dims = ("region", by)
    return xr.Dataset(
        {
            "effect": (dims, effects[targets], {"units": "nats per token"}),
            "low": (dims, low),
            "high": (dims, high),
            "perplexity": (dims, np.exp(base + effects[targets])),
            "perplexity_baseline": (by, np.exp(base)),
            "control": (("region", "draw", by), control),
            "p_value": (dims, p),
            "n_controls": ("region", [len(rows) for rows in own_controls]),
            "size": ("region", scores["size"].to_numpy()[targets]),
            "magnitude": ("region", magnitude[targets]),
            "magnitude_control": ("region", [_mean(magnitude[rows]) for rows in own_controls]),
            "shared": ("region", [_mean(shared[rows]) for rows in own_controls]),
        },
        coords={
            "region": target[targets].astype(object),
            "role": ("region", scores["region_role"].to_numpy()[targets]),
            "top": ("region", scores["top"].to_numpy()[targets]),
            by: measured.values.astype(object),
        },
        attrs={
            "kind": "region_effects", "by": by, "n_bootstrap": n_bootstrap, "seed": seed,
            "lesion": scores.attrs.get("inputs", {}).get("kind", ""), "assumption": EXCHANGEABLE,
            **joined_selection(scores.attrs).attrs, **source_attrs(scores.attrs),
        },
    )  # fmt: skip


def sweep_effects(
    swept: xr.Dataset, *, by: str = "condition", n_bootstrap: int = 1000, seed: int = 0
) -> xr.Dataset:
    """Rise of the loss per token when single parameters, rows or columns are multiplied.

    Parameters
    ----------
    swept
        From `actome.sweep`.
    by, n_bootstrap, seed
        As for `region_effects`.

    Returns
    -------
    Dataset

    effect, low, high, perplexity : (place, factor, condition); perplexity_baseline : (condition)

    with the columns of the places. NaN where the model gives a scored token no probability.

    Raises
    ------
    InputError, InputTypeError
        Something else than a sweep was given; it was not written to its end, lacks the label, holds a prompt
        twice, or one that selected the places.
    """
    if not isinstance(swept, xr.Dataset) or not {"loss", "loss_baseline", "factor"} <= set(swept.variables):
        raise InputTypeError("sweep_effects takes the result of actome.sweep")
    _check(swept, "sweep", n_bootstrap, seed)
    loss = swept["loss"].transpose("place", "factor", "prompt").to_numpy()
    out = _changes(loss, swept["loss_baseline"].to_numpy(), swept, by, n_bootstrap, seed)
    dims = ("place", "factor", by)
    about = {str(c): v for c, v in swept.coords.items() if v.dims in (("place",), ("factor",))}
    return xr.Dataset(
        {name: (dims, out[name]) for name in ("effect", "low", "high", "perplexity")}
        | {"perplexity_baseline": (by, out["perplexity_baseline"])},
        coords={**about, by: out["values"]},
        attrs={
            "kind": "sweep_effects", "by": by, "n_bootstrap": n_bootstrap, "seed": seed,
            "along": swept.attrs.get("along", ""), **joined_selection(swept.attrs).attrs,
            **source_attrs(swept.attrs),
        },
    )  # fmt: skip


def forgetting(
    trained: xr.Dataset, *, by: str = "condition", n_bootstrap: int = 1000, seed: int = 0
) -> xr.Dataset:
    """Follow what a model forgets and learns while it is trained further.

    Parameters
    ----------
    trained
        From `actome.train_frozen`.
    by, n_bootstrap, seed
        As for `region_effects`.

    Returns
    -------
    Dataset

    effect : (arm, step, condition), nats per token above the model before training; positive is forgotten
    low, high : its 95 % bootstrap interval over prompts
    excess : (arm, step, condition), effect above that of the arm whose region is frozen, where there is one;
        excess_low, excess_high : its interval, prompt by prompt, so narrower than that of two effects
    perplexity : (arm, step, condition); perplexity_baseline : (condition)
    accuracy : (arm, step), share of the probe's questions, where there was one

    Raises
    ------
    InputError, InputTypeError
        Something else than such training was given; it was not written to its end, lacks the label, holds a
        prompt twice, or one that took part in selecting the region.
    """
    if not isinstance(trained, xr.Dataset) or not {"loss", "arm", "step"} <= set(trained.variables):
        raise InputTypeError("forgetting takes the result of actome.train_frozen")
    _check(trained, "train_frozen", n_bootstrap, seed)
    if int(trained["step"][0]) != 0:
        raise InputError("the training lacks step 0, the model before it, from which all is counted")
    loss = trained["loss"].transpose("arm", "step", "prompt").to_numpy()
    out = _changes(loss, loss[0, 0], trained, by, n_bootstrap, seed)
    dims = ("arm", "step", by)
    variables: dict[str, Any] = {n: (dims, out[n]) for n in ("effect", "low", "high", "perplexity")}
    variables["perplexity_baseline"] = (by, out["perplexity_baseline"])
    arms = text_array(trained["arm"].to_numpy()).tolist()
    if "region" in arms:
        beyond = _changes(loss, loss[arms.index("region")], trained, by, n_bootstrap, seed)
        for name, of in (("excess", "effect"), ("excess_low", "low"), ("excess_high", "high")):
            variables[name] = (dims, beyond[of])
    if "right" in trained:
        variables["accuracy"] = (("arm", "step"), trained["right"].mean("item").to_numpy())
    return xr.Dataset(
        variables,
        coords={"arm": trained["arm"].to_numpy(), "step": trained["step"].to_numpy(), by: out["values"]},
        attrs={
            "kind": "forgetting", "by": by, "n_bootstrap": n_bootstrap, "seed": seed,
            **joined_selection(trained.attrs).attrs, **source_attrs(trained.attrs),
        },
    )  # fmt: skip


def _changes(
    loss: Float64, baseline: Float64, ds: xr.Dataset, by: str, n_bootstrap: int, seed: int
) -> dict[str, npt.NDArray[Any]]:
    """Compare losses (a, b, prompt), summed over tokens, with a baseline's, (prompt) or (b, prompt)."""
    if by not in ds.coords or ds[by].dims != ("prompt",):
        labels = sorted(str(c) for c in ds.coords if ds[c].dims == ("prompt",))
        raise InputError(f"there is no label {by!r} of the prompts; there are {labels}")
    order = np.argsort(text_array(ds["prompt"].to_numpy()), kind="stable")
    values, code = np.unique(text_array(ds[by].to_numpy())[order], return_inverse=True)
    flat = loss.reshape(-1, loss.shape[-1])[:, order]
    before = np.broadcast_to(baseline, loss.shape).reshape(flat.shape)[:, order]
    n = ds["n_scored"].to_numpy().astype(np.float64)[order]
    measured = Measured(flat, n, code, values)
    change = flat - before
    effect = per_item(change, measured)
    low, high = intervals(*bootstrap(change, measured, n_bootstrap, seed))
    base = per_item(before, measured)
    shape = (*loss.shape[:2], len(values))
    out = {"effect": effect, "low": low, "high": high, "perplexity": np.exp(base + effect)}
    return {name: v.reshape(shape) for name, v in out.items()} | {
        "perplexity_baseline": np.exp(base[0]), "values": values.astype(object),
    }  # fmt: skip


def _check(ds: xr.Dataset, maker: str, n_bootstrap: int, seed: int) -> None:
    """Refuse numbers that are not allowed, and what `maker` has not written to its end or must not score."""
    whole_number(n_bootstrap, "n_bootstrap", least=1)
    whole_number(seed, "seed", least=0)
    if "inputs_digest" in ds.attrs and not ds.attrs.get("manifest_digest"):
        raise InputError(f"this was not written to its end; make the call of actome.{maker} again")
    what = "places" if maker == "sweep" else "regions"
    check_prompts(ds, joined_selection(ds.attrs), what)


def _mean(values: Float64) -> float:
    return float(values.mean()) if len(values) else float("nan")
