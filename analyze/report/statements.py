"""The section on a replicated study: what it states beside what was measured, and the choices made."""

from collections import Counter

import xarray as xr

from .gather import Results
from .page import Block, Cell, Paragraph, Section, Table
from .wording import MISSING, plural

_COLOURS = {"agree": "#cfe4f2", "disagree": "#f7d9c4", "cannot say": "#ececec", "not asked": "#ffffff"}


def statements(results: Results) -> Section | None:
    """Tabulate statements with their verdicts, and the choices where the study is silent."""
    blocks: list[Block] = []
    for ds in results.of("statements"):
        if "note" in ds.attrs:
            blocks.append(Paragraph(str(ds.attrs["note"])))
        blocks.append(_verdicts(ds))
        if "choice" in ds.dims:
            blocks.append(_choices(ds))
    return Section("statements", "The study's statements", blocks) if blocks else None


def statements_line(ds: xr.Dataset) -> str:
    """Count the verdicts in a line."""
    counts = Counter(str(v) for v in ds["verdict"].to_numpy())
    told = ", ".join(f"{counts[v]} {v}" for v in _COLOURS if counts[v])
    return f"{ds.attrs.get('study', 'Study')}, {plural(ds.sizes['statement'], 'statement')}: {told}."


def _verdicts(ds: xr.Dataset) -> Table:
    columns = {v: [str(x) for x in ds[v].to_numpy()] for v in ("claim", "measured", "verdict", "rule")}
    published = [str(x) for x in ds["published"].to_numpy()] if "published" in ds else []
    told = any(published)  # a study without figures needs no empty column
    rows = []
    for i, (claim, measured, verdict, rule) in enumerate(zip(*columns.values(), strict=True)):
        own = [Cell(published[i] or MISSING, prose=True)] if told else []
        rows.append((claim, [*own, Cell(measured, prose=True), _verdict(verdict), Cell(rule, prose=True)]))
    caption = (
        "The rules are fixed in the program, the same for every model and recording. “Cannot say”: neither "
        "rule is met."
    )
    if told:
        caption += f" {MISSING}: the study gives no figure that is known for sure."
    headings = [*(["the study's figures"] if told else []), "measured here", "verdict", "rule"]
    return Table(str(ds.attrs.get("study", "the study")), headings, rows, caption, told=True)


def _verdict(text: str) -> Cell:
    return Cell(text, colour=_COLOURS.get(text, ""), prose=True)


def _choices(ds: xr.Dataset) -> Table:
    columns = {v: [str(x) for x in ds[v].to_numpy()] for v in ("choice", "value", "reason")}
    rows = [
        (choice, [Cell(value, prose=True), Cell(reason, prose=True)])
        for choice, value, reason in zip(*columns.values(), strict=True)
    ]
    return Table("choice", ["value", "why"], rows, "What the study leaves open, as it was chosen here.")
