"""Where the networks of data sets come back, and what they stand for, step by step.

Of every way: the networks of each data set's group, the components of its other samples one by one, how
often the ones match the others within a data set and across data sets, and which conditions they follow.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr
from dask.base import compute

from ...analyze.components.labelling import label_components
from ...analyze.components.networks import networks
from ...analyze.contrasts import compute_contrast
from ...analyze.glm import fit_glm
from ...analyze.overlap import overlap
from ...analyze.subjects import dual_regression, individual_components, recurrence
from ...analyze.threshold import threshold
from ...store.archive import open as open_recording
from ...store.blocks import prompt_level
from ...store.kept import Kept
from ...store.provenance import digest_json
from ..outcome import as_dataset, say
from .choices import choices
from .lesions.masks import conditions_of
from .published import published_recurrence
from .samples import Samples
from .settings import GLM_NETWORK, JACCARD, NETWORK, STUDY, Settings, Way
from .statements import across, followed, recurring, several, small, uneven

Shown = list[xr.Dataset | xr.DataArray]

_DRAWS_PER_TEMPLATE = 100  # of the null of recurrence, so that its p can be small enough for all templates
_NOTE = (
    "The data sets are not the study's, and the model is not GPT-2: the published counts are there for their "
    "form and size. Agreement here says that the procedure finds the same kind of thing."
)


def recurrence_results(
    samples: Mapping[str, Samples],
    templates: Mapping[str, Mapping[str, xr.Dataset]],
    ways: Sequence[Way],
    settings: Settings,
    folder: Path,
) -> tuple[list[xr.Dataset], Shown]:
    """Look for the networks of all data sets in single samples, and judge what the study states.

    Parameters
    ----------
    samples, ways, settings, folder
        As of the study.
    templates
        Of every way and data set, by name.

    Returns
    -------
    The statements, those of the first way first; and what the report shows beside them.
    """
    told: list[xr.Dataset] = []
    shown: Shown = []
    for way in ways:
        judged, results = _of_way(samples, templates[way.name], way, settings, folder)
        told.append(judged)
        shown += results
    return told, [*shown, *published_recurrence()]


def _of_way(
    samples: Mapping[str, Samples],
    templates: Mapping[str, xr.Dataset],
    way: Way,
    settings: Settings,
    folder: Path,
) -> tuple[xr.Dataset, Shown]:
    masks = {name: _masks(ds) for name, ds in templates.items()}
    found, alone, labels, alike, digests = {}, {}, {}, {}, []
    for name, own in samples.items():
        say(f"recurrence in {name}, {way.title}")
        recording = open_recording(folder / f"{name}.zarr", site=way.site)
        digests.append(recording.attrs["manifest_digest"])
        kept, single = Kept(folder, digests[-1], settings.kept()), own.single_of(way.tokens_of(recording))
        at = f"{name}_{way.name}"
        alone[name] = kept(f"individual_{at}", _individual, single, way, settings)
        found[name] = kept(f"recurrence_{at}", _recurrence, templates[name], alone[name], settings)
        if conditions := conditions_of(own):
            shown = _of_conditions(single, conditions)
            contrasts = kept(f"contrasts_{at}", _contrasts, shown, conditions)
            labels[name] = kept(f"labels_{at}", _labels, templates[name], shown, contrasts, settings)
            alike[name] = _shared(masks[name], contrasts)
    kept = Kept(folder, digest_json(digests), settings.kept())
    say(f"recurrence across data sets, {way.title}")
    beyond = [kept(f"across_{way.name}", _across, masks, alone, settings, way)] if len(samples) > 1 else []
    judged = kept(f"statements_{way.name}", _judge, way, settings, samples, found, labels, beyond)
    parts = (templates, masks, labels, alike, found)
    return judged, [*(ds for part in parts for ds in part.values()), *beyond]


def _masks(templates: xr.Dataset) -> xr.DataArray:
    """All networks, also those that do not beat the null: the study counts them."""
    return networks(templates, NETWORK, keep_all=True).assign_attrs(title=templates.attrs["title"])


def _individual(single: xr.Dataset, way: Way, settings: Settings) -> xr.Dataset:
    """Networks of every sample alone: ``mask`` (subject, network, layer, neuron), ``n_found`` (subject)."""
    components = individual_components(
        single,
        n_components=settings.n_components,
        mode=way.ica,
        solver=way.solver,
        standardize=way.standardize,
        seed=settings.seed,
    )
    masks = networks(components, NETWORK, keep_all=True)  # lazy: the maps are never held together
    mask, n_found = compute(masks, components["n_found"])  # type: ignore[no-untyped-call]
    ds: xr.Dataset = mask.to_dataset(name="mask").assign(n_found=n_found)
    return ds.assign_attrs(mask.attrs, kind="individual_networks", method=components.attrs["method"])


def _recurrence(templates: xr.Dataset, alone: xr.Dataset, settings: Settings) -> xr.Dataset:
    """Look for the templates in every sample alone; and what is known of each template beside it."""
    masks = _masks(templates)
    known = {v: ("network", templates[v].to_numpy()) for v in ("stability", "is_network") if v in templates}
    return (
        _counted(masks, alone, settings)
        .assign(
            size=("network", masks.sum(("layer", "neuron")).to_numpy()),
            n_together=int(masks.any("network").sum()),
            n_found=("subject", alone["n_found"].to_numpy()),
        )
        .assign(known)
        .assign_attrs(title=templates.attrs["title"], control=repr(NETWORK), n_neurons=int(masks[0].size))
    )


def _counted(masks: xr.DataArray, alone: xr.Dataset, settings: Settings) -> xr.Dataset:
    n_draws = _DRAWS_PER_TEMPLATE * settings.n_components
    individuals = alone["mask"].assign_attrs(alone.attrs)
    return recurrence(masks, individuals, jaccard=JACCARD, n_draws=n_draws, seed=settings.seed)


def _across(
    masks: Mapping[str, xr.DataArray], alone: Mapping[str, xr.Dataset], settings: Settings, way: Way
) -> xr.Dataset:
    """Count the templates of every data set in the samples of every other, and of its own."""
    names = pd.Index(list(masks), dtype=object)
    variables = [f"{k}{v}" for k in ("", "expected_", "p_") for v in ("components", "samples")]
    rows = []
    for own in masks.values():
        counted = [_counted(own, other, settings) for other in alone.values()]
        rows.append(xr.concat([c[variables] for c in counted], names.rename("data_set_other")))
    return (
        xr.concat(rows, names.rename("data_set"), join="outer", combine_attrs="drop_conflicts")
        .assign(n_samples=("data_set_other", [ds.sizes["subject"] for ds in alone.values()]))
        .assign_attrs(kind="recurrence_across", title=way.title)
    )


def _of_conditions(single: xr.Dataset, conditions: list[str]) -> xr.Dataset:
    return single.isel(prompt=np.flatnonzero(single["condition"].isin(conditions).to_numpy()))


def _contrasts(shown: xr.Dataset, conditions: list[str]) -> xr.Dataset:
    """Each condition against the mean of the others, with the neurons of either sign that stand out."""
    fit = fit_glm(prompt_level(shown), measure="signed", noise="cr2")
    other = -1.0 / (len(conditions) - 1)
    named = conditions if len(conditions) > 2 else conditions[:1]  # two conditions make one contrast
    maps = [compute_contrast(fit, {c: 1.0 if c == own else other for c in conditions}) for own in named]
    names = named if len(conditions) > 2 else [" - ".join(conditions)]
    index = pd.Index(names, dtype=object, name="network")
    stacked = xr.concat(maps, index, combine_attrs="drop_conflicts").compute()
    mask = threshold(stacked, control=GLM_NETWORK, two_sided=True)
    return stacked.assign(mask=mask).assign_attrs({k: v for k, v in mask.attrs.items() if k != "kind"})


def _shared(masks: xr.DataArray, contrasts: xr.Dataset) -> xr.Dataset:
    """Neurons that templates have in common with what stands out in the conditions, beside chance."""
    others = contrasts["mask"].assign_attrs({k: v for k, v in contrasts.attrs.items() if k != "kind"})
    return overlap(masks, others, null="layers").assign_attrs(title=masks.attrs["title"])


def _labels(
    templates: xr.Dataset, shown: xr.Dataset, contrasts: xr.Dataset, settings: Settings
) -> xr.Dataset:
    """Label the templates by what they do in samples that made none of them."""
    maps = {str(n): contrasts.isel(network=i) for i, n in enumerate(contrasts["network"].to_numpy())}
    courses = dual_regression(shown, templates)
    return label_components(templates, courses, maps, seed=settings.seed).assign_attrs(
        title=templates.attrs["title"]
    )


def _judge(
    way: Way,
    settings: Settings,
    samples: Mapping[str, Samples],
    found: Mapping[str, xr.Dataset],
    labels: Mapping[str, xr.Dataset],
    beyond: Sequence[xr.Dataset],
) -> xr.Dataset:
    n_neurons = int(next(iter(found.values())).attrs["n_neurons"])
    judged = [
        recurring(found),
        uneven(found),
        several(found),
        small(found, n_neurons),
        across(beyond),
        followed(labels, {name: ds["is_network"] for name, ds in found.items() if "is_network" in ds}),
    ]
    few = [int((ds["n_found"] < settings.n_components).sum()) for ds in found.values()]
    counts = xr.Dataset({"few": ("data_set", few)}, coords={"data_set": np.array(list(found), dtype=object)})
    made = choices(way, settings, samples, counts)
    return as_dataset(judged, made, study=f"{STUDY}, {way.title}", note=_NOTE)
