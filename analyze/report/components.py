"""The components of a decomposition: how surely each is there, and which are more than chance."""

from collections.abc import Iterator

import numpy as np
import xarray as xr

from .gather import Map, Network, Results, matching
from .overview import overview
from .page import Block, Paragraph, Section, captions_once, headed
from .sections import gallery
from .wording import decimal, plural, share


def components(results: Results) -> Section | None:
    """Show what is known of each component, and its map."""
    blocks: list[Block] = []
    for ds, maps in zip(results.of("components"), results.components, strict=True):
        networks = [matching(m, results.networks) for m in maps]
        n_runs = int(ds.attrs.get("n_runs", ds.sizes.get("repeat", 0)))
        blocks += headed(str(ds.attrs.get("title", "")))
        blocks += [Paragraph(_how_decomposed(ds)), Paragraph(_convergence(ds))]
        if "is_network" in ds:
            blocks.append(Paragraph(_against_chance(ds)))
        blocks += overview(ds, maps, networks, results)
        captions = [_caption(m, n, n_runs) for m, n in zip(maps, networks, strict=True)]
        blocks += gallery(
            maps,
            networks,
            captions,
            "z over neurons (standard deviations)",
            "the component's map, zero mean and unit variance over neurons",
        )
    return Section("components", "Components", captions_once(blocks)) if blocks else None


def _how_decomposed(ds: xr.Dataset) -> str:
    attrs = ds.attrs
    method = str(attrs.get("method", "method not stated"))
    text = f"{method[:1].upper()}{method[1:]}; {plural(ds.sizes['component'], 'component')}"
    if attrs.get("window"):
        text += f", those of each window of {plural(attrs['window'], 'layer')} on their own"
    if "n_subjects" in attrs:
        text += f"; {plural(attrs['n_subjects'], 'subject')}, one a {attrs.get('subject', 'prompt')}"
    if "standardize" in attrs:
        text += "; neurons of unit variance" if attrs["standardize"] else "; neurons centred only"
    text += ". Stability is the index of ICASSO: 1 when a component comes back the same in every repeat."
    return text + (f" Assumed: {attrs['assumption']}." if "assumption" in attrs else "")


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
    text += "from Gaussian, than all but 5 % of what Gaussian scores give in the same procedure, and alike "
    text += "in two halves of the subjects."
    if "null_stability" not in ds:
        return text
    parts = []
    for name, own in _windows(ds):
        draws = own["null_stability"].to_numpy()
        median, high = np.quantile(draws, [0.5, 0.95])
        parts.append(f"{name}median {decimal(median)}, 95 % quantile {decimal(high)}")
    return f"{text} The largest stability of each of {plural(len(draws), 'draw')}: {'; '.join(parts)}."


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
