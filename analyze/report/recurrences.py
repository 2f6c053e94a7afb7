"""The section on recurrence: how often a group's networks come back in single samples, beside chance."""

from collections.abc import Sequence

import numpy as np
import xarray as xr

from .across import across_data_sets
from .figures import CONTROL, CONTROL_MEAN, OWN, new_figure, picture, quiet
from .gather import Float64, Results
from .heat import heat_cell
from .page import Block, Cell, Gallery, Legend, Paragraph, Picture, Section, Table, captions_once, headed
from .wording import MISSING, count, plural, probability, rule

_PER = 100.0  # samples that counts are compared per


def recurrences(results: Results) -> Section | None:
    """Show how often templates come back: within their data set, at other thresholds, in other data sets."""
    given, across = results.of("recurrence"), results.of("recurrence_across")
    blocks = [*_within(given), *(block for ds in across for block in across_data_sets(ds))]
    return Section("recurrence", "Recurrence", captions_once(blocks)) if blocks else None


def _within(given: Sequence[xr.Dataset]) -> list[Block]:
    """Show the counts of every result side by side, then each with its chance."""
    if not given:
        return []
    blocks: list[Block] = [Paragraph(_how(given))]
    limit = max(float(_per_hundred(ds).max(initial=0.0)) for ds in given)
    entries = [
        ("", OWN, "here"),
        *([("", CONTROL, "published")] if any(ds.attrs.get("published") for ds in given) else []),
        ("dash", CONTROL_MEAN, "by chance, on average"),
    ]
    caption = (
        f"Matching components of each template in {_PER:.0f} samples; a sample may match with several of its "
        "components. The same scale in all."
    )
    pictures = [_draw(ds, limit) for ds in given]
    blocks += [Legend(entries), Gallery(pictures, caption, small=len(pictures) > 2), _counts(given, limit)]
    for ds in given:
        if "expected_components" in ds or "samples" in ds:
            blocks += [*headed(title(ds)), _details(ds)]
    swept = [ds for ds in given if "sweep_samples" in ds and n_samples(ds)]
    if swept:
        blocks += [
            Legend(_SWEPT),
            Gallery([_draw_sweep(ds) for ds in swept], _SWEEP_CAPTION, small=len(swept) > 2),
        ]
    return blocks


def recurrence_line(ds: xr.Dataset) -> str:
    """State in a line how many templates recur."""
    found = ds["components"].to_numpy()
    text = f"Recurrence, {title(ds)}: "
    text += f"{found.min()} to {found.max()} matching components" if found.size else "no templates"
    if "p_samples" in ds:
        n = ds.sizes["network"]
        above = int((ds["p_samples"].to_numpy() <= 0.05 / n).sum())
        text += f"; {above} of {plural(n, 'template')} in more samples than by chance"
    return f"{text}."


def title(ds: xr.Dataset) -> str:
    """Name a result."""
    return str(ds.attrs.get("title") or ds.attrs.get("source_name") or "recurrence")


def n_samples(ds: xr.Dataset) -> int:
    """Count the samples that were looked at; 0 where it is not known."""
    return int(ds.sizes.get("subject", ds.attrs.get("n_samples", 0)))


def _per_hundred(ds: xr.Dataset, variable: str = "components") -> Float64:
    return np.asarray(_PER * ds[variable].to_numpy() / max(n_samples(ds), 1), dtype=np.float64)


def _how(given: Sequence[xr.Dataset]) -> str:
    limits = sorted({float(ds.attrs["jaccard"]) for ds in given if "jaccard" in ds.attrs})
    above = " or ".join(f"{x:g}" for x in limits)
    text = (
        "A template, a network of a group of samples, matches a component of a single sample where the "
        f"neurons in both are more than {above} of the neurons in either. "
        if limits
        else "How often a group's networks come back in single samples. "
    )
    assumed = sorted({str(ds.attrs["assumption"]) for ds in given if "assumption" in ds.attrs})
    return text + (f"Chance: {'; '.join(assumed)}." if assumed else "")


def _draw(ds: xr.Dataset, limit: float) -> Picture:
    found = _per_hundred(ds)
    x = np.arange(1, len(found) + 1)
    figure = new_figure(255, 160)
    axes = quiet(figure.add_axes((0.18, 0.24, 0.81, 0.72)))
    axes.bar(x, found, width=0.7, color=CONTROL if ds.attrs.get("published") else OWN)
    if "expected_components" in ds:
        expected = _per_hundred(ds, "expected_components")
        axes.hlines(expected, x - 0.45, x + 0.45, color=CONTROL_MEAN, linewidth=1.4)
    step = max(1, len(x) // 10)
    axes.set_xticks(x[::step].tolist())
    axes.set(xlim=(0.3, len(x) + 0.7), ylim=(0, 1.04 * limit or 1.0), xlabel="template", ylabel="matches")
    alt = f"Matching components of {len(x)} templates in {_PER:.0f} samples: {title(ds)}"
    return picture(figure, alt, title(ds), plural(n_samples(ds), "sample") if n_samples(ds) else "")


_SWEPT = [("", OWN, "a template"), ("dash", CONTROL_MEAN, "random templates, mean over templates")]
_SWEEP_CAPTION = (
    "Share of the samples with a match by the Jaccard index that a match must exceed; one line a template. "
    "Dotted: the index that the counts above are for."
)


def _draw_sweep(ds: xr.Dataset) -> Picture:
    """Draw the share of samples with a match against the threshold, one line a template."""
    at, n = ds["threshold"].to_numpy(), n_samples(ds)
    figure = new_figure(255, 170)
    axes = quiet(figure.add_axes((0.18, 0.22, 0.79, 0.74)))
    shares = ds["sweep_samples"].transpose("threshold", "network").to_numpy() / n
    axes.plot(at, shares, color=OWN, linewidth=0.9, alpha=0.6)
    if "sweep_expected_samples" in ds:
        expected = ds["sweep_expected_samples"].mean("network") / n
        axes.plot(at, expected, color=CONTROL_MEAN, linewidth=1.6, linestyle="--")
    axes.axvline(float(ds.attrs.get("jaccard", np.nan)), color=CONTROL, linewidth=1.0, linestyle=":")
    axes.set(xlim=(at[0], at[-1]), ylim=(-0.02, 1.02), xlabel="Jaccard index", ylabel="samples with a match")
    alt = f"Share of {n} samples with a match of {ds.sizes['network']} templates by threshold: {title(ds)}"
    return picture(figure, alt, title(ds))


def _counts(given: Sequence[xr.Dataset], limit: float) -> Table:
    width = max(ds.sizes["network"] for ds in given)
    rows = []
    for ds in given:
        cells = [
            heat_cell(count(n), share, limit)
            for n, share in zip(ds["components"].to_numpy().tolist(), _per_hundred(ds), strict=True)
        ]
        samples = Cell(count(n_samples(ds)) if n_samples(ds) else MISSING)
        rows.append((title(ds), [samples, *cells, *[Cell("")] * (width - len(cells))]))
    caption = (
        "Matching components of each template. Darker: more, relative to the samples. The number of a "
        "template means nothing: those of different rows are different networks."
    )
    return Table("data set", ["samples", *map(str, range(1, width + 1))], rows, caption, True)


def _details(ds: xr.Dataset) -> Table:
    """Tabulate every template with its stability, and its counts beside chance."""
    columns: dict[str, list[str]] = {}
    if "size" in ds:
        columns["neurons"] = [count(n) for n in ds["size"].to_numpy().tolist()]
    if "stability" in ds:
        columns["stability"] = [
            f"{s:.2f}" if np.isfinite(s) else MISSING for s in ds["stability"].to_numpy().tolist()
        ]
    if "is_network" in ds:
        columns["beats its null"] = ["yes" if x else "no" for x in ds["is_network"].to_numpy().tolist()]
    for variable, noun in (("components", "components"), ("samples", "samples with one")):
        columns |= _beside_chance(ds, variable, noun)
    names = [str(n) for n in ds["network"].to_numpy()]
    rows = [(name, [Cell(values[i]) for values in columns.values()]) for i, name in enumerate(names)]
    made = f"; networks: {rule(ds.attrs)}" if "control" in ds.attrs else ""
    caption = (
        f"Every template, its matching components in {plural(n_samples(ds), 'sample')}, and "
        f"the samples that have one{made}. p: random templates that recur as often, each template alone."
    )
    return Table("template", list(columns), rows, caption)


def _beside_chance(ds: xr.Dataset, variable: str, noun: str) -> dict[str, list[str]]:
    if variable not in ds:
        return {}
    columns = {f"matching {noun}" if variable == "components" else noun: ds[variable].to_numpy().tolist()}
    out = {head: [count(n) for n in values] for head, values in columns.items()}
    if f"expected_{variable}" in ds:
        out[f"by chance ({variable})"] = [f"{x:.2f}" for x in ds[f"expected_{variable}"].to_numpy().tolist()]
        out[f"p ({variable})"] = [probability(x) for x in ds[f"p_{variable}"].to_numpy().tolist()]
    return out
