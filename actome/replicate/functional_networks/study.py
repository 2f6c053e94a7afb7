"""arXiv 2502.20408: functional networks by ICA, how often they come back, and what their lesions do.

The study's own way and what we would do are both gone, on the same recordings, and shown side by side.
Every step is a public function, its result kept beside the recording.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import xarray as xr

from ...analyze.components.ica import group_ica
from ...analyze.overlap import match_networks
from ...analyze.report import report
from ...analyze.report.wording import plural
from ...store.archive import open as open_recording
from ...store.kept import Kept
from ...store.paradigm import Paradigm, as_paradigm
from ..outcome import Outcome, say
from .lesions import LesionSettings, check_lesions, components_kept, lesion_results
from .recurrences import recurrence_results
from .samples import Samples, draw
from .settings import Mode, Settings, Way, check, check_names

if TYPE_CHECKING:
    from ...ingest.models import ModelLike

DATA_SETS: Final = ("languages", "tasks", "localizer", "arithmetic")  # paradigms that ship


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
    kept_components: Sequence[int] | None = None,
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
        Of the study's curve of preservation, beside `n_components`, rising; by default those of 32, 64 and
        128 that are more.
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
    asked = LesionSettings(n_controls, n_scored, components_kept(kept_components, n_components))
    check(settings, part, mode, n_samples)
    check_lesions(asked, settings)
    given = [paradigm] if isinstance(paradigm, (Paradigm, str, os.PathLike)) else list(paradigm)
    shown = [as_paradigm(p) for p in given]
    check_names(shown)
    samples = {p.name: draw(p, n_samples, seed) for p in shown}
    ways = settings.ways(mode)
    folder = Path(out)
    say(f"recording {plural(len(samples), 'data set')}")
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
        judged, found = recurrence_results(samples, templates, ways, settings, folder)
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
    recording = open_recording(folder / f"{samples.name}.zarr", site=way.site)
    title = f"{samples.name}, {way.title}"
    kept = Kept(folder, recording.attrs["manifest_digest"], settings.kept())
    name = f"templates_{samples.name}_{way.name}"
    return kept(name, _templates, samples.group_of(way.tokens_of(recording)), way, settings, title)


def _templates(group: xr.Dataset, way: Way, settings: Settings, title: str) -> xr.Dataset:
    options: dict[str, Any] = {
        "n_components": settings.n_components,
        "mode": way.ica,
        "solver": way.solver,
        "standardize": way.standardize,
        "seed": settings.seed,
    }
    found = group_ica(group, n_runs=way.n_runs, null=way.null, **options)
    if way.n_runs == 1:  # stability is told beside it, of repeats that change nothing of what was found
        found = _with_stability(found, group_ica(group, n_runs=settings.n_runs, null=0, **options))
    return found.assign_attrs(title=title)


def _with_stability(found: xr.Dataset, repeats: xr.Dataset) -> xr.Dataset:
    """Give the components of a single run the stability of those that repeats find in their place."""
    paired = match_networks(found["component_map"], repeats["component_map"])
    partner = paired["partner"].to_numpy().tolist()
    stability = [float(repeats["stability"].sel(component=int(c))) if c else float("nan") for c in partner]
    alike = paired["partner_similarity"].to_numpy()
    return found.assign(stability=("component", stability), found_again=("component", alike)).assign_attrs(
        repeats=repeats.attrs["method"]
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
