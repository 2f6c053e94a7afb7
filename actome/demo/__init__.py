"""The main job on what ships: the demo model is shown the demo paradigm; the data become a report.

Nothing here is more than the public functions in the order in which a user would call them for a
model of their own. Every step leaves its result in the archive, and a second run opens it.
"""

import os
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr

import actome

from ..store.kept import Kept
from ..store.paradigm import SHIPPED

PARADIGM = SHIPPED / "languages.yaml"
HELD_OUT_RUN = 2
BASELINE = "random"
N_COMPONENTS = 12


def run_demo(out: str | os.PathLike[str] = "data/demo", *, controls: int = 9) -> str:
    """Record, contrast, decompose, compare, lesion, report.

    Networks are selected on the first runs; the last run's prompts, which took no part in selecting
    them, show what their lesions do.

    Parameters
    ----------
    out
        Folder of the archive; made if it is not there.
    controls
        Matched random controls per lesion.

    Returns
    -------
    Path of the HTML report.
    """
    archive = Path(out)
    paradigm = actome.Paradigm.read(PARADIGM)
    _say("recording the demo model's activations")
    recording = actome.record("demo", paradigm, archive / "languages.zarr")
    summary = actome.open(archive / "languages.zarr", level="prompt")
    keep = Kept(archive, recording.attrs["manifest_digest"])
    first_runs = recording["run"] != HELD_OUT_RUN
    selecting = {"prompt": np.flatnonzero(first_runs)}
    passages = {"prompt": np.flatnonzero(first_runs & (recording["condition"] != BASELINE))}
    conditions = [c for c in dict.fromkeys(recording["condition"].to_numpy().tolist()) if c != BASELINE]

    _say("contrasting the conditions")
    fit = actome.fit_glm(summary.isel(selecting))
    contrasts = keep("contrasts", _contrasts, fit, sorted(conditions))
    glm_networks = actome.threshold(contrasts, control="bonferroni", alpha=0.05)

    _say("decomposing into components")
    components = keep("components", actome.group_ica, recording.isel(passages), n_components=N_COMPONENTS)
    ica_networks = actome.networks(components)
    unseen = {"prompt": np.flatnonzero(~first_runs & (recording["condition"] != BASELINE))}
    labels = keep("labels", _labels, recording.isel(unseen), components, summary.isel(selecting))

    _say("naming the conditions of held-out prompts")
    identification = keep("identification", actome.identify, summary)

    n_networks = glm_networks.sizes["network"] + ica_networks.sizes["network"]
    _say(f"lesioning {n_networks} networks, each with {controls} matched controls")
    held_out = paradigm.select(run=HELD_OUT_RUN, condition=conditions)
    lesions: list[xr.Dataset] = []
    for name, masks in (("glm", glm_networks), ("ica", ica_networks)):
        scores = actome.score(
            "demo",
            held_out,
            archive / f"lesions_{name}.zarr",
            masks,
            reference=summary.isel(selecting),
            controls=controls,
        )
        lesions += [scores, actome.lesion_effects(scores)]

    _say("writing the report")
    return actome.report(
        recording,
        fit,
        contrasts,
        glm_networks,
        components,
        ica_networks,
        actome.overlap(glm_networks),
        actome.overlap(ica_networks),
        actome.overlap(ica_networks, glm_networks, null="layers"),
        labels,
        identification,
        *lesions,
        out=archive / "report.html",
    )


def _contrasts(fit: xr.Dataset, conditions: list[str]) -> xr.Dataset:
    """Each condition against the mean of the others: (network, layer, neuron)."""
    maps = [actome.compute_contrast(fit, f"{c} - mean(rest)") for c in conditions]
    return xr.concat(maps, pd.Index(conditions, dtype=object, name="network"), combine_attrs="drop_conflicts")


def _labels(unseen: xr.Dataset, components: xr.Dataset, selecting: xr.Dataset) -> xr.Dataset:
    """Label components by prompts that made none of them, and by the signed contrasts they look like."""
    courses = actome.dual_regression(unseen, components)
    signed = actome.fit_glm(selecting, measure="signed")
    conditions = sorted(set(unseen["condition"].to_numpy().tolist()))
    contrasts = {c: actome.compute_contrast(signed, f"{c} - mean(rest)") for c in conditions}
    return actome.label_components(components, courses, contrasts)


def _say(step: str) -> None:
    print(f"actome demo: {step}", file=sys.stderr)
