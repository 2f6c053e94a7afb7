"""The sections on what a selection is worth: true discoveries, and effects on other prompts."""

import itertools
from collections.abc import Iterator

import xarray as xr

from .gather import Results
from .page import Block, Cell, Paragraph, Section, Table
from .wording import count, decimal, plural, rule, share


def discoveries(results: Results) -> Section | None:
    """Tabulate how many neurons of each region are active at least."""
    blocks: list[Block] = []
    for ds in results.of("discoveries"):
        rows = [(name, _bound(part)) for name, part in _each(ds, "discoveries")]
        confidence = f"{100 * (1 - float(ds.attrs.get('alpha', 0.05))):g} %"
        caption = (
            f"At least so many neurons of each region are active; with {confidence} confidence all these "
            "bounds hold at once, and those of any other regions too, also of regions chosen after a look at "
            f"this table. Assumed: {ds.attrs.get('assumption', 'nothing stated')}."
        )
        blocks.append(Table("region", ["neurons tested", "active at least", "share"], rows, caption))
    return Section("discoveries", "True discoveries", blocks) if blocks else None


def _bound(part: xr.Dataset) -> list[Cell]:
    found, size = int(part["discoveries"]), int(part["size"])
    return [Cell(count(size)), Cell(count(found)), Cell(share(found, size))]


def _each(ds: xr.Dataset, variable: str) -> Iterator[tuple[str, xr.Dataset]]:
    """Go through the entries of a variable, each with its labels."""
    dims = [str(d) for d in ds[variable].dims]
    for index in itertools.product(*(range(ds.sizes[d]) for d in dims)):
        part = ds.isel(dict(zip(dims, index, strict=True)))
        labels = [
            f"layer {part[d].item()}" if d == "layer" else str(part[d].item() if d in part.coords else i)
            for d, i in zip(dims, index, strict=True)
        ]
        yield " / ".join(labels) or str(ds.attrs.get("contrast", "all neurons")), part


def cross_fits(results: Results) -> Section | None:
    """Tabulate effects on prompts that did not select the network, beside those on the ones that did."""
    blocks: list[Block] = []
    for ds in results.of("crossfit"):
        contrast = str(ds.attrs.get("contrast", "the contrast"))
        text = f"{contrast}: networks by {rule(ds.attrs)}, folds by {ds.attrs.get('folds', 'run')}."
        blocks += [Paragraph(text), _folds(ds)]
    return Section("crossfit", "Effects without selection bias", blocks) if blocks else None


def _folds(ds: xr.Dataset) -> Table:
    rows = [
        (
            str(part["fold"].item()),
            [Cell(count(int(part["size"]))), *_effect(part, ""), Cell(decimal(float(part["dof"])))],
        )
        for part in (ds.isel(fold=i) for i in range(ds.sizes["fold"]))
    ]
    rows.append(("all folds", [Cell(""), *_effect(ds, "_combined"), Cell("")]))
    confidence = f"{100 * float(ds.attrs.get('confidence', 0.95)):g} %"
    n = plural(ds.sizes["fold"], "fold")
    caption = (
        f"Effect: of the contrast on the mean of the network's neurons, in the prompts of the fold, "
        f"{confidence} interval in brackets; the network was selected on the other folds. Naive: the same on "
        "the prompts that selected it, too large by what chance lent the selection. All folds: mean over "
        f"{n}; its interval allows for networks that depend on one another."
    )
    return Table("fold", ["neurons", "effect", "naive", "dof"], rows, caption)


def _effect(part: xr.Dataset, which: str) -> list[Cell]:
    effect, low, high, naive = (
        decimal(float(part[f"{v}{which}"])) for v in ("effect", "low", "high", "naive")
    )
    return [Cell(f"{effect} [{low}, {high}]"), Cell(naive)]
