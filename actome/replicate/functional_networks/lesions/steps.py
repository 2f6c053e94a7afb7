"""The study's lesions, step by step: masks, scores under them, effects; every result kept in the folder."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import xarray as xr

from ....analyze.fingerprint.signature import with_characters
from ....analyze.perturbation.doses import amplification
from ....analyze.perturbation.effects import lesion_effects
from ....analyze.perturbation.measures import Metric
from ....analyze.perturbation.preservation import preservation
from ....store.archive import open as open_recording
from ....store.blocks import prompt_level
from ....store.kept import Kept
from ....store.moments import Measure
from ....store.provenance import digest_json
from ....store.selection import kept_selection
from ...outcome import as_dataset, say
from ..samples import Samples
from ..settings import Settings, Way
from .choices import glm_choices, ica_choices
from .masks import conditions_of, of_conditions, preserved, removed, scored
from .published import published_lesions
from .settings import GAINS, TOGETHER, LesionSettings
from .statements import (
    Found,
    amplified,
    better_kept,
    kept_suffices,
    more_than_matched,
    more_than_random,
    selective,
    single,
)

if TYPE_CHECKING:
    from ....ingest.models import LoadedModel, ModelLike

MEASURES: Final[tuple[Measure, ...]] = ("signed", "magnitude")
NOTE: Final = (
    "Lesions. The study asks questions of models that were trained to answer them. Where a data set asks "
    "none, accuracy is the share of its tokens that the model foretells as the likeliest."
)

_MATCHING: Final = ("role", "target", "mismatch", "shared")


@dataclass(frozen=True)
class _Setup:
    """What every step needs: the model, the folder, and what is asked for."""

    model: "LoadedModel"
    folder: Path
    settings: Settings
    asked: LesionSettings

    def kept(self, source: xr.Dataset) -> Kept:
        return Kept(self.folder, source.attrs["manifest_digest"], self.asked.kept(self.settings))

    def opened(self, samples: Samples, site: str) -> xr.Dataset:
        return open_recording(self.folder / f"{samples.name}.zarr", site=site)

    def score(
        self, samples: Samples, name: str, masks: xr.DataArray, site: str, **options: Any
    ) -> xr.Dataset:
        """Score the chosen texts of a data set, labelled with its name."""
        from ....ingest.score import score

        chosen = scored(samples, self.asked.n_scored)
        scores = score(
            self.model,
            samples.paradigm.select(prompt=chosen),
            self.folder / f"scores_{name}.zarr",
            masks,
            site=site,
            reference=prompt_level(self.opened(samples, site)),
            controls=self.asked.n_controls,
            hits=True,
            seed=self.settings.seed,
            **options,
        )
        return scores.assign_coords(data_set=("prompt", [samples.name] * scores.sizes["prompt"]))


def lesion_results(
    model: "ModelLike",
    samples: Mapping[str, Samples],
    templates: Mapping[str, Mapping[str, xr.Dataset]],
    ways: list[Way],
    settings: Settings,
    asked: LesionSettings,
    folder: Path,
    device: str | None,
) -> tuple[list[xr.Dataset], list[xr.Dataset]]:
    """Remove, keep and amplify the networks of every data set, and judge what the study states.

    Parameters
    ----------
    model, samples, ways, settings, asked, folder, device
        As of the study.
    templates
        Of every way and data set, by name.

    Returns
    -------
    The statements, those of the first way first and of the conditions' networks last; and what the report
    shows beside them.
    """
    from ....ingest.models import load_model

    setup = _Setup(load_model(model, device=device), folder, settings, asked)
    digests = [setup.opened(own, ways[0].site).attrs["manifest_digest"] for own in samples.values()]
    kept = Kept(folder, digest_json(digests), asked.kept(settings))
    told, first, then = [], [], []  # beside the published ones, of all data sets; in detail, of each
    for way in ways:
        found = {name: _of_way(setup, own, way, templates[way.name][name]) for name, own in samples.items()}
        tables = {m: _beside(found, f"single_{m}", way.title) for m in ("loss", "share")}
        judged = [
            single(tables["share"]),
            more_than_random(tables["share"]),
            more_than_matched(tables["loss"], {n: f["matching"] for n, f in found.items()}),
            kept_suffices({n: f["kept_share"] for n, f in found.items()}),
            better_kept(
                {n: f["kept_loss"] for n, f in found.items()},
                {n: f["kept_matching"] for n, f in found.items()},
            ),
            amplified({n: f["amplified"] for n, f in found.items()}),
        ]
        choices = ica_choices(way, asked, {n: f["matching"] for n, f in found.items()})
        study = f"lesions, {way.title}"
        told.append(
            kept(f"statements_lesions_{way.name}", as_dataset, judged, choices, study=study, note=NOTE)
        )
        first += [tables["share"], _kept_beside(found, way.title), _amplified_beside(found, way.title)]
        then += [f[v] for f in found.values() for v in ("by_condition", "kept_loss")]
    of_measure = {m: _crossings(setup, samples, m) for m in MEASURES}
    judged = [selective(*found, m) for m, found in of_measure.items()]
    crossed = {str(m): effects for m, (effects, _) in of_measure.items()}
    study = "lesions of the conditions' networks"
    choices = glm_choices(asked, crossed)
    glm = kept("statements_lesions_conditions", as_dataset, judged, choices, study=study)
    then += [ds for crossing in crossed.values() for ds in crossing.values()]
    return [*told, glm], [*first, *published_lesions(), *then]


def _of_way(setup: _Setup, samples: Samples, way: Way, templates: xr.Dataset) -> dict[str, xr.Dataset]:
    """Effects of removing, keeping and amplifying the networks of one data set."""
    say(f"lesions of {samples.name}, {way.title}")
    name, title = f"{samples.name}_{way.name}", f"{samples.name}, {way.title}"
    masks = removed(templates, setup.settings.seed)
    scores = setup.score(samples, name, masks, way.site)
    kept = setup.kept(scores)
    metric = _share_of(scores)
    out = {
        "by_condition": kept(f"effects_{name}", _effects, scores, "loss", "condition", title),
        "single_loss": kept(f"effects_all_{name}", _effects, scores, "loss", "data_set", title),
        "single_share": kept(f"effects_share_{name}", _effects, scores, metric, "data_set", title),
        "matching": scores[[*_MATCHING]],
    }
    recording = setup.opened(samples, way.site)
    shown = recording if way.all_tokens else with_characters(recording)
    series = setup.kept(recording)(f"series_{name}", _series, templates, samples.group_of(shown), way, setup)
    scores = setup.score(samples, f"kept_{name}", _masks(series), way.site, keep_only=True)
    kept = setup.kept(scores)
    out["kept_matching"] = scores[[*_MATCHING]]
    out["kept_loss"] = kept(f"preservation_{name}", _preservation, scores, "loss", title)
    out["kept_share"] = kept(f"preservation_share_{name}", _preservation, scores, _share_of(scores), title)
    unit = _magnitude(prompt_level(recording))
    gains = [gain * unit for gain in GAINS]
    scores = setup.score(
        samples, f"added_{name}", masks.sel(network=[TOGETHER]), way.site, kind="add", amount=gains
    )
    out["amplified"] = setup.kept(scores)(f"amplification_{name}", _amplification, scores, unit, title)
    return out


def _crossings(setup: _Setup, samples: Mapping[str, Samples], measure: Measure) -> tuple[Found, Found]:
    """Effects of removing what stands out in each condition, and how their controls match, by data set."""
    effects, matching = {}, {}
    for name, own in samples.items():
        if conditions := conditions_of(own):
            effects[name], matching[name] = _of_conditions(setup, own, conditions, measure)
    return effects, matching


def _of_conditions(
    setup: _Setup, samples: Samples, conditions: list[str], measure: Measure
) -> tuple[xr.Dataset, xr.Dataset]:
    say(f"lesions of the conditions of {samples.name}, {measure}")
    site, name = setup.settings.site, f"{samples.name}_{measure}"
    recording = setup.opened(samples, site)
    moments = samples.group_of(prompt_level(recording))
    found = setup.kept(recording)(f"networks_{name}", of_conditions, moments, conditions, measure)
    scores = setup.score(samples, name, _masks(found), site)
    title = f"{samples.name}, networks of conditions by {measure} activation"
    effects = setup.kept(scores)(f"effects_{name}", _effects, scores, "loss", "condition", title)
    return effects, scores[[*_MATCHING]]


def _effects(scores: xr.Dataset, metric: Metric, by: str, title: str) -> xr.Dataset:
    return lesion_effects(scores, metric=metric, by=by).assign_attrs(title=title)


def _preservation(scores: xr.Dataset, metric: Metric, title: str) -> xr.Dataset:
    by = "condition" if metric == "loss" else "data_set"
    return preservation(scores, metric=metric, by=by).assign_attrs(title=title)


def _amplification(scores: xr.Dataset, unit: float, title: str) -> xr.Dataset:
    """Effects by gain, in units of the mean magnitude, so that data sets compare."""
    in_units = scores.assign_coords(dose=(scores["dose"] / unit).round(6))
    found = amplification(in_units, by="data_set").assign_attrs(title=title)
    found["dose"].attrs["units"] = "times the mean |activation| of the site"
    return found


def _series(templates: xr.Dataset, group: xr.Dataset, way: Way, setup: _Setup) -> xr.Dataset:
    mask = preserved(templates, group, way, setup.settings, setup.asked.components)
    return mask.to_dataset(name="mask").assign_attrs(mask.attrs)


def _masks(ds: xr.Dataset) -> xr.DataArray:
    return ds["mask"].assign_attrs(kept_selection(ds.attrs), source=ds.attrs.get("source", ""))


def _share_of(scores: xr.Dataset) -> Metric:
    return "accuracy" if "correct" in scores else "hit"


def _magnitude(moments: xr.Dataset) -> float:
    """Mean |activation| over all tokens and neurons."""
    return float(moments["mean_abs"].weighted(moments["count"]).mean())


def _beside(found: Mapping[str, Mapping[str, xr.Dataset]], which: str, way: str) -> xr.Dataset:
    """Put the effects of all data sets side by side: (network, data_set)."""
    own = [f[which] for f in found.values()]
    tables = [
        ds[[v for v in ds if "data_set" in ds[v].dims]].assign(
            neurons=(("network", "data_set"), ds["size"].to_numpy()[:, None])
        )
        for ds in own
    ]
    networks = max((ds["network"].to_numpy() for ds in own), key=len)
    joined = xr.concat(tables, "data_set", join="outer", combine_attrs="drop_conflicts")
    title = f"All data sets, {way}: each column has networks of its own"
    return joined.reindex(network=networks).assign_attrs(own[0].attrs, title=title)


def _kept_beside(found: Mapping[str, Mapping[str, xr.Dataset]], way: str) -> xr.Dataset:
    """Put what is left of the accuracy of all data sets side by side: (point, data_set)."""
    own = [f["kept_share"] for f in found.values()]
    alike = [ds.sel(point=own[0]["point"]) for ds in own]  # more components need not hold more neurons
    joined = xr.concat(alike, "data_set", data_vars="all", join="exact", combine_attrs="drop_conflicts")
    return joined.assign_attrs(own[0].attrs, title=f"All data sets, {way}: accuracy")


def _amplified_beside(found: Mapping[str, Mapping[str, xr.Dataset]], way: str) -> xr.Dataset:
    """Put the networks of all data sets side by side, each with its effect on its own texts."""
    own = [
        f["amplified"].drop_vars("baseline").assign_coords(network=[name], data_set=["its own texts"])
        for name, f in found.items()
    ]
    joined = xr.concat(own, "network", join="exact", combine_attrs="drop_conflicts")
    return joined.assign_attrs(own[0].attrs, title=f"All data sets, {way}: all networks of each amplified")
