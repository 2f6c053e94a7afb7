"""Which neurons are removed, kept or amplified: of the templates, of conditions, and at random."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import xarray as xr

from ....analyze.components.ica import group_ica
from ....analyze.components.networks import networks
from ....analyze.contrasts import compute_contrast
from ....analyze.glm import fit_glm
from ....analyze.perturbation.series import top_fractions
from ....analyze.threshold import threshold
from ....store.moments import Measure
from ..samples import Samples
from ..settings import NETWORK, Settings, Way
from .settings import (
    AT_RANDOM,
    CONDITION_NETWORK,
    FEWEST,
    FRACTIONS,
    RANDOM_SHARE,
    TOGETHER,
)


def removed(templates: xr.Dataset, seed: int) -> xr.DataArray:
    """Each template's network, all of them together, and neurons at random: (network, layer, neuron)."""
    each = networks(templates, NETWORK, keep_all=True)
    each = each.isel(network=np.flatnonzero(each.any(("layer", "neuron")).to_numpy()))
    together = each.any("network")
    n = together.size
    drawn = np.random.default_rng(seed).permutation(n) < round(RANDOM_SHARE * n)
    at_random = together.copy(data=drawn.reshape(together.shape))
    return _joined([*each, together, at_random], [*each["network"].to_numpy(), TOGETHER, AT_RANDOM], each)


def preserved(
    templates: xr.Dataset, group: xr.Dataset, way: Way, settings: Settings, components: Sequence[int]
) -> xr.DataArray:
    """More and more neurons to keep: (network, layer, neuron).

    To the letter the networks of more and more components, decomposed anew; as good practice the neurons
    with the largest values in any of the templates.
    """
    if way.name == "practice":
        largest = templates["component_map"].max("component").assign_attrs(templates.attrs)
        return top_fractions(largest, FRACTIONS)
    decomposed = [templates, *(_components(group, way, k, settings) for k in components)]
    found = [networks(ds, NETWORK) for ds in decomposed]
    names = [f"{k} components" for k in (settings.n_components, *components)]
    return _joined([f.any("network") for f in found], names, found[0])


def _components(group: xr.Dataset, way: Way, n_components: int, settings: Settings) -> xr.Dataset:
    return group_ica(
        group,
        n_components=n_components,
        mode=way.ica,
        standardize=way.standardize,
        n_runs=1,
        solver=way.solver,
        null=0,
        seed=settings.seed,
    )


def conditions_of(samples: Samples) -> list[str]:
    """Conditions with enough prompts among the samples of either half; none if that leaves one alone."""
    table = samples.paradigm.table
    halves = (samples.group, samples.single)
    counts = [table[table["prompt"].isin(half)]["condition"].value_counts() for half in halves]
    names = sorted(str(c) for c in counts[0].index if all(n.get(c, 0) >= FEWEST for n in counts))
    return names if len(names) > 1 else []


def of_conditions(moments: xr.Dataset, conditions: Sequence[str], measure: Measure) -> xr.Dataset:
    """Find what stands out in each condition against the others: ``mask`` (network, layer, neuron)."""
    among = moments.isel(prompt=np.flatnonzero(moments["condition"].isin(list(conditions)).to_numpy()))
    fit = fit_glm(among, measure=measure, noise="cr2")
    other = -1.0 / (len(conditions) - 1)
    maps = [compute_contrast(fit, {c: 1.0 if c == own else other for c in conditions}) for own in conditions]
    names = pd.Index(list(conditions), dtype=object, name="network")
    stat = xr.concat(maps, names, combine_attrs="drop_conflicts").compute()
    mask = threshold(stat, control=CONDITION_NETWORK)
    return mask.to_dataset(name="mask").assign_attrs(mask.attrs)


def scored(samples: Samples, n: int) -> list[str]:
    """Take `n` samples that made no template, as many of each condition as can be."""
    table = samples.paradigm.table
    table = table[table["prompt"].isin(samples.single)]
    place = table.groupby("condition").cumcount().to_numpy()
    return [str(p) for p in table["prompt"].to_numpy()[np.argsort(place, kind="stable")[:n]]]


def _joined(masks: Sequence[xr.DataArray], names: Sequence[str], source: xr.DataArray) -> xr.DataArray:
    alone = [m.drop_vars("network", errors="ignore") for m in masks]
    named = xr.Variable("network", np.array(list(names), dtype=object))
    joined: xr.DataArray = xr.concat(alone, named).transpose("network", "layer", "neuron").rename("mask")
    return joined.assign_attrs(source.attrs).compute()
