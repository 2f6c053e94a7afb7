"""What the study leaves open about its lesions, as it was done here."""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import xarray as xr

from ....analyze.report.wording import MISSING, percent, share, smallest_p
from ...outcome import Choice
from ..settings import Way
from .settings import AT_RANDOM, CONDITION_NETWORK, FEWEST, FRACTIONS, GAINS, RANDOM_SHARE, LesionSettings


def ica_choices(way: Way, asked: LesionSettings, matching: Mapping[str, xr.Dataset]) -> list[Choice]:
    """List the choices of lesions of the networks that one way finds.

    Parameters
    ----------
    way, asked
        How networks were found, and what was asked for.
    matching
        Of every data set's scores: ``role``, ``mismatch``, ``shared`` (lesion).
    """
    return [
        (
            "texts scored",
            f"{asked.n_scored} of each data set at most, as many of each condition as can be",
            "none of them took part in selecting a network, unlike in the study",
        ),
        ("lesion", "zero", "as in the study, at every token"),
        (
            "random 15 %",
            f"{percent(RANDOM_SHARE)} of the neurons, and as many redraws as controls",
            "as in the study, but more than once; the redraws keep the layers and magnitudes of the first",
        ),
        *_controls(asked, matching),
        (
            "joint p",
            "the sum of the p of several networks or data sets, against what it is by chance",
            "few controls cannot give a small p for one network; it takes networks as chosen independently",
        ),
        (
            "preservation",
            f"also the networks of {', '.join(map(str, asked.components))} components, decomposed anew"
            if way.name == "paper"
            else f"the neurons with the largest values in any template: {', '.join(map(percent, FRACTIONS))}",
            "as in the study, with fewer components: the model has fewer neurons"
            if way.name == "paper"
            else "the study joins more and more components; few texts do not have many",
        ),
        (
            "amplification",
            f"{', '.join(f'{g:g}' for g in GAINS)} times the site's mean |activation|, added to all networks",
            "the study's constants were not to be had",
        ),
    ]


def glm_choices(asked: LesionSettings, found: Mapping[str, Mapping[str, xr.Dataset]]) -> list[Choice]:
    """List the choices of lesions of the conditions' networks; `found` by measure and data set."""
    names = list(dict.fromkeys(name for of in found.values() for name in of))
    return [
        (
            "data sets with conditions",
            ", ".join(names) or "none",
            f"two conditions at least, each with {FEWEST} prompts in either half of the samples",
        ),
        (
            "network of a condition",
            f"the {percent(CONDITION_NETWORK.fraction)} of the neurons with the largest t against the mean "
            "of the others",
            "of one size, so that measures and conditions compare; the study has no networks of conditions",
        ),
        ("covariance", "clustered by prompt, bias-reduced", "there are few prompts of a condition"),
        ("controls", f"{asked.n_controls} a network, as above", smallest_p(asked.n_controls)),
    ]


def _controls(asked: LesionSettings, matching: Mapping[str, xr.Dataset]) -> list[Choice]:
    drawn = [ds.isel(lesion=np.flatnonzero(_of_networks(ds))) for ds in matching.values()]
    off, own = (np.concatenate([ds[v].to_numpy() for ds in drawn]) for v in ("mismatch", "shared"))
    return [
        (
            "controls",
            f"{asked.n_controls} a network: as many neurons of the same layers and of neighbouring magnitude",
            f"the study has none that match; {smallest_p(asked.n_controls)}",
        ),
        (
            "matching",
            "drawn within strata of some 16 neurons of neighbouring magnitude, the network's own among them: "
            f"{_mean(own)} of a control's neurons are the network's, and its mean magnitude is off by "
            f"{_mean(np.abs(off))}",
            "so a network that is a random choice of such neurons is exchangeable with its controls exactly; "
            "controls that avoid the network are not. Networks of the most active neurons have less active "
            "controls, for want of others",
        ),
    ]


def _of_networks(matching: xr.Dataset) -> npt.NDArray[np.bool_]:
    """Tell which lesions are controls of networks: (lesion)."""
    return ((matching["role"] == "control") & (matching["target"] != AT_RANDOM)).to_numpy()


def _mean(values: npt.NDArray[np.float64]) -> str:
    known = values[np.isfinite(values)]
    return share(float(known.mean()), 1) if known.size else MISSING
