"""The report: any results, in any order, as one HTML file that needs nothing else."""

import os
from importlib import resources
from pathlib import Path

import jinja2
import matplotlib as mpl

from ... import _version
from ...store.errors import InputError
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
from .scored import with_effects
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


_MADE = b'<meta name="generator" content="Actome '
_HEAD = 1024  # bytes within which a report says so


def report(*results: object, out: str | os.PathLike[str]) -> str:
    """Write results as one self-contained HTML file.

    Lazy results are computed here; of a recording only the labels are read. Of scores that come without
    effects of theirs the effects are found here, by every metric that they allow.

    Parameters
    ----------
    *results
        Any of: a recording, and what `fit_glm`, `compute_contrast`, `threshold`, `group_ica`, `networks`,
        `describe_networks`, `label_components`, `dual_regression`, `individual_components`, `recurrence`,
        `connectivity`, `connectivity_difference`, `graph_measures`, `true_discoveries`, `cross_fit`,
        `overlap`, `match_networks`, `repeatability`, `identify`, `fingerprint`, `time_course`, `score`,
        `lesion_effects`, `dose_response`, `amplification`, `preservation`, `compare_pruned`,
        `score_regions` (of texts that were continued), `region_effects`, `region_overlap`, `concentration`,
        `sweep_effects` and `forgetting` return, in memory, lazy or reopened. Contrasts and masks may be
        stacked along a dimension, such as ``network``.
    out
        The HTML file; its folder is made if need be. A report that is there is replaced, anything else is
        refused.

    Returns
    -------
    The path.

    Raises
    ------
    InputError
        No results, one that lacks what its kind holds, or `out` holds something that is no report.
    InputTypeError
        Something that is no result.
    """
    path = _free(out)
    gathered = with_effects(gather(results))
    with mpl.rc_context():
        mpl.rcdefaults()  # a user's style, TeX say, would change or break the figures
        made = [make(gathered) for make in _SECTIONS]
    html = _render([section for section in made if section is not None], _title(gathered))
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        partial.write_text(html, encoding="utf-8")
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return str(path)


def _free(out: str | os.PathLike[str]) -> Path:
    """Return where the report goes, unless something is there that is no report."""
    path = Path(out)
    if "://" in os.fspath(out):
        raise InputError(f"the report is a file of this machine, got {os.fspath(out)}")
    if path.is_dir():
        raise InputError(f"{path} is a folder; name the report's file in it, such as {path / 'report.html'}")
    if path.exists() and not _replaceable(path):
        raise InputError(
            f"{path} is there already and is no report of Actome; choose another file or remove it"
        )
    return path


def _replaceable(path: Path) -> bool:
    """Whether a file is empty or a report, by what its head says made it."""
    if not path.is_file():
        return False  # a device, say
    with path.open("rb") as file:
        head = file.read(_HEAD)
    return not head or _MADE in head


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
