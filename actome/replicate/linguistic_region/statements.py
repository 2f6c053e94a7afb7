"""What the study of linguistic regions states, judged by rules that look at the effects alone."""

import numpy as np
import numpy.typing as npt
import xarray as xr

from ...analyze.regions.tables import core_table
from ...analyze.report.wording import decimal, percent, share
from ..outcome import Statement, Verdict, all_or_none

LITTLE = 0.1  # part of an effect below which another is small beside it
DESTROYED, HARMED = 10.0, 2.0  # times the perplexity
FACTOR = 4.0  # of the study's single parameter
CONCENTRATED = ("o", "down")  # types of matrix that the study shows

_SCALAR = (
    "LLaMA-2, perplexity of Chinese with one weight of layer 1 times 4: 257.7 on dimension 2100, 5.858 on "
    "dimension 4200."
)

Float64 = npt.NDArray[np.float64]


def hurt(core: xr.Dataset) -> Statement:
    """Judge whether all languages suffer without the core region."""
    top = core.isel(region=np.flatnonzero(core["role"] == "top"))
    met = _above_controls(top)
    table = np.exp(np.log(core_table(core)).mean())
    listed = "; ".join(
        f"top {s} {decimal(table[s, 'top'])}, random {decimal(table[s, 'random'])}"
        for s in dict.fromkeys(s for s, _ in table.index if s)
    )
    return Statement(
        "Without the core region, the parameters most important for all languages, the perplexity of every "
        "language rises.",
        f"Perplexity, geometric mean over {met.shape[1]} languages: {decimal(table['', 'base'])}; without "
        f"the {listed}. {_of(met)} effects are above 0 and above all random regions.",
        all_or_none(met),
        "Agree: for every share and language the effect's interval is above 0, and the effect above those "
        "of all random regions. Disagree: for none.",
    )


def spared(core: xr.Dataset) -> Statement:
    """Judge whether the least important and random parameters matter little."""
    role, top = core["role"].to_numpy(), core["top"].to_numpy()
    mean = core["effect"].mean(core.attrs["by"]).to_numpy()
    rows = np.flatnonzero(role == "top")
    bottom = np.array([mean[(role == "bottom") & (top == top[k])][0] for k in rows])
    chance = core["control"].mean(("draw", core.attrs["by"])).to_numpy()[rows]
    parts = np.abs(np.stack([bottom, chance])) / np.where(mean[rows] > 0, mean[rows], np.nan)
    listed = "; ".join(
        f"{100 * top[k]:g} %: bottom {share(b, 1)}, random {share(c, 1)}"
        for k, b, c in zip(rows, *parts, strict=True)
    )
    return Statement(
        "Removing as many of the least important parameters, or random ones, changes little.",
        f"Effect on all languages, as part of that of the top region: {listed}.",
        all_or_none(parts < LITTLE),
        f"Agree: for every share both are below {percent(LITTLE)} of the top region's effect. Disagree: "
        "neither is for any.",
    )


def most(monolingual: xr.Dataset) -> Statement:
    """Judge whether the region of a language hurts that language most."""
    effect, own = _own(monolingual)
    others = np.where(own, -np.inf, effect).max(axis=1)
    met = effect[own] > others
    low, high = np.exp(effect[own].min()), np.exp(effect[own].max())
    return Statement(
        "Without the region of a single language, that language suffers most.",
        f"{_of(met)} regions hurt their own language most; its perplexity grows {low:.2f} to {high:.2f} "
        "times.",
        all_or_none(met),
        "Agree: so for every region. Disagree: for none.",
    )


def alone(monolingual: xr.Dataset) -> Statement:
    """Judge whether the region of a language leaves the others as they are."""
    effect, own = _own(monolingual)
    others = np.where(own, np.nan, effect)
    met = (np.nanmean(others, axis=1) < LITTLE * effect[own]) & _above_controls(monolingual)[own]
    part = np.nanmean(others) / effect[own].mean()
    return Statement(
        "Without the region of a single language, the others stay as they are.",
        f"The mean effect on the others is {share(part, 1)} of that on the own language, their perplexity "
        f"grows {np.exp(np.nanmean(others)):.2f} times; below {percent(LITTLE)} for {_of(met)} regions.",
        all_or_none(met),
        f"Agree: for every region the mean effect on the others is below {percent(LITTLE)} of that on its "
        "own language, which is above 0 and all random regions. Disagree: for none.",
    )


def gathered(concentration: xr.Dataset) -> Statement:
    """Judge whether the core region gathers in few rows and columns."""
    ds = concentration.isel(region=0)
    ds = ds.isel(tensor=np.flatnonzero(ds["matrix"].isin(CONCENTRATED).to_numpy()))
    claim = (
        "The core region concentrates in few rows or columns, of the attention's output and the MLP's down."
    )
    rule = (
        "Agree: in every such matrix a larger share lies in the fullest rows, or columns, than in all random "
        "regions of the same size. Disagree: in none."
    )
    if not ds.sizes["tensor"]:
        return Statement(claim, "The model has no such matrices.", "not asked", rule)
    shares = np.stack([ds[f"{line}_share"].to_numpy() for line in ("row", "column")])
    null = np.stack([ds[f"{line}_share_null"].transpose("draw", "tensor") for line in ("row", "column")])
    met = (shares > null.max(axis=1)).any(axis=0)
    lines = float(concentration.attrs["lines"])
    told = [
        f"{line}s {share(shares[i].mean(), 1)} (random {share(null[i].mean(), 1)})"
        for i, line in enumerate(("row", "column"))
    ]
    return Statement(
        claim,
        f"Share in the fullest {percent(lines)}, mean over {len(met)} matrices: {', '.join(told)}; "
        f"{_of(met)} are more concentrated than chance.",
        all_or_none(met),
        rule,
    )


def lines_hurt(*swept: xr.Dataset) -> Statement:
    """Judge whether important rows and columns matter more than random ones."""
    met, told = [], []
    for ds in swept:
        effect = _mean_effect(ds)
        is_top = (ds["role"] == "top").to_numpy()
        top, chance = effect[is_top].mean(axis=0), effect[~is_top].max(axis=0)
        met.append(top > chance)
        factors = [f"x{f:g}" for f in ds["factor"].to_numpy()]
        told.append(
            f"{ds.attrs['along']}s "
            + ", ".join(
                f"{f} {decimal(t)} ({decimal(c)})" for f, t, c in zip(factors, top, chance, strict=True)
            )
        )
    return Statement(
        "Perturbing the dimensions in which the region concentrates hurts, perturbing random ones does not.",
        f"Mean effect of the top ones (largest of the random ones), nats per token: {'; '.join(told)}.",
        all_or_none(np.stack(met)),
        "Agree: for rows and columns and every factor, the mean effect of the most important ones is larger "
        "than that of every random one. Disagree: for none.",
    )


def destroyed(scalars: xr.Dataset) -> Statement:
    """Judge whether a single parameter can destroy the model."""
    effect, is_top = _mean_effect(scalars), (scalars["role"] == "top").to_numpy()
    factors = scalars["factor"].to_numpy()
    times = np.exp(effect)
    at = int(np.flatnonzero(factors == FACTOR)[0])
    top, chance = times[is_top], times[~is_top]
    verdict: Verdict = "cannot say"
    if top[:, at].max() > DESTROYED > chance[:, at].max():
        verdict = "agree"
    elif top.max() < HARMED:
        verdict = "disagree"
    told = ", ".join(
        f"x{f:g} {decimal(t)} (random {decimal(c)})"
        for f, t, c in zip(factors, top.max(axis=0), chance.max(axis=0), strict=True)
    )
    return Statement(
        "Changing a single parameter can destroy the model's language.",
        f"Largest growth of the perplexity over all languages, times: {told}.",
        verdict,
        f"Agree: times {FACTOR:g}, one of the most important parameters makes the perplexity more than "
        f"{DESTROYED:g} times as large, and no random one does. Disagree: none of them makes it {HARMED:g} "
        "times as large, at any factor.",
        _SCALAR,
    )


def frozen(trained: xr.Dataset) -> Statement:
    """Judge whether freezing the core region limits forgetting."""
    by, language = str(trained.attrs["by"]), str(trained.attrs["trained_on"])
    last = trained.isel({"step": -1, by: np.flatnonzero(trained[by] != language)})
    rise = {arm: float(last["effect"].sel(arm=arm).mean()) for arm in ("none", "random", "region")}
    others = last.sel(arm=["none", "random"])
    met, seen = ((others[v] > 0).all("arm").to_numpy() for v in ("excess_low", "excess"))
    listed = ", ".join(f"{arm} {decimal(value)}" for arm, value in rise.items())
    return Statement(
        "Trained further on a new language with the core region frozen, the model forgets less of the "
        "others.",
        f"Rise of the others' loss by what is frozen, nats per token: {listed}; {_of(seen)} languages are "
        f"forgotten least with the region frozen, {int(met.sum())} of them surely.",
        "agree" if met.all() else "cannot say" if seen.any() else "disagree",
        "Agree: every other language is forgotten more with nothing frozen, and more with a random region "
        "frozen, than with the region frozen, the intervals of these differences above 0. Disagree: none is "
        "forgotten least with the region frozen.",
    )


def dissociated(trained: xr.Dataset) -> Statement:
    """Judge whether a language can be learned without knowledge."""
    claim = "Competence in a language can grow while knowledge does not."
    rule = (
        "Agree: trained with nothing frozen, the language's loss falls, its interval below 0, and accuracy "
        "on the questions does not rise. Disagree: both improve. The language's loss does not fall: cannot "
        "say."
    )
    if "accuracy" not in trained:
        return Statement(claim, "There were no questions.", "not asked", rule)
    language = str(trained.attrs["trained_on"])
    end = trained.sel(arm="none").sel({trained.attrs["by"]: language}).isel(step=-1)
    first, last = (float(trained["accuracy"].sel(arm="none")[i]) for i in (0, -1))
    verdict: Verdict = "cannot say"
    if float(end["high"]) < 0:
        verdict = "agree" if last <= first else "disagree"
    effect, low, high = (decimal(float(end[v])) for v in ("effect", "low", "high"))
    return Statement(
        claim,
        f"Loss of {language}: {effect} ({low} to {high}) nats per token; accuracy on "
        f"{trained.attrs['n_items']} questions {share(first, 1)} before, {share(last, 1)} after.",
        verdict,
        rule,
    )


def _above_controls(effects: xr.Dataset) -> npt.NDArray[np.bool_]:
    """Tell effects (region, condition) above 0 and above those of all controls."""
    dims = ("region", str(effects.attrs["by"]))
    effect, low = (effects[v].transpose(*dims).to_numpy() for v in ("effect", "low"))
    strongest = effects["control"].max("draw").transpose(*dims).to_numpy()
    return np.asarray((low > 0) & (effect > strongest))


def _own(effects: xr.Dataset) -> tuple[Float64, npt.NDArray[np.bool_]]:
    """Effects (region, condition), and which are those on a region's own condition."""
    by = str(effects.attrs["by"])
    effect = effects["effect"].transpose("region", by).to_numpy()
    return effect, effects["region"].to_numpy()[:, None] == effects[by].to_numpy()


def _mean_effect(swept: xr.Dataset) -> Float64:
    """Mean over languages (place, factor); infinite where a token has no probability left."""
    mean = swept["effect"].mean(str(swept.attrs["by"]), skipna=False).transpose("place", "factor").to_numpy()
    return np.where(np.isnan(mean), np.inf, mean)


def _of(met: npt.NDArray[np.bool_]) -> str:
    return f"{int(met.sum())} of {met.size}"
