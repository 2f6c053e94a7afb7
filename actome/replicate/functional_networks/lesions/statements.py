"""What the study states of lesions, judged by rules that look at the effects alone."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import xarray as xr

from ....analyze.report.wording import decimal, percent, probability, share
from ....store.moments import Float64
from ...outcome import LEVEL, Statement, Verdict, all_or_none
from .published import of_kept, of_random, of_single
from .settings import AT_RANDOM, TOGETHER

Found = Mapping[str, xr.Dataset]  # of every data set
MUCH, LITTLE = 0.1, 0.02  # of what the whole model gets right
ENOUGH: Final = 0.9  # of what the whole model gets right
NOTHING: Final = "No template has a neuron that stands out enough."
MATCHED: Final = 0.1  # of the mean magnitude by which controls may be off
SMALL: Final = 0.2  # of the neurons; the study's 512 components keep 17 %

_BEYOND: Final = "Beyond the study: "
_MATCH: Final = (
    f" Compared are networks whose controls' mean magnitude is at most {percent(MATCHED)} off theirs; where "
    "none is left: cannot say."
)

Key = tuple[str, str]  # data set, network


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
        f"Agree: in every data set one network costs at least {percent(MUCH)} of the whole model's accuracy "
        f"and another less than {percent(LITTLE)}. Disagree: in none."
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
        return Statement(claim, NOTHING, "not asked", rule, of_single())
    measured = f"Share of the whole model's accuracy lost, network of least to most: {'; '.join(told)}. "
    measured += f"Both in {sum(met)} of {len(met)} data sets."
    return Statement(claim, measured, all_or_none(np.array(met)), rule, of_single())


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
        return Statement(claim, NOTHING, "not asked", rule, of_random())
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
        f"Accuracy, normal / random 15 % / all networks: {listed}; random: the mean of {len(draws)} draws. "
        f"Networks cost more than every draw in {above_all.sum()}, than their mean in {above_mean.sum()} of "
        f"{effects.sizes['data_set']} data sets.",
        verdict,
        rule,
        of_random(),
    )


def off(matching: Found) -> dict[Key, float]:
    """How far the controls of each network are from its mean magnitude, relative to it.

    `matching` holds ``role``, ``target``, ``mismatch`` (lesion) of each data set's scores.
    """
    found: dict[Key, float] = {}
    for name, ds in matching.items():
        drawn = ds.isel(lesion=np.flatnonzero(ds["role"] == "control"))
        target, mismatch = (drawn[v].to_numpy() for v in ("target", "mismatch"))
        found |= {(name, str(n)): float(mismatch[target == n].mean()) for n in dict.fromkeys(target)}
    return found


@dataclass(frozen=True)
class Compared:
    """P of networks against their controls: of all, and of those whose controls match in activation."""

    p: Float64
    n: int
    n_controls: int

    @classmethod
    def of(cls, p: Mapping[Key, float], aside: Mapping[Key, float], n_controls: int) -> "Compared":
        """Leave out networks whose controls' mean magnitude is too far off, whatever their effects."""
        known = {key: value for key, value in p.items() if np.isfinite(value)}
        left = [value for key, value in known.items() if abs(aside.get(key, np.nan)) <= MATCHED]
        return cls(np.array(left), len(known), n_controls)

    @property
    def joint(self) -> float:
        """P of all that match together."""
        return joint_p(self.p, self.n_controls)

    def told(self, what: str) -> str:
        """Say it, and how many it rests on."""
        if not self.p.size:
            return f"of {self.n} {what} none has controls that match"
        return f"p {_is(self.joint)} over the {len(self.p)} of {self.n} {what} whose controls match"


def more_than_matched(effects: xr.Dataset, matching: Found) -> Statement:
    """Judge whether networks cost more than their matched controls; `effects` on the loss, by data set."""
    aside, n_controls = off(matching), effects.sizes["draw"]
    p = {
        (str(name), str(network)): float(effects["p_value"].sel(data_set=name, network=network))
        for name in effects["data_set"].to_numpy()
        for network in effects["network"].to_numpy()
        if network != AT_RANDOM
    }
    single = Compared.of({k: v for k, v in p.items() if k[1] != TOGETHER}, aside, n_controls)
    all_of_one = Compared.of({k: v for k, v in p.items() if k[1] == TOGETHER}, aside, n_controls)
    together = effects.sel(network=TOGETHER)
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
        f"{all_of_one.told('data sets')}; {single.told('single networks')}.",
        _tested(single, all_of_one),
        "Agree: single networks, and all of a data set together, each cost more loss than their controls, "
        f"joint p at most {LEVEL}. Disagree: neither does, and on average they cost no more than half of the "
        f"controls.{_MATCH}",
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
        f"Share of the whole model's accuracy that is left, with the neurons kept: {'; '.join(told)}. "
        f"So in {sum(met)} of {len(met)} data sets.",
        all_or_none(np.array(met)),
        f"Agree: in every data set the largest set of at most {percent(SMALL)} of the neurons keeps at least "
        f"{percent(ENOUGH)} of the accuracy, and more than the smallest does. Disagree: in none.",
        of_kept(),
    )


def better_kept(kept: Found, matching: Found) -> Statement:
    """Judge whether kept networks hold up better than random neurons; `kept` on the loss."""
    points = {name: ds.isel(point=_last_small(ds)) for name, ds in kept.items()}
    p = {(name, str(ds["point"].item())): _overall_p(ds) for name, ds in points.items()}
    compared = Compared.of(p, off(matching), next(iter(kept.values())).sizes["draw"])
    listed = "; ".join(
        f"{name} {decimal(float(ds['effect'].mean()))} against "
        f"{decimal(float(ds['control'].mean()))} ({int(ds['n_kept'])} neurons)"
        for name, ds in points.items()
    )
    return Statement(
        f"{_BEYOND}the neurons kept hold up better than as many others of the same layers and magnitude.",
        f"Nats per token lost, mean of the conditions, networks and random sets: {listed}; "
        f"{compared.told('data sets')}.",
        _tested(compared),
        f"Agree: with the largest set of at most {percent(SMALL)} of the neurons less is lost than with "
        f"random ones, joint p at most {LEVEL}. Disagree: it is not, and on average half of the random ones "
        f"lose less.{_MATCH}",
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


def selective(found: Found, matching: Found, measure: str) -> Statement:
    """Judge whether networks of conditions hurt their own condition most, beside their controls."""
    claim = (
        f"{_BEYOND}a condition's network, by {measure} activation, is needed for that condition more than "
        "for others."
    )
    rule = (
        "Agree: the effect on its own condition less the mean of the others is larger than with matched "
        f"controls, joint p at most {LEVEL}. Disagree: it is not, and on average no larger than that of half "
        f"of the controls.{_MATCH}"
    )
    if not found:
        return Statement(claim, "No data set has two conditions with enough prompts.", "not asked", rule)
    p = {
        (name, str(network)): float(value)
        for name, ds in found.items()
        for network, value in zip(ds["network"].to_numpy(), ds["selectivity_p"].to_numpy(), strict=True)
    }
    compared = Compared.of(p, off(matching), next(iter(found.values())).sizes["draw"])
    told = "; ".join(
        f"{name} {_diagonal(ds)} of {ds.sizes['network']}, mean {decimal(float(ds['selectivity'].mean()))}"
        for name, ds in found.items()
    )
    return Statement(
        claim,
        f"Networks that cost their own condition most, and selectivity in nats per token: {told}; "
        f"{compared.told('networks')}.",
        _tested(compared),
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


def _tested(*compared: Compared) -> Verdict:
    """Judge joint tests, and the p that they are made of: 0.5 is the middle of the controls."""
    if not all(one.n for one in compared):
        return "not asked"
    if not all(one.p.size for one in compared):
        return "cannot say"
    if max(one.joint for one in compared) <= LEVEL:
        return "agree"
    ordinary = all(one.p.mean() >= 0.5 for one in compared)
    return "disagree" if min(one.joint for one in compared) > LEVEL and ordinary else "cannot say"


def _is(p: float) -> str:
    text = probability(p)
    return text if text.startswith("<") else f"= {text}"
