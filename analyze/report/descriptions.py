"""The section on what networks are: their hubs and the neurons they share, and the conditions they follow."""

import numpy as np
import xarray as xr

from .connectivity import correlation_cell
from .gather import Results
from .heat import counts_table, overlap_table
from .page import Block, Cell, Paragraph, Section, Table, captions_once, headed
from .wording import MISSING, count, decimal, isolate, plural, probability

_LISTED = 20  # hubs in the table


def descriptions(results: Results) -> Section | None:
    """Show layers, overlap and hubs of networks, and the labels of components."""
    blocks: list[Block] = []
    for ds in results.of("networks"):
        blocks += [_layers(ds), _overlap(ds), Paragraph(hub_line(ds)), *_hubs(ds)]
    for ds in results.of("component_labels"):
        blocks += headed(str(ds.attrs.get("title", "")))
        blocks += [table for table in (_conditions(ds), _contrasts(ds)) if table is not None]
    return Section("descriptions", "What the networks are", captions_once(blocks)) if blocks else None


def hub_line(ds: xr.Dataset) -> str:
    """State how many neurons are hubs."""
    histogram = ds["histogram"].to_numpy()
    several = int(histogram[2:].sum())
    most = int(np.flatnonzero(histogram).max(initial=0))
    return (
        f"{plural(several, 'neuron')} in two networks or more, at most in {count(most)}; "
        f"{plural(int(ds['hub'].sum()), 'hub')}: in more networks than by chance, at a rate of "
        f"{ds.attrs.get('alpha', 0.05):g} for all neurons together, if "
        f"{ds.attrs.get('assumption', 'networks were placed independently')}."
    )


def _names(ds: xr.Dataset) -> list[str]:
    return [str(n) for n in ds["network"].to_numpy()]


def _layers(ds: xr.Dataset) -> Table:
    layers = [int(i) for i in ds["layer"].to_numpy()] if "layer" in ds.coords else range(ds.sizes["layer"])
    sizes = ds["layer_size"].transpose("network", "layer").to_numpy().tolist()
    counts = [dict(zip(layers, row, strict=True)) for row in sizes]
    total = ds.sizes["layer"] * ds.sizes["neuron"]
    caption = f"Neurons of each network in each layer. Share: of the {count(total)} neurons recorded."
    return counts_table(_names(ds), counts, [total] * len(counts), caption)


def _overlap(ds: xr.Dataset) -> Table:
    dice, shared, expected, p = (
        ds[v].transpose("network", "network_other").to_numpy()
        for v in ("dice", "intersection", "expected", "p_value")
    )
    caption = (
        "Dice: twice the neurons in both over the sum of the sizes. Below it: how many times as many as by "
        "chance, for networks of these sizes in each layer."
    )
    return overlap_table(dice, shared, _names(ds), _names(ds), caption, (expected, p))


def _hubs(ds: xr.Dataset) -> list[Block]:
    hub = ds["hub"].transpose("layer", "neuron").to_numpy()
    if not hub.any():
        return []
    count_of, p = (ds[v].transpose("layer", "neuron").to_numpy() for v in ("n_networks", "hub_p_value"))
    found = sorted(np.argwhere(hub).tolist(), key=lambda at: (p[at[0], at[1]], at))[:_LISTED]
    layers, neurons = (
        ds[d].to_numpy() if d in ds.coords else np.arange(ds.sizes[d]) for d in ("layer", "neuron")
    )
    rows = [
        (
            f"layer {layers[i]}, neuron {neurons[j]}",
            [Cell(count(int(count_of[i, j]))), Cell(probability(float(p[i, j])))],
        )
        for i, j in found
    ]
    more = f" The first {_LISTED} of {count(int(hub.sum()))}." if int(hub.sum()) > _LISTED else ""
    return [Table("hub", ["networks", "p"], rows, f"The hubs; p of each neuron alone.{more}")]


def _conditions(ds: xr.Dataset) -> Table | None:
    if "correlation" not in ds:
        return None
    names = [str(c) for c in ds["condition"].to_numpy()]
    r, p = (ds[v].transpose("component", "condition").to_numpy() for v in ("correlation", "p_corrected"))
    limit = float(np.nanmax(np.abs(r), initial=0.0))
    rows = []
    for i, component in enumerate(ds["component"].to_numpy()):
        label, falls = str(ds["label"].to_numpy()[i]), int(ds["label_sign"][i]) < 0
        shown = f"{isolate(label)} (falls)" if falls else isolate(label)
        cells = [Cell(shown if label else MISSING, prose=True)]
        for j, name in enumerate(names):
            hint = f"ic{component}, {name}: r = {decimal(r[i, j])}, corrected p = {probability(p[i, j])}"
            cells.append(correlation_cell(float(r[i, j]), limit, marked=name == label, hint=hint))
        rows.append((f"ic{component}", cells))
    caption = (
        "Correlation over prompts of a component's mean time course with each condition; red: positive, "
        "blue: negative. Label: the condition with the strongest among those with "
        f"p \u2264 {ds.attrs.get('alpha', 0.05):g}, corrected for all components and conditions. "
        f"Assumed: {ds.attrs.get('exchangeability', '')}."
    )
    return Table("component", ["label", *names], rows, caption, True)


def _contrasts(ds: xr.Dataset) -> Table | None:
    if "map_correlation" not in ds:
        return None
    names = [str(c) for c in ds["contrast"].to_numpy()]
    r = ds["map_correlation"].transpose("component", "contrast").to_numpy()
    limit = float(np.nanmax(np.abs(r), initial=0.0))
    rows = [
        (
            f"ic{component}",
            [
                correlation_cell(x, limit, marked=name == str(ds["map_label"].to_numpy()[i]))
                for name, x in zip(names, r[i].tolist(), strict=True)
            ],
        )
        for i, component in enumerate(ds["component"].to_numpy())
    ]
    caption = (
        "Correlation over neurons of a component's map with each contrast's; red: positive, blue: negative. "
        "Outlined: the largest. No p: neurons are not independent."
    )
    return Table("component", names, rows, caption, True)
