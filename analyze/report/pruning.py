"""The section on pruning: what a smaller model saves, and what it costs."""

import numpy as np
import xarray as xr

from .gather import Results
from .page import Block, Cell, Paragraph, Section, Table
from .wording import count, decimal, plural, share


def prunings(results: Results) -> Section | None:
    """Tabulate each model before and after."""
    blocks: list[Block] = []
    for ds in results.of("pruning"):
        blocks += [Paragraph(_how(ds)), _saved(ds), _cost(ds)]
    return Section("pruning", "Pruning", blocks) if blocks else None


def _how(ds: xr.Dataset) -> str:
    attrs = ds.attrs
    removed, filled = (int(np.sum(attrs.get(v, 0))) for v in ("removed", "filled"))
    text = f"{plural(removed, 'neuron')} of the MLPs removed. "
    if filled:
        text += (
            f"The layers have one width, so {plural(filled, 'neuron')} of zero weights fill up those that "
            "keep fewer: they cost parameters and time, and change nothing. "
        )
    text += (
        "What the removed neurons write on average was added to the biases."
        if attrs.get("compensate")
        else "Nothing makes up for what the removed neurons wrote."
    )
    return text


def _saved(ds: xr.Dataset) -> Table:
    rows = []
    for label, variable, write in (
        ("parameters", "parameters", count),
        ("neurons of the MLPs", "neurons", count),
        ("width of each layer's MLP", "width", count),
        ("tokens a second", "tokens_per_second", decimal),
    ):
        before, after = (float(v) for v in ds[variable].to_numpy())
        rows.append((label, [Cell(write(before)), Cell(write(after)), Cell(share(after, before))]))
    caption = (
        f"Speed: the fastest of {ds.sizes['repeat']} over all texts, both models in turn, on the "
        f"{ds.attrs.get('device', 'same device')}."
    )
    return Table("", ["before", "after", "after / before"], rows, caption)


def _cost(ds: xr.Dataset) -> Table:
    by = str(ds.attrs.get("by", "condition"))
    values = ds["perplexity"].transpose(by, "model").to_numpy()
    rows = [
        (str(name), [Cell(decimal(float(b))), Cell(decimal(float(a))), Cell(decimal(float(np.log(a / b))))])
        for name, (b, a) in zip(ds[by].to_numpy(), values, strict=True)
    ]
    caption = (
        f"Perplexity of each {by}, on texts that took no part in choosing the neurons; the rise of the loss "
        "is in nats per token."
    )
    return Table(by, ["before", "after", "rise of the loss"], rows, caption)
