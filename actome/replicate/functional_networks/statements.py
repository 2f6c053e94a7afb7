"""What the study of functional networks states, judged by rules that look at the recurrences alone."""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import scipy.stats
import xarray as xr

from ...analyze.report.wording import probability, share
from ..outcome import LEVEL, Statement, all_or_none

Found = Mapping[str, xr.Dataset]  # recurrence of every data set, with `size` and `n_together`
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
    verdict = "agree" if (shares >= 0.5).all() else "disagree" if not shares.any() else "cannot say"
    return Statement(
        "Networks of a group of samples come back in other, single samples.",
        f"Templates that recur in more samples than chance gives: {listed}.",
        verdict,  # type: ignore[arg-type]
        "Agree: in every data set at least half of the templates recur in more samples than random ones with "
        f"as many neurons in each layer, p at most {LEVEL} over their number. Disagree: none does in any.",
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
    )


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
