"""What the study states of lesions, judged by rules that look at the effects alone."""

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
import xarray as xr

from ....analyze.report.wording import decimal, probability, share
from ....store.moments import Float64
from ...outcome import LEVEL, Statement, Verdict, all_or_none
from .settings import AT_RANDOM, TOGETHER

Found = Mapping[str, xr.Dataset]  # of every data set
MUCH, LITTLE = 0.1, 0.02  # of what the whole model gets right
ENOUGH: Final = 0.9  # of what the whole model gets right
NOTHING: Final = "No template has a neuron that stands out enough."
MATCHED: Final = 0.1  # of the mean magnitude by which controls may be off
SMALL: Final = 0.2  # of the neurons; the study's 512 components keep 17 %

_BEYOND: Final = "Beyond the study: "
_MATCH: Final = f"their mean magnitude is at most {MATCHED:.0%} off, averaged over data sets"


def joint_p(p: Float64, n_controls: int) -> float:
    """P of several tests together: that the sum of their p is as small, where no target is special.

    The p of a target that is exchangeable with its controls takes each of the values 1 / (1 + controls)
    to 1 alike often; sums of such are counted [1]_. It needs targets that are independent of each other.
    NaN without any test.

    References
    ----------
    .. [1] Edgington (1972), The Journal of Psychology 80:351-363.

    >>> round(joint_p(np.array([0.2, 0.2]), 4), 3)
    0.04
    """
    p = p[np.isfinite(p)]
    if not p.size:
        return float("nan")
    ranks = np.rint(p * (1 + n_controls)).astype(int)
    one = np.full(1 + n_controls, 1 / (1 + n_controls))  # of the ranks 1, 2, ...
    density = np.ones(1)
    for _ in ranks:
        density = np.convolve(density, one)
    return float(min(1.0, density[: ranks.sum() - len(ranks) + 1].sum()))


def single(effects: xr.Dataset) -> Statement:
    """Judge whether some networks matter much and others hardly; `effects` on accuracy, by data set."""
    claim = "Masking one network can cost much of the accuracy; masking another costs hardly any."
    rule = (
        f"Agree: in every data set one network costs at least {MUCH:.0%} of the whole model's accuracy and "
        f"another less than {LITTLE:.0%}. Disagree: in none."
    )
    lost = _lost(effects.drop_sel(network=[TOGETHER, AT_RANDOM]))
    told, met = [], []
    for name, own in zip(effects["data_set"].to_numpy(), lost.T, strict=True):
        own = own[np.isfinite(own)]
        if own.size:
            least, most = float(own.min()), float(own.max())
            met.append(most >= MUCH and least < LITTLE)
            told.append(f"{name} {share(least, 1)} to {share(most, 1)}")
    if not met:
        return Statement(claim, NOTHING, "not asked", rule)
    measured = f"Share of the whole model's accuracy lost, network of least to most: {'; '.join(told)}."
    return Statement(claim, measured, all_or_none(np.array(met)), rule)


def more_than_random(effects: xr.Dataset) -> Statement:
    """Judge whether all networks cost more than many more neurons at random; on accuracy, by data set."""
    claim = (
        "Masking the ten networks, few neurons, costs far more than masking 15 % of the neurons at random."
    )
    rule = (
        "Agree: in every data set all networks together cost more than every random draw. Disagree: in none "
        "more than their mean."
    )
    effects = effects.isel(data_set=np.flatnonzero(effects["neurons"].sel(network=TOGETHER) > 0))
    if not effects.sizes["data_set"]:
        return Statement(claim, NOTHING, "not asked", rule)
    networks, at_random = (effects.sel(network=n) for n in (TOGETHER, AT_RANDOM))
    together, random = (ds["effect"].to_numpy() for ds in (networks, at_random))
    draws = np.vstack([random, at_random["control"].transpose("draw", "data_set").to_numpy()])
    listed = "; ".join(
        f"{name} {decimal(whole)} / {decimal(whole - mean)} / {decimal(whole - lost)} ({int(n)} neurons)"
        for name, whole, mean, lost, n in zip(
            effects["data_set"].to_numpy(),
            effects["accuracy_baseline"].to_numpy().tolist(),
            draws.mean(axis=0).tolist(),
            together.tolist(),
            networks["neurons"].to_numpy(),
            strict=True,
        )
    )
    above_all, above_mean = (together > draws).all(axis=0), together > draws.mean(axis=0)
    verdict: Verdict = "agree" if above_all.all() else "disagree" if not above_mean.any() else "cannot say"
    return Statement(
        claim,
        f"Accuracy, normal / random 15 % / all networks: {listed}; random: the mean of {len(draws)} draws.",
        verdict,
        rule,
    )


def off(matching: xr.Dataset, network: str) -> float:
    """How far the controls of a network are from its mean magnitude; `matching` as in the scores."""
    own = (matching["role"] == "control") & (matching["target"] == network)
    return float(matching["mismatch"].to_numpy()[own.to_numpy()].mean())


def more_than_matched(effects: xr.Dataset, matching: Found) -> Statement:
    """Judge whether networks cost more than their matched controls; `effects` on the loss, by data set."""
    n_controls = effects.sizes["draw"]
    alone = effects.drop_sel(network=[TOGETHER, AT_RANDOM])["p_value"].to_numpy().ravel()
    together = effects.sel(network=TOGETHER)
    aside = [off(ds, TOGETHER) for ds in matching.values()]
    tests = joint_p(alone, n_controls), joint_p(together["p_value"].to_numpy(), n_controls)
    listed = "; ".join(
        f"{name} {decimal(own)} against {decimal(mean)}"
        for name, own, mean in zip(
            effects["data_set"].to_numpy(),
            together["effect"].to_numpy().tolist(),
            together["control"].mean("draw").to_numpy().tolist(),
            strict=True,
        )
    )
    return Statement(
        f"{_BEYOND}it is these neurons that matter, not their number, layers and magnitude.",
        f"Nats per token that all networks together cost, and their matched controls: {listed}; "
        f"p {_is(tests[1])} over data sets; of single networks p {_is(tests[0])}. {_differ(aside)}",
        _tested(tests, [alone, together["p_value"].to_numpy()], aside),
        f"Agree: single networks, and all of a data set together, each cost more loss than their controls, "
        f"joint p at most {LEVEL}, and these match: {_MATCH}. Disagree: neither does, and on average they "
        "cost no more than half of the controls.",
    )


def kept_suffices(kept: Found) -> Statement:
    """Judge whether few neurons keep most of the accuracy, and more neurons more; `kept` on accuracy."""
    told, met = [], []
    for name, ds in kept.items():
        right = (-ds["baseline"] - ds["effect"]).isel(data_set=0).to_numpy()
        whole = -float(ds["baseline"][0])
        last = _last_small(ds)
        relative = right / whole if whole else np.full(len(right), np.nan)
        met.append(bool(relative[last] >= ENOUGH and right[last] > right[0]))
        points = ", ".join(
            f"{share(r, 1)} with {int(n)}"
            for r, n in zip(relative.tolist(), ds["n_kept"].to_numpy(), strict=True)
        )
        told.append(f"{name} {points} (of {round(int(ds['n_kept'][0]) / float(ds['share_kept'][0]))})")
    return Statement(
        "Keeping the networks' neurons alone keeps much of the accuracy, nearly all with more components.",
        f"Share of the whole model's accuracy that is left, with the neurons kept: {'; '.join(told)}.",
        all_or_none(np.array(met)),
        f"Agree: in every data set the largest set of at most {SMALL:.0%} of the neurons keeps at least "
        f"{ENOUGH:.0%} of the accuracy, and more than the smallest does. Disagree: in none.",
    )


def better_kept(kept: Found, matching: Found) -> Statement:
    """Judge whether kept networks hold up better than random neurons; `kept` on the loss."""
    n_controls = next(iter(kept.values())).sizes["draw"]
    points = {name: ds.isel(point=_last_small(ds)) for name, ds in kept.items()}
    p = {name: _overall_p(ds) for name, ds in points.items()}
    aside = [off(matching[name], str(ds["point"].item())) for name, ds in points.items()]
    listed = "; ".join(
        f"{name} {decimal(float(ds['effect'].mean()))} against "
        f"{decimal(float(ds['control'].mean()))} ({int(ds['n_kept'])} neurons)"
        for name, ds in points.items()
    )
    values = np.array(list(p.values()))
    test = joint_p(values, n_controls)
    return Statement(
        f"{_BEYOND}the neurons kept hold up better than as many others of the same layers and magnitude.",
        f"Nats per token lost, mean of the conditions, networks and random sets: {listed}; p {_is(test)}. "
        f"{_differ(aside)}",
        _tested((test,), [values], aside),
        f"Agree: in sets of at most {SMALL:.0%} of the neurons less is lost than in random ones, joint p "
        f"over data sets at most {LEVEL}, and they match: {_MATCH}. Disagree: it is not, and half lose less.",
    )


def amplified(found: Found) -> Statement:
    """Tell what a constant added to all networks does; no figure of the study is known to compare with."""
    told = []
    for name, ds in found.items():
        at = ds.isel(network=0, data_set=0)
        own, control = at["effect"].to_numpy(), at["control"].mean("draw").to_numpy()
        told.append(
            name + " " + ", ".join(f"{decimal(a)} ({decimal(b)})" for a, b in zip(own, control, strict=True))
        )
    return Statement(
        "A constant added to the neurons of networks changes what the model does.",
        f"Nats per token lost at each gain, and by matched controls: {'; '.join(told)}.",
        "not asked",
        "No figure of the study is known well enough to compare with.",
    )


def selective(found: Found, measure: str) -> Statement:
    """Judge whether networks of conditions hurt their own condition most, beside their controls."""
    claim = (
        f"{_BEYOND}a condition's network, by {measure} activation, is needed for that condition more than "
        "for others."
    )
    rule = (
        f"Agree: own effect less the mean of the others is larger than that of matched controls, joint p at "
        f"most {LEVEL}. Disagree: it is not, and on average no larger than that of half of the controls."
    )
    if not found:
        return Statement(claim, "No data set has two conditions with enough prompts.", "not asked", rule)
    p = np.concatenate([ds["selectivity_p"].to_numpy() for ds in found.values()])
    test = joint_p(p, next(iter(found.values())).sizes["draw"])
    told = "; ".join(
        f"{name} {_diagonal(ds)} of {ds.sizes['network']}, mean {decimal(float(ds['selectivity'].mean()))}"
        for name, ds in found.items()
    )
    return Statement(
        claim,
        f"Networks that cost their own condition most, and selectivity in nats per token: {told}; "
        f"p {_is(test)}.",
        _tested((test,), [p]),
        rule,
    )


def _diagonal(ds: xr.Dataset) -> int:
    hurt = ds["condition"].to_numpy()[ds["effect"].transpose("network", "condition").argmax("condition")]
    return int((hurt == ds["network"].to_numpy()).sum())


def _lost(effects: xr.Dataset) -> Float64:
    """Share of the whole model's accuracy that is lost: (network, data_set)."""
    effect = effects["effect"].transpose("network", "data_set").to_numpy()
    whole = effects["accuracy_baseline"].to_numpy()
    return np.asarray(effect / np.where(whole > 0, whole, np.nan))


def _last_small(ds: xr.Dataset) -> int:
    """Return the place of the largest set that is small; the first if none is."""
    return max(0, int((ds["share_kept"] <= SMALL).sum()) - 1)


def _overall_p(ds: xr.Dataset) -> float:
    """P of one point against its random sets, by the mean effect over conditions."""
    own, control = float(ds["effect"].mean()), ds["control"].mean("condition").to_numpy()
    return float((1 + (control <= own).sum()) / (1 + control.size))


def _tested(tests: tuple[float, ...], p: list[Float64], aside: Sequence[float] = ()) -> Verdict:
    """Judge joint tests, and the p that they are made of: 0.5 is the middle of the controls.

    `aside` says how far the magnitudes of controls are off: where that is too far, a small p tells nothing.
    """
    if not all(np.isfinite(tests)):
        return "not asked"
    if max(tests) <= LEVEL:
        return "agree" if not aside or abs(np.mean(aside)) <= MATCHED else "cannot say"
    ordinary = all(np.nanmean(values) >= 0.5 for values in p)
    return "disagree" if min(tests) > LEVEL and ordinary else "cannot say"


def _differ(aside: Sequence[float]) -> str:
    mean = float(np.mean(aside))
    return f"The controls' neurons are {share(abs(mean), 1)} {'less' if mean < 0 else 'more'} active."


def _is(p: float) -> str:
    text = probability(p)
    return text if text.startswith("<") else f"= {text}"
