"""The sections of results, one function each; a function returns None when its result was not given."""

from collections.abc import Sequence

import numpy as np
import xarray as xr

from .figures import draw_map, draw_null, draw_scale, is_wide
from .gather import Map, Network, Results, matching
from .heat import confusion_table, counts_table, overlap_table
from .maps import aggregate, colour_limit, neurons_per_column
from .page import Block, Cell, Gallery, Paragraph, Section, Table, captions_once, headed
from .strongest import strongest
from .wording import MISSING, count, decimal, plural, probability, share, typed

_SCORES = {
    "difference": "its mean inside a network less the mean outside",
    "dice": "the overlap of its own network with a network",
    "correlation": "the correlation of its map with a condition's",
}
_MEASURES = {"magnitude": "magnitude (|activation|)", "signed": "signed activation"}


def contrasts(results: Results) -> Section | None:
    """Show the maps of all contrasts on one colour scale, and what was kept of each."""
    maps = results.contrasts
    if not maps:
        return None
    networks = [matching(m, results.networks) for m in maps]
    blocks: list[Block] = [
        Paragraph(line) for line in sorted({_how_tested(ds) for ds in results.of("contrast")})
    ]
    captions = [_kept(m, n) for m, n in zip(maps, networks, strict=True)]
    blocks += gallery(maps, networks, captions, *_scale_of(maps))
    rows = [(m.name, _contrast_row(m, n)) for m, n in zip(maps, networks, strict=True)]
    caption = (
        "Reference: the distribution the statistic is compared with, degrees of freedom in brackets. "
        "Kept: neurons of the network that is a threshold of this map; "
        f"{MISSING} where none was given."
    )
    columns = ["reference", "control", "neurons kept", "share", "largest |statistic|", "at"]
    blocks.append(Table("contrast", columns, rows, caption))
    return Section("contrasts", "Contrasts", [*blocks, *strongest(maps, networks)])


def _scale_of(maps: Sequence[Map]) -> tuple[str, str]:
    """Name what the colours show, in short and in full."""
    if all(m.coords["z"] for m in maps):
        return "z (standard deviations)", "z, the normal deviate of the contrast's p-value"
    if any(m.coords["z"] for m in maps):
        return "z or statistic", "z where the contrast has one, its test statistic elsewhere"
    return "test statistic", "the contrast's test statistic"


def _how_tested(ds: xr.Dataset) -> str:
    attrs = ds.attrs
    parts = [f"measure: {_MEASURES.get(attrs['measure'], attrs['measure'])}"] if "measure" in attrs else []
    parts += [f"{k}: {attrs[k]}" for k in ("noise", "unit", "level", "formula") if k in attrs]
    if attrs.get("confounds"):
        parts.append(f"confounds: {', '.join(attrs['confounds'])}")
    if "selected_on" in attrs:
        parts.append(f"from {plural(len(attrs['selected_on']), 'prompt')}")
    text = "; ".join(parts)
    if not text:
        return "The contrasts do not say how they were tested."
    assumed = f" Assumed: {attrs['assumption']}." if "assumption" in attrs else ""
    return f"{text[:1].upper()}{text[1:]}.{assumed}"


def _kept(map_: Map, network: Network | None) -> str:
    reference = _reference(map_)
    if network is None:
        return reference if reference != MISSING else ""
    n = int(network.mask.sum())
    return f"{plural(n, 'neuron')} kept ({network.rule}); {reference}"


def _reference(map_: Map) -> str:
    if "dof" not in map_.coords:
        return MISSING
    dof = f"{map_.coords['dof']:,.1f}"
    return f"F({map_.coords['dof_numerator']:g}, {dof})" if "dof_numerator" in map_.coords else f"t({dof})"


def _contrast_row(map_: Map, network: Network | None) -> list[Cell]:
    magnitude = np.where(np.isfinite(map_.stat), np.abs(map_.stat), -1.0)
    layer, neuron = np.unravel_index(int(magnitude.argmax()), magnitude.shape)
    largest = float(magnitude[layer, neuron])
    where = (
        f"layer {map_.layers[int(layer)]}, neuron {map_.neurons[int(neuron)]}" if largest >= 0 else MISSING
    )
    kept = [Cell(MISSING, prose=True), Cell(MISSING), Cell(MISSING)]
    if network is not None:
        n = int(network.mask.sum())
        kept = [Cell(network.rule, prose=True), Cell(count(n)), Cell(share(n, network.mask.size))]
    return [
        Cell(_reference(map_), prose=True),
        *kept,
        Cell(decimal(largest) if largest >= 0 else MISSING),
        Cell(where, prose=True),
    ]


def gallery(
    maps: Sequence[Map], networks: Sequence[Network | None], captions: Sequence[str], scale: str, meaning: str
) -> list[Block]:
    """Draw maps on one colour scale, with the scale above them and what is seen below."""
    limit = colour_limit([aggregate(m.values) for m in maps])
    pictures = [
        draw_map(m.values, None if n is None else n.mask, m.layers, limit, m.name, caption)
        for m, n, caption in zip(maps, networks, captions, strict=True)
    ]
    caption = f"Colour: {meaning}; the same scale in every map, saturating at ±{limit:g}. Grey: no value."
    if any(networks):
        caption += " Dark ticks under a layer: the neurons kept."
    widths = sorted({m.values.shape[1] for m in maps if neurons_per_column(m.values.shape[1]) > 1})
    for n in widths:
        caption += (
            f" {count(n)} neurons a layer are drawn {neurons_per_column(n)} to a column, which shows the "
            "value farthest from zero among them, its sign kept, and a tick where any of them was kept."
        )
    return [
        draw_scale(limit, scale),
        Gallery(pictures, caption, any(is_wide(m.values.shape[1]) for m in maps)),
    ]


def networks(results: Results) -> Section | None:
    """Count the kept neurons per layer of every mask, one table a set of masks."""
    blocks: list[Block] = []
    for networks_ in results.networks:
        rules = list(dict.fromkeys(n.rule for n in networks_))
        counts = [dict(zip(n.layers, n.mask.sum(axis=1).tolist(), strict=True)) for n in networks_]
        site = f" of the site {networks_[0].site}" if networks_[0].site else ""
        blocks += headed(networks_[0].title)
        caption = (
            f"Neurons{site} kept in each layer ({'; '.join(rules)}). Darker: more; the darkest cell is the "
            f"largest count. Share: of the {count(networks_[0].mask.size)} neurons recorded."
        )
        blocks.append(
            counts_table([n.name for n in networks_], counts, [n.mask.size for n in networks_], caption)
        )
    return Section("networks", "Active neurons per layer", captions_once(blocks)) if blocks else None


def overlaps(results: Results) -> Section | None:
    """Show how far networks share their neurons."""
    meaning = {
        "dice": "Dice: twice the neurons in both over the sum of the sizes",
        "jaccard": "Jaccard: neurons in both over neurons in either",
        "coefficient": "Overlap coefficient: neurons in both over the smaller size",
    }
    blocks: list[Block] = []
    for ds in results.of("overlap"):
        blocks += headed(str(ds.attrs.get("title", "")))
        metric = str(ds.attrs.get("metric", next((m for m in meaning if m in ds), "intersection")))
        caption = (
            f"{meaning.get(metric, metric)}; 0 is none, 1 all. The number of shared neurons shows "
            "when the mouse rests on a cell."
        )
        chance = None
        if {"expected", "p_value"} <= set(ds):
            expected, p = (
                ds[v].transpose("network", "network_other").to_numpy().astype(np.float64)
                for v in ("expected", "p_value")
            )
            chance = (expected, p)
            caption += f" Below it: how many times as many as by chance, {_chance(ds)}."
        values, shared = (
            ds[v].transpose("network", "network_other").to_numpy() for v in (metric, "intersection")
        )
        names, others = ([str(n) for n in ds[d].to_numpy()] for d in ("network", "network_other"))
        if not (names and others):
            which = "second" if names else "first"
            blocks.append(Paragraph(f"The {which} set holds no network: there is nothing to compare."))
            continue
        blocks.append(overlap_table(values.astype(np.float64), shared, names, others, caption, chance))
    return Section("overlap", "Overlap", captions_once(blocks)) if blocks else None


def _chance(ds: xr.Dataset) -> str:
    layers = ds.attrs.get("null") == "layers"
    return f"for networks of these sizes{' in each layer' if layers else ''}"


def identification(results: Results) -> Section | None:
    """Show whether held-out prompts are named rightly, against permuted labels."""
    blocks: list[Block] = []
    for ds in results.of("identification"):
        null = ds["null"].to_numpy().astype(np.float64)
        blocks += [Paragraph(identification_line(ds)), *_exchangeability(ds)]
        true, named = ([str(n) for n in ds[d].to_numpy()] for d in ("true", "named"))
        caption = (
            f"{_named(ds).capitalize()}s of each condition (rows) by the condition named for them (columns). "
            "Darker: a larger share of the row; outlined: named rightly."
        )
        confusion = ds["confusion"].transpose("true", "named").to_numpy()
        blocks.append(confusion_table(confusion, true, named, caption))
        histogram = draw_null(null, float(ds["accuracy"]))
        text = (
            "Accuracies when the whole procedure is repeated with permuted labels "
            f"({plural(null.size, 'permutation')}), and the true one (line)."
        )
        blocks.append(Gallery([histogram], text))
    return Section("identification", "Identification", blocks) if blocks else None


def identification_line(ds: xr.Dataset) -> str:
    """State the accuracy, with its chance level and p."""
    null = ds["null"].to_numpy()
    n = int(ds["confusion"].sum())
    text = f"{share(float(ds['accuracy']), 1)} of {plural(n, _named(ds))} named rightly"
    if null.size:
        p, smallest = probability(float(ds["p_value"])), probability(1 / (1 + null.size))
        text += f" (mean under permuted labels {share(float(null.mean()), 1)}), p = {p} from "
        text += f"{plural(null.size, 'permutation')}; the smallest p they can give is {smallest}"
    return f"{text}."


def _named(ds: xr.Dataset) -> str:
    """Say what was named: single prompts, or the map of a condition in a whole run."""
    return "map" if ds.attrs.get("level") == "run" else "prompt"


def _exchangeability(ds: xr.Dataset) -> list[Block]:
    attrs = ds.attrs
    text = f"Networks: {typed(str(attrs['network']))}. " if "network" in attrs else ""
    text += f"What is held out is compared by {_SCORES[attrs['score']]}. " if "score" in attrs else ""
    text += f"Each {attrs['by']} is left out in turn. " if "by" in attrs else ""
    text += f"Assumed: {attrs['exchangeability']}." if "exchangeability" in attrs else ""
    return [Paragraph(text.strip())] if text else []
