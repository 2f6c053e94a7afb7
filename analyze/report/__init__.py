"""The report: any results, in any order, as one HTML file that needs nothing else."""

import os
from importlib import resources
from pathlib import Path

import jinja2
import matplotlib as mpl

from ... import _version
from ...store.provenance import now
from .components import components
from .connectivity import connectivities
from .curves import doses, gains, preservations
from .descriptions import descriptions
from .design import design
from .dimensions import dimensions
from .fingerprints import fingerprints
from .forgetting import forgettings
from .gather import Results, gather
from .inference import cross_fits, discoveries
from .lesions import lesions
from .matches import matches
from .page import Section
from .pruning import prunings
from .recurrences import recurrences
from .regions import regions
from .repeatability import repeatabilities
from .sections import contrasts, identification, networks, overlaps
from .statements import statements
from .subjects import subjects
from .summary import provenance, summary
from .timecourse import time_courses

_SECTIONS = (
    summary,
    statements,
    design,
    time_courses,
    contrasts,
    components,
    networks,
    descriptions,
    discoveries,
    cross_fits,
    overlaps,
    matches,
    recurrences,
    subjects,
    connectivities,
    repeatabilities,
    identification,
    fingerprints,
    lesions,
    doses,
    gains,
    preservations,
    prunings,
    regions,
    dimensions,
    forgettings,
    provenance,
)


def report(*results: object, out: str | os.PathLike[str]) -> str:
    """Write results as one self-contained HTML file.

    Lazy results are computed here; of a recording only the labels are read.

    Parameters
    ----------
    *results
        Any of: a recording, and what `fit_glm`, `compute_contrast`, `threshold`, `group_ica`, `networks`,
        `describe_networks`, `label_components`, `dual_regression`, `individual_components`, `recurrence`,
        `connectivity`, `connectivity_difference`, `graph_measures`, `true_discoveries`, `cross_fit`,
        `overlap`, `match_networks`, `repeatability`, `identify`, `fingerprint`, `time_course`, `score`,
        `lesion_effects`, `dose_response`, `amplification`, `preservation`, `compare_pruned`,
        `region_effects`, `region_overlap`, `concentration`, `sweep_effects` and `forgetting` return, in
        memory, lazy or reopened. Contrasts and masks may be stacked along a dimension, such as ``network``.
    out
        The HTML file; its folder is made if need be, a file that is there is replaced.

    Returns
    -------
    The path.

    Raises
    ------
    InputError
        No results, or one that lacks what its kind holds.
    InputTypeError
        Something that is no result.
    """
    gathered = gather(results)
    with mpl.rc_context():
        mpl.rcdefaults()  # a user's style, TeX say, would change or break the figures
        made = [make(gathered) for make in _SECTIONS]
    html = _render([section for section in made if section is not None], _title(gathered))
    path = Path(out)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        partial.write_text(html, encoding="utf-8")
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return str(path)


def _title(results: Results) -> str:
    named = [
        ds.attrs.get("name") or ds.attrs.get("source_name")
        for kind in results.by_kind
        for ds in results.of(kind)
    ]
    single = [n for given in named for n in (given if isinstance(given, list) else [given])]
    names = list(dict.fromkeys(str(n) for n in single if n))
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"Actome report: {', '.join(names[:3])}{more}" if names else "Actome report"


def _render(sections: list[Section], title: str) -> str:
    files = resources.files(__package__)
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    template = environment.from_string(files.joinpath("report.html").read_text(encoding="utf-8"))
    style = files.joinpath("style.css").read_text(encoding="utf-8")
    return template.render(
        sections=sections, title=title, style=style, version=_version.__version__, created=now()
    )
