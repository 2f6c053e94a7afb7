"""The components of a decomposition: how surely each is there, and which are more than chance."""

from collections.abc import Iterator

import numpy as np
import xarray as xr

from .gather import Map, Network, Results, matching
from .page import Block, Cell, Paragraph, Section, Table
from .sections import gallery
from .wording import MISSING, decimal, plural, probability, share


def components(results: Results) -> Section | None:
    """Show the maps of the components, with how surely and how much of each there is."""
    blocks: list[Block] = []
    for ds, maps in zip(results.of("components"), results.components, strict=True):
        networks = [matching(m, results.networks) for m in maps]
        n_runs = int(ds.attrs.get("n_runs", ds.sizes.get("repeat", 0)))
        blocks += [Paragraph(_how_decomposed(ds)), Paragraph(_convergence(ds))]
        if "is_network" in ds:
            blocks += [Paragraph(_against_chance(ds)), _certainty(maps)]
        captions = [_caption(m, n, n_runs) for m, n in zip(maps, networks, strict=True)]
        blocks += gallery(
            maps,
            networks,
            captions,
            "z over neurons (standard deviations)",
            "the component's map, zero mean and unit variance over neurons",
        )
    return Section("components", "Components", blocks) if blocks else None


def _how_decomposed(ds: xr.Dataset) -> str:
    attrs = ds.attrs
    method = str(attrs.get("method", "method not stated"))
    title = f"{attrs['title']}. " if "title" in attrs else ""
    text = f"{title}{method[:1].upper()}{method[1:]}; {plural(ds.sizes['component'], 'component')}"
    if attrs.get("window"):
        text += f", those of each window of {plural(attrs['window'], 'layer')} on their own"
    if "n_subjects" in attrs:
        text += f"; {plural(attrs['n_subjects'], 'subject')}, one a {attrs.get('subject', 'prompt')}"
    if "standardize" in attrs:
        text += "; neurons of unit variance" if attrs["standardize"] else "; neurons centred only"
    return (
        text + ". Stability is the index of ICASSO: 1 when a component comes back the same in every repeat."
    )


def _windows(ds: xr.Dataset) -> Iterator[tuple[str, xr.Dataset]]:
    """Name each window of layers, with what is known of it; "" where there are none."""
    if "of_window" not in ds.dims:
        yield "", ds
        return
    for i, first in enumerate(ds["of_window"].to_numpy()):
        yield f"layers from {first}: ", ds.isel(of_window=i)


def _convergence(ds: xr.Dataset) -> str:
    if "converged" not in ds:
        return "Whether the repeats converged is not known."
    return " ".join(f"{name}{_converged(own)}" for name, own in _windows(ds))


def _converged(ds: xr.Dataset) -> str:
    converged = ds["converged"].to_numpy().astype(bool)
    failed = np.flatnonzero(~converged)
    text = f"{converged.sum()} of {plural(len(converged), 'repeat')} converged"
    return (
        f"{text}; not converged: {', '.join(map(str, failed))} (counted from 0)."
        if failed.size
        else f"{text}."
    )


def _against_chance(ds: xr.Dataset) -> str:
    found = ds["is_network"].to_numpy().astype(bool)
    text = f"{found.sum()} of {plural(len(found), 'component')} are networks: more stable, and farther "
    text += "from Gaussian, than all but 5 % of what Gaussian scores give in the same procedure."
    if "null_stability" not in ds:
        return text
    parts = []
    for name, own in _windows(ds):
        draws = own["null_stability"].to_numpy()
        median, high = np.quantile(draws, [0.5, 0.95])
        parts.append(f"{name}median {decimal(median)}, 95 % quantile {decimal(high)}")
    return f"{text} The largest stability of each of {plural(len(draws), 'draw')}: {'; '.join(parts)}."


def _certainty(maps: list[Map]) -> Table:
    rows = []
    for m in maps:
        c = m.coords
        known = [decimal(c[k]) if np.isfinite(c.get(k, np.nan)) else MISSING for k in _MEASURES]
        where = [Cell(str(int(c["window"])))] if "window" in c else []
        verdict = Cell("network" if c["is_network"] else "not a network", prose=True)
        rows.append((m.name, [*where, verdict, *map(Cell, [probability(c["p_value"]), *known])]))
    columns = ["from layer"] if maps and "window" in maps[0].coords else []
    columns += ["against chance", "p", *_MEASURES.values()]
    return Table("component", columns, rows, _CERTAINTY)


_MEASURES = {"stability": "stability", "split_half": "halves", "departure": "departure"}
_CERTAINTY = (
    "p: share of draws of chance whose largest component has as much stability, or departure if that is more "
    "often; corrected for the number of components. Halves: correlation of the maps that two halves of the "
    "subjects give for it. Departure: how far its source is from Gaussian; for one, chance gives about 1."
)


def _caption(map_: Map, network: Network | None, n_runs: int) -> str:
    c = map_.coords
    parts = []
    if "is_network" in c:
        parts.append("network" if c["is_network"] else "not a network")
    if np.isfinite(c.get("stability", np.nan)):
        parts.append(f"stability {c['stability']:.2f}")
    if "cluster_size" in c:
        parts.append(
            f"{plural(c['cluster_size'], 'estimate')} in its cluster, from {plural(n_runs, 'repeat')}"
        )
    if "explained_variance" in c:
        parts.append(f"{share(c['explained_variance'], 1)} of the group's variance")
    if network is not None:
        parts.append(f"{plural(int(network.mask.sum()), 'neuron')} kept ({network.rule})")
    return "; ".join(parts)
