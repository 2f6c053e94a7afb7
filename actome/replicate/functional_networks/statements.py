"""What the study of functional networks states, judged by rules that look at the recurrences alone."""

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
import scipy.stats
import xarray as xr

from ...analyze.report.wording import probability, share
from ..outcome import LEVEL, Statement, Verdict, all_or_none
from .published import of_counts

Found = Mapping[str, xr.Dataset]  # recurrence of every data set, with `size` and `n_together`
BEYOND: Final = "Beyond the study: "
SMALL = 0.02  # share of the neurons that ten networks stay under, as the study has it for GPT-2


def recurring(found: Found) -> Statement:
    """Judge whether templates come back in single samples more often than random ones."""
    above = {name: _above_chance(ds) for name, ds in found.items()}
    listed = "; ".join(
        f"{name} {yes.sum()} of {len(yes)}, in {_span(found[name]['samples'])} of "
        f"{found[name].sizes['subject']} samples"
        for name, yes in above.items()
    )
    shares = np.array([yes.mean() for yes in above.values()])
    verdict: Verdict = "agree" if (shares >= 0.5).all() else "disagree" if not shares.any() else "cannot say"
    return Statement(
        "Networks of a group of samples come back in other, single samples.",
        f"Templates that recur in more samples than chance gives: {listed}.",
        verdict,
        "Agree: in every data set at least half of the templates recur in more samples than random ones with "
        f"as many neurons in each layer, p at most {LEVEL} over their number. Disagree: none does in any.",
        "Every template but one of Wikitext-2 matches in some of the samples; without a null.",
    )


def uneven(found: Found) -> Statement:
    """Judge whether some templates come back more often than others."""
    p = {name: cochran(_matched(ds)) for name, ds in found.items()}
    listed = "; ".join(
        f"{name} {_span(found[name]['components'])}, p {_compared(value)}" for name, value in p.items()
    )
    return Statement(
        "Some templates come back often, others hardly ever.",
        f"Fewest and most matching components of a template: {listed} (Cochran's Q over samples).",
        all_or_none(np.array([value <= LEVEL / len(p) for value in p.values()])),
        "Agree: in every data set the templates differ in the share of samples with a match, p at most "
        f"{LEVEL} over the number of data sets. Disagree: in none.",
        of_counts(),
    )


def several(found: Found) -> Statement:
    """Judge whether a sample can have several components that match one template."""
    more = {name: ds["components"].to_numpy() - ds["samples"].to_numpy() for name, ds in found.items()}
    listed = "; ".join(f"{name} {int((x > 0).sum())} of {len(x)} templates" for name, x in more.items())
    some = np.array([(x > 0).any() for x in more.values()])
    return Statement(
        "A template can match more than one component of a sample, so that counts exceed the samples.",
        f"Templates with more matching components than samples that have one: {listed}.",
        all_or_none(some),
        "Agree: in every data set some template has. Disagree: in none.",
        "Up to 208 matching components in 100 samples (Wikitext-2).",
    )


def small(found: Found, n_neurons: int) -> Statement:
    """Judge whether the networks of a data set hold few neurons altogether."""
    together = {name: int(ds["n_together"]) for name, ds in found.items()}
    listed = "; ".join(
        f"{name} {n:,} ({share(n, n_neurons)}; each {_span(found[name]['size'])})"
        for name, n in together.items()
    )
    return Statement(
        f"The networks of a data set together hold under {SMALL:.0%} of the neurons.",
        f"Of {n_neurons:,}: {listed}.",
        all_or_none(np.array([n < SMALL * n_neurons for n in together.values()])),
        "Agree: so in every data set. Disagree: in none. The share grows with the number of networks; the "
        "study's figure is for ten.",
        "Under 2 %, ten networks; single ones 15 to 72 of 9,216 (AG News).",
    )


def across(counted: Sequence[xr.Dataset]) -> Statement:
    """Judge whether templates of one data set come back in samples of the others; none where there is one."""
    claim = f"{BEYOND}networks of one data set come back in samples of others."
    rule = (
        "Agree: of every data set at least half of the templates recur in some other data set, in more of "
        f"its samples than random ones, p at most {LEVEL} over their number and that of the other data sets. "
        "Disagree: none does."
    )
    if not counted:
        return Statement(claim, "There is one data set.", "not asked", rule)
    (ds,) = counted
    names = [str(n) for n in ds["data_set"].to_numpy()]
    p = ds["p_samples"].transpose("data_set", "data_set_other", "network").to_numpy()
    there = np.isfinite(p).any(axis=1).sum(axis=1)  # templates of each data set
    above = np.nan_to_num(p, nan=1.0) <= LEVEL / np.maximum(there * (len(names) - 1), 1)[:, None, None]
    above[np.arange(len(names)), np.arange(len(names))] = False
    some = above.any(axis=1).sum(axis=1)
    shares = some / np.maximum(there, 1)
    verdict: Verdict = "agree" if (shares >= 0.5).all() else "disagree" if not some.any() else "cannot say"
    listed = "; ".join(f"{n} {k} of {m}" for n, k, m in zip(names, some, there, strict=True))
    return Statement(claim, f"Templates that recur in another data set: {listed}.", verdict, rule)


def followed(labels: Found, kept: Mapping[str, xr.DataArray]) -> Statement:
    """Judge whether networks follow conditions.

    Parameters
    ----------
    labels
        Of every data set with conditions.
    kept
        Of every data set, which templates beat the null; all count where there was none.
    """
    claim = f"{BEYOND}networks follow the conditions of a data set."
    rule = (
        "Agree: in every data set with conditions at least half of the networks that beat their null follow "
        f"one of them, p at most {LEVEL}, corrected. Disagree: none does in any."
    )
    told, shares = [], []
    for name, ds in labels.items():
        own = ds["label"].to_numpy() != ""
        own = own[kept[name].to_numpy()] if name in kept else own
        if own.size:
            told.append(f"{name} {own.sum()} of {own.size}")
            shares.append(own.mean())
    if not told:
        why = "No data set has conditions with enough samples, and networks beside."
        return Statement(claim, why, "not asked", rule)
    low, high = min(shares), max(shares)
    verdict: Verdict = "agree" if low >= 0.5 else "disagree" if not high else "cannot say"
    which = "Networks that beat their null and" if kept else "Templates that"
    measured = f"{which} follow a condition, in samples that made none of them: {'; '.join(told)}."
    return Statement(claim, measured, verdict, rule)


def cochran(matched: npt.NDArray[np.bool_]) -> float:
    """P of Cochran's Q: whether the rows of (template, sample) have the same chance of a match.

    1 where no sample tells them apart.

    References
    ----------
    .. [1] Cochran (1950), Biometrika 37:256-266.
    """
    k = len(matched)
    of_template, of_sample = matched.sum(axis=1), matched.sum(axis=0)
    spread = int((of_sample * (k - of_sample)).sum())
    if not spread:
        return 1.0
    q = k * (k - 1) * np.square(of_template - of_template.mean()).sum() / spread
    return float(scipy.stats.chi2.sf(q, k - 1))


def _above_chance(ds: xr.Dataset) -> npt.NDArray[np.bool_]:
    p = ds["p_samples"].to_numpy()
    return np.asarray(np.nan_to_num(p, nan=1.0) <= LEVEL / len(p))


def _matched(ds: xr.Dataset) -> npt.NDArray[np.bool_]:
    return np.asarray(ds["best"].transpose("network", "subject").to_numpy() > ds.attrs["jaccard"])


def _compared(p: float) -> str:
    text = probability(p)
    return text if text.startswith("<") else f"= {text}"


def _span(values: xr.DataArray) -> str:
    low, high = int(values.min()), int(values.max())
    return f"{low}" if low == high else f"{low} to {high}"
