"""The section on subjects: how the components of a group are found again in each of them."""

import numpy as np
import xarray as xr

from .gather import Float64, Results
from .page import Block, Cell, Paragraph, Section, Table
from .wording import MISSING, count, decimal, plural


def subjects(results: Results) -> Section | None:
    """Tabulate how alike the maps of subjects and of their group are, by dual regression or one to one."""
    blocks: list[Block] = []
    for ds in results.of("dual_regression"):
        blocks += [Paragraph(_regressed(ds)), _similarities(ds, ds["similarity"].to_numpy())]
    for ds in results.of("individual_components"):
        blocks.append(Paragraph(_alone(ds)))
        if "similarity" in ds:
            blocks.append(_similarities(ds, np.abs(ds["similarity"].to_numpy())))
    return Section("subjects", "Subjects", blocks) if blocks else None


def _who(ds: xr.Dataset) -> str:
    return f"{plural(ds.sizes['subject'], 'subject')}, one a {ds.attrs.get('subject', 'prompt')}"


def _regressed(ds: xr.Dataset) -> str:
    text = f"Dual regression of {plural(ds.sizes['component'], 'component')} on {_who(ds)}."
    short = int((ds["rank"].to_numpy() < ds.sizes["component"]).sum())
    if short:
        text += (
            f" {count(short)} of them have too few tokens to tell all components apart; of the maps that "
            "fit, those of the smallest norm are taken."
        )
    return (
        text
        + " Maps that were regressed on the group's resemble them: the numbers describe, they do not test."
    )


def _alone(ds: xr.Dataset) -> str:
    converged, found = ds["converged"].to_numpy().astype(bool), ds["n_found"].to_numpy()
    method = str(ds.attrs.get("method", "ICA of each subject alone"))
    least, most = int(found.min(initial=0)), int(found.max(initial=0))
    each = str(most) if least == most else f"{least} to {most}"
    return (
        f"{method}: {_who(ds)}; {each} components each; "
        f"{count(int(converged.sum()))} of {count(converged.size)} converged."
    )


def _similarities(ds: xr.Dataset, similarity: Float64) -> Table:
    """Summarise similarity (subject, component) over subjects."""
    rows = []
    for i, component in enumerate(ds["component"].to_numpy()):
        own = similarity[:, i][np.isfinite(similarity[:, i])]
        numbers = [own.mean(), *np.quantile(own, [0.1, 0.5, 0.9])] if own.size else []
        cells = [Cell(decimal(float(x))) for x in numbers] or [Cell(MISSING)] * 4
        rows.append((f"ic{component}", [Cell(count(own.size)), *cells]))
    caption = "Correlation over neurons of each subject's map with the group's, and its spread over subjects."
    return Table("component", ["subjects", "mean", "10 %", "median", "90 %"], rows, caption)
