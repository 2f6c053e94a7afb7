"""arXiv 2502.20408: functional networks by ICA, and how often they come back in single samples.

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
    seed: int = 0,
    device: str | None = None,
) -> Outcome:
    """Find the networks of data sets, look for them in single samples, and judge what the study states.

    Interrupted, it goes on where it stopped when it is called again.

    Parameters
    ----------
    model
        As `record` takes it.
    out
        Folder of the recordings, the results and the report; made if it is not there.
    part
        "networks": templates, individual components and recurrence; the study's lesions are not part of it.
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
    seed
        Draws the samples, the bootstraps and the starts.
    device
        Where the model runs.

    Returns
    -------
    The path of the HTML report, and the statements as judged by the first way.

    Raises
    ------
    InputError
        An option is not allowed, a paradigm does not fit, or `out` holds results of other settings.
    """
    settings = Settings(site, n_components, n_runs, seed)
    check(settings, part, mode, n_samples)
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
    sources = digest_json([r.attrs["manifest_digest"] for r in recordings])
    kept = Kept(folder, sources, settings.kept())
    results: list[object] = []
    told = []
    for way in ways:
        found = {}
        for own in samples.values():
            say(f"networks of {own.name}, {way.title}")
            templates, found[own.name] = _networks(own, way, settings, folder)
            masks = networks(templates, NETWORK, keep_all=True)
            results += [templates, masks.assign_attrs(title=templates.attrs["title"])]
        told.append(kept(f"statements_{way.name}", _judge, way, settings, samples, found))
        results += found.values()
    results = [told[0], _without_choices_of(told[0], told[1]), *recordings, *results, *published_recurrence()]
    return Outcome(report(*results, out=folder / "report.html"), told[0])


def _record(
    model: "ModelLike", samples: Samples, folder: Path, sites: Sequence[str], device: str | None
) -> None:
    from ...ingest.record import record

    path = folder / f"{samples.name}.zarr"
    record(model, samples.paradigm, path, sites=tuple(sites), index=False, device=device)


def _networks(samples: Samples, way: Way, settings: Settings, folder: Path) -> tuple[xr.Dataset, xr.Dataset]:
    """Return the templates of a data set and their recurrence, both kept in the folder."""
    recording = open_recording(folder / f"{samples.name}.zarr", site=way.site)
    kept = Kept(folder, recording.attrs["manifest_digest"], settings.kept())
    title = f"{samples.name}, {way.title}"
    name = f"{samples.name}_{way.name}"
    shown = recording if way.all_tokens else with_characters(recording)
    templates = kept(f"templates_{name}", _templates, samples.group_of(shown), way, settings, title)
    found = kept(f"recurrence_{name}", _recurrence, templates, samples.single_of(shown), way, settings)
    return templates, found


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
