"""arXiv 2311.10898: a block design of tasks, a linear model of every output value, and the tasks' networks.

What the study states is judged in `statements`; what it leaves open is an option here, and told in the
report. Every step is a public function, its result kept beside the recording.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd
import xarray as xr

from ...analyze.contrasts import compute_contrast
from ...analyze.glm import fit_glm
from ...analyze.overlap import overlap
from ...analyze.reliability.identification import identify
from ...analyze.reliability.repeatability import repeatability
from ...analyze.report import report
from ...analyze.threshold import Top, threshold
from ...analyze.time_course import time_course
from ...store.archive import open as open_recording
from ...store.kept import Kept
from ...store.moments import Measure
from ...store.paradigm import Paradigm, as_paradigm
from ...store.schema import SITES
from ..outcome import Outcome, Statement, as_dataset, say
from .choices import choices
from .settings import Control, Settings, check, rest_of, tasks_of
from .statements import (
    active,
    distinct,
    identified,
    largest_overlap,
    overlapping,
    repeating,
)

if TYPE_CHECKING:
    from ...ingest.models import ModelLike

STUDY: Final = "arXiv 2311.10898"
LARGEST_PAIR: Final = ("medical_imaging", "pathology")  # of all overlaps, as the study states
IDENTIFYING: Final = Top(0.01)  # share of the values in a network that identifies

_NOTE = (
    "The demo model does not know the study's tasks: it was shown languages instead. This report shows the "
    "study's procedure at work; agreement here is no evidence for or against the study."
)


def run(
    *,
    model: "ModelLike",
    out: str | os.PathLike[str],
    paradigm: Paradigm | str | os.PathLike[str] | None = None,
    rest: str | None = None,
    site: str = "residual",
    sites: Sequence[str] = tuple(SITES),
    max_new_tokens: int = 20,
    measure: Measure = "magnitude",
    control: Control = "bonferroni",
    alpha: float = 0.05,
    n_permutations: int = 200,
    seed: int = 0,
    device: str | None = None,
) -> Outcome:
    """Record generated tokens under a block design, map the tasks, and judge what the study states.

    Interrupted, it goes on where it stopped when it is called again.

    Parameters
    ----------
    model
        As `record` takes it. ``"demo"`` is shown its own languages in place of the study's tasks.
    out
        Folder of the recording, the results and the report; made if it is not there.
    paradigm
        What is shown: conditions in blocks, at least two runs, no prompt in two of them. By default the
        six tasks that ship as "tasks", and for the demo model "languages".
    rest
        The condition between the tasks; by default the one that the paradigm's design rests in.
    site
        Where the values are. The study saves "all layer output values", literally the block's output.
    sites
        All that are recorded; active values are counted in each.
    max_new_tokens
        Generated after each prompt, the likeliest each time; the model reads each of them again, and that
        is what is recorded.
    measure
        "magnitude" or "signed", as for `fit_glm`.
    control, alpha
        Threshold of the networks: "bonferroni", "fdr", "by", or ``P(...)``, ``Z(...)``, ``Top(...)``.
    n_permutations, seed
        Of the tests of repeatability and identification.
    device
        Where the model runs.

    Returns
    -------
    The path of the HTML report, and the statements in it.

    Raises
    ------
    InputError
        An option is not allowed, the paradigm does not fit, or `out` holds results of other settings.
    """
    stands_in = paradigm is None and isinstance(model, str) and model == "demo"
    default = "languages" if stands_in else "tasks"
    shown = as_paradigm(default if paradigm is None else paradigm)
    settings = Settings(rest_of(shown, rest), site, measure, control, alpha, n_permutations, seed)
    check(shown, settings, sites)
    folder = Path(out)
    path = folder / f"{shown.name}.zarr"
    say("recording what the model generates")
    _record(model, shown, path, sites, max_new_tokens, device)
    recording = open_recording(path, site=site)
    kept = Kept(folder, recording.attrs["manifest_digest"], settings.kept())

    say("contrasting every task with rest, in every site")
    ordered = [site, *(s for s in sites if s != site)]
    moments = {s: open_recording(path, site=s, level="prompt") for s in ordered}
    tasks = tasks_of(shown, settings.rest)
    contrasts = {s: kept(f"contrasts_{s}", _contrasts, moments[s], tasks, settings) for s in ordered}
    masks = {s: c["mask"] for s, c in contrasts.items()}
    course = kept("time_course", _time_course, recording, moments[site], tasks[0], settings)

    say("comparing the networks, between tasks and between runs")
    tested = contrasts[site]["stat"].notnull().all("network")
    overlapped = kept("overlap", overlap, masks[site], null="layers", among=tested)
    repeated = kept("repeatability", _repeatability, moments[site], tasks, settings)

    say("naming the tasks of held-out runs")
    named = kept("identification", _identify, moments[site], settings)
    judged = _judge(masks[site], int(tested.sum()), overlapped, repeated, named)
    made = choices(recording, shown.design, settings, IDENTIFYING)
    told = kept("statements", as_dataset, judged, made, study=STUDY, **({"note": _NOTE} if stands_in else {}))
    fit = fit_glm(moments[site], measure=measure)
    results = (told, recording, fit, course, contrasts[site], *masks.values(), overlapped, repeated, named)
    return Outcome(report(*results, out=folder / "report.html"), told)


def _record(
    model: "ModelLike",
    paradigm: Paradigm,
    path: Path,
    sites: Sequence[str],
    max_new_tokens: int,
    device: str | None,
) -> None:
    from ...ingest.record import record

    options: dict[str, Any] = {"tokens": "generated", "max_new_tokens": max_new_tokens, "device": device}
    record(model, paradigm, path, sites=tuple(sites), index=False, **options)


def _contrasts(moments: xr.Dataset, tasks: Sequence[str], settings: Settings) -> xr.Dataset:
    """Contrast each task with rest, and keep what stands out: (network, layer, neuron)."""
    fit = fit_glm(moments, measure=settings.measure)
    maps = [compute_contrast(fit, {task: 1.0, settings.rest: -1.0}) for task in tasks]
    names = pd.Index(list(tasks), dtype=object, name="network")
    ds = xr.concat(maps, names, combine_attrs="drop_conflicts").compute()
    ds["mask"] = threshold(ds, control=settings.control, alpha=settings.alpha)
    return ds


def _time_course(recording: xr.Dataset, moments: xr.Dataset, task: str, settings: Settings) -> xr.Dataset:
    """Show the last run of the value with the largest t of a task, chosen and fitted on the other runs."""
    last = np.unique(moments["run"])[-1]
    others, displayed = (np.flatnonzero(m) for m in (moments["run"] != last, moments["run"] == last))
    fit = fit_glm(moments.isel(prompt=others), measure=settings.measure)
    stat = compute_contrast(fit, {task: 1.0, settings.rest: -1.0})["stat"].compute()
    at = stat.fillna(-np.inf).argmax(("layer", "neuron"))
    layer, neuron = (int(stat[d][at[d]]) for d in ("layer", "neuron"))
    chosen = (
        f"Of all, it has the largest t of “{task}” against “{settings.rest}” in the other runs; the "
        "prediction comes from these, too."
    )
    course = time_course(recording.isel(prompt=displayed), fit, layer=layer, neuron=neuron)
    return course.assign_attrs(rest=settings.rest, chosen=chosen)


def _repeatability(moments: xr.Dataset, tasks: Sequence[str], settings: Settings) -> xr.Dataset:
    return repeatability(
        moments,
        contrasts={task: f"`{task}` - `{settings.rest}`" for task in tasks},
        measure=settings.measure,
        network=settings.control,
        alpha=settings.alpha,
        n_permutations=settings.n_permutations,
        seed=settings.seed,
    )


def _identify(moments: xr.Dataset, settings: Settings) -> xr.Dataset:
    """Name the task of every map of a held-out run; rest is no task, so its prompts are left out."""
    return identify(
        moments.isel(prompt=np.flatnonzero(moments["condition"] != settings.rest)),
        measure=settings.measure,
        network=IDENTIFYING,
        level="run",
        n_permutations=settings.n_permutations,
        seed=settings.seed,
    )


def _judge(
    mask: xr.DataArray, n_values: int, overlapped: xr.Dataset, repeated: xr.Dataset, named: xr.Dataset
) -> list[Statement]:
    """Judge the study's statements, in the order in which it makes them; `n_values` were tested."""
    return [
        active(mask),
        distinct(repeated),
        overlapping(repeated, n_values),
        largest_overlap(overlapped, repeated, LARGEST_PAIR),
        repeating(repeated, n_values),
        identified(named),
    ]
