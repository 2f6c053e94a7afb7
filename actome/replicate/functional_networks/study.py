"""arXiv 2502.20408: functional networks by ICA, how often they come back, and what their lesions do.

The study's own way and what we would do are both gone, on the same recordings, and shown side by side.
Every step is a public function, its result kept beside the recording.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
import xarray as xr

from ...analyze.components.ica import group_ica
from ...analyze.components.networks import networks
from ...analyze.fingerprint.signature import with_characters
from ...analyze.report import report
from ...analyze.subjects import individual_components, recurrence
from ...store.archive import open as open_recording
from ...store.kept import Kept
from ...store.paradigm import Paradigm, as_paradigm
from ...store.provenance import digest_json
from ..outcome import Outcome, as_dataset, say
from .choices import choices
from .lesions import LesionSettings, check_lesions, lesion_results
from .published import published_recurrence
from .samples import Samples, draw
from .settings import JACCARD, NETWORK, Mode, Settings, Way, check, check_names
from .statements import recurring, several, small, uneven

if TYPE_CHECKING:
    from ...ingest.models import ModelLike

STUDY: Final = "arXiv 2502.20408"
DATA_SETS: Final = ("languages", "tasks", "localizer", "arithmetic")  # paradigms that ship

_DRAWS_PER_TEMPLATE = 100  # of the null of recurrence, so that its p can be small enough for all templates
_NOTE = (
    "The data sets are not the study's, and the model is not GPT-2: the published counts are there for their "
    "form and size. Agreement here says that the procedure finds the same kind of thing."
)


def run(
    *,
    model: "ModelLike",
    out: str | os.PathLike[str],
    part: str = "networks",
    mode: Mode = "practice",
    paradigm: Paradigm | str | os.PathLike[str] | Sequence[Paradigm | str | os.PathLike[str]] = DATA_SETS,
    site: str = "mlp_out",
    n_components: int = 10,
    n_samples: int = 100,
    n_runs: int = 10,
    n_controls: int = 4,
    n_scored: int = 30,
    kept_components: Sequence[int] = (32, 64, 128),
    seed: int = 0,
    device: str | None = None,
) -> Outcome:
    """Find the networks of data sets, look for them in single samples or remove them, and judge the study.

    Interrupted, it goes on where it stopped when it is called again.

    Parameters
    ----------
    model
        As `record` takes it.
    out
        Folder of the recordings, the results and the report; made if it is not there.
    part
        "networks": templates, individual components and recurrence; "lesions": what the model loses without
        the templates' networks, with them alone, and when they are amplified; "all": both.
    mode
        Which way comes first, in the report and in what is returned. "practice": spatial ICA of neurons of
        unit variance, with stability and a null. "paper": the study's choices to the letter.
    paradigm
        The data sets, one paradigm each; by default all that ship.
    site
        Where good practice looks; the study's own way takes "mlp_out".
    n_components
        Of each decomposition.
    n_samples
        Of each data set: so many make the templates, as many others are looked at one by one; half of
        what there is at most.
    n_runs
        Repeats of the group's decomposition, for its stability.
    n_controls
        Matched random controls of every lesion; the smallest p of one is 1 / (1 + n_controls).
    n_scored
        Samples of each data set that are scored under lesions, of those that made no template.
    kept_components
        Of the study's curve of preservation, beside `n_components`, rising.
    seed
        Draws the samples, the bootstraps, the starts and the controls.
    device
        Where the model runs.

    Returns
    -------
    The path of the HTML report, and the statements as judged by the first way; of lesions also those on
    networks of conditions.

    Raises
    ------
    InputError
        An option is not allowed, a paradigm does not fit, or `out` holds results of other settings.
    """
    settings = Settings(site, n_components, n_runs, seed)
    asked = LesionSettings(n_controls, n_scored, tuple(kept_components))
    check(settings, part, mode, n_samples)
    check_lesions(asked, settings)
    given = [paradigm] if isinstance(paradigm, (Paradigm, str, os.PathLike)) else list(paradigm)
    shown = [as_paradigm(p) for p in given]
    check_names(shown)
    samples = {p.name: draw(p, n_samples, seed) for p in shown}
    ways = settings.ways(mode)
    folder = Path(out)
    say(f"recording {len(samples)} data sets")
    for own in samples.values():
        _record(model, own, folder, list(dict.fromkeys(w.site for w in ways)), device)
    recordings = [open_recording(folder / f"{name}.zarr", site=ways[0].site) for name in samples]
    templates: dict[str, dict[str, xr.Dataset]] = {
        w.name: {n: _templates_of(own, w, settings, folder) for n, own in samples.items()} for w in ways
    }
    told: list[xr.Dataset] = []
    first: list[xr.Dataset] = []  # statements as judged by the first way
    results: list[xr.Dataset | xr.DataArray] = [*recordings]
    if part in ("networks", "all"):
        judged, found = _recurrences(samples, templates, ways, settings, folder, recordings)
        told += [judged[0], _without_choices_of(*judged)]
        first.append(judged[0])
        results += found
    if part in ("lesions", "all"):
        judged, effects = lesion_results(model, samples, templates, ways, settings, asked, folder, device)
        told += [judged[0], _without_choices_of(judged[0], judged[1]), *judged[2:]]
        first += [judged[0], *judged[2:]]
        results += effects
    return Outcome(report(*told, *results, out=folder / "report.html"), _statements(first))


def _record(
    model: "ModelLike", samples: Samples, folder: Path, sites: Sequence[str], device: str | None
) -> None:
    from ...ingest.record import record

    path = folder / f"{samples.name}.zarr"
    record(model, samples.paradigm, path, sites=tuple(sites), index=False, device=device)


def _templates_of(samples: Samples, way: Way, settings: Settings, folder: Path) -> xr.Dataset:
    """Return the templates of a data set, kept in the folder."""
    say(f"networks of {samples.name}, {way.title}")
    recording, shown = _opened(samples, way, folder)
    title = f"{samples.name}, {way.title}"
    kept = Kept(folder, recording.attrs["manifest_digest"], settings.kept())
    name = f"templates_{samples.name}_{way.name}"
    return kept(name, _templates, samples.group_of(shown), way, settings, title)


def _opened(samples: Samples, way: Way, folder: Path) -> tuple[xr.Dataset, xr.Dataset]:
    """Open a recording, and those of its tokens that take part."""
    recording = open_recording(folder / f"{samples.name}.zarr", site=way.site)
    return recording, recording if way.all_tokens else with_characters(recording)


def _recurrences(
    samples: Mapping[str, Samples],
    templates: Mapping[str, Mapping[str, xr.Dataset]],
    ways: Sequence[Way],
    settings: Settings,
    folder: Path,
    recordings: Sequence[xr.Dataset],
) -> tuple[list[xr.Dataset], list[xr.Dataset | xr.DataArray]]:
    """Look for the templates of all data sets in single samples: the statements, and what is shown."""
    kept_all = Kept(folder, digest_json([r.attrs["manifest_digest"] for r in recordings]), settings.kept())
    told: list[xr.Dataset] = []
    shown: list[xr.Dataset | xr.DataArray] = []
    for way in ways:
        found = {}
        for own in samples.values():
            say(f"recurrence in {own.name}, {way.title}")
            ds = templates[way.name][own.name]
            masks = networks(ds, NETWORK, keep_all=True)
            shown += [ds, masks.assign_attrs(title=ds.attrs["title"])]
            recording, tokens = _opened(own, way, folder)
            kept = Kept(folder, recording.attrs["manifest_digest"], settings.kept())
            name = f"recurrence_{own.name}_{way.name}"
            found[own.name] = kept(name, _recurrence, ds, own.single_of(tokens), way, settings)
        told.append(kept_all(f"statements_{way.name}", _judge, way, settings, samples, found))
        shown += found.values()
    return told, [*shown, *published_recurrence()]


def _templates(group: xr.Dataset, way: Way, settings: Settings, title: str) -> xr.Dataset:
    return group_ica(
        group,
        n_components=settings.n_components,
        mode=way.ica,
        standardize=way.standardize,
        n_runs=way.n_runs,
        solver=way.solver,
        null=way.null,
        seed=settings.seed,
    ).assign_attrs(title=title)


def _recurrence(templates: xr.Dataset, single: xr.Dataset, way: Way, settings: Settings) -> xr.Dataset:
    """Look for the templates in every sample alone; and what is known of each template beside it."""
    individuals = individual_components(
        single,
        n_components=settings.n_components,
        mode=way.ica,
        standardize=way.standardize,
        seed=settings.seed,
    ).compute()
    masks = networks(templates, NETWORK, keep_all=True)
    found = recurrence(
        masks,
        networks(individuals, NETWORK, keep_all=True),
        jaccard=JACCARD,
        n_draws=_DRAWS_PER_TEMPLATE * settings.n_components,
        seed=settings.seed,
    )
    known = {v: ("network", templates[v].to_numpy()) for v in ("stability", "is_network") if v in templates}
    return (
        found.assign(
            size=("network", masks.sum(("layer", "neuron")).to_numpy()),
            n_together=int(masks.any("network").sum()),
            n_found=("subject", individuals["n_found"].to_numpy()),
        )
        .assign(known)
        .assign_attrs(title=templates.attrs["title"], control=repr(NETWORK), n_neurons=int(masks[0].size))
    )


def _statements(told: Sequence[xr.Dataset]) -> xr.Dataset:
    """Return all statements as one result, with the choices if it is one already."""
    if len(told) == 1:
        return told[0]
    return xr.concat([ds.drop_dims("choice") for ds in told], "statement", combine_attrs="drop_conflicts")


def _without_choices_of(first: xr.Dataset, second: xr.Dataset) -> xr.Dataset:
    """Leave out of the second way's choices those that the first has made the same."""
    pairs = [
        list(zip(*(ds[v].to_numpy() for v in ("choice", "value")), strict=True)) for ds in (first, second)
    ]
    own = second.isel(choice=[i for i, pair in enumerate(pairs[1]) if pair not in pairs[0]])
    own.attrs.pop("note", None)
    return own


def _judge(
    way: Way, settings: Settings, samples: Mapping[str, Samples], found: Mapping[str, xr.Dataset]
) -> xr.Dataset:
    n_neurons = int(next(iter(found.values())).attrs["n_neurons"])
    judged = [recurring(found), uneven(found), several(found), small(found, n_neurons)]
    few = [int((ds["n_found"] < settings.n_components).sum()) for ds in found.values()]
    counts = xr.Dataset({"few": ("data_set", few)}, coords={"data_set": np.array(list(found), dtype=object)})
    made = choices(way, settings, samples, counts)
    return as_dataset(judged, made, study=f"{STUDY}, {way.title}", note=_NOTE)
