"""The section on further training: what is learned and forgotten, by what was frozen."""

import numpy as np
import xarray as xr

from .curve_figures import draw_arms, draw_dissociation
from .figures import PALETTE
from .gather import Results
from .heat import heat_cell
from .page import Block, Cell, Gallery, Legend, Paragraph, Section, Table
from .wording import count, decimal, share

_FROZEN = {
    "none": "nothing frozen",
    "region": "the region frozen",
    "random": "a random region frozen",
    "rest": "all but the region frozen",
}


def forgettings(results: Results) -> Section | None:
    """Show curves of what is trained on and of all else, and the perplexities at the end."""
    blocks: list[Block] = []
    for ds in results.of("forgetting"):
        arms = [str(a) for a in ds["arm"].to_numpy()]
        colours = [PALETTE[i % len(PALETTE)] for i in range(len(arms))]
        entries = [("bar", c, _FROZEN.get(a, a)) for a, c in zip(arms, colours, strict=True)]
        blocks += [Paragraph(_how(ds)), Legend(entries), _curves(ds, colours), _end(ds, arms)]
    return Section("forgetting", "Further training", blocks) if blocks else None


def _how(ds: xr.Dataset) -> str:
    language = ds.attrs.get("trained_on")
    text = f"The model is trained further{f' on “{language}”' if language else ''}, "
    return text + f"{count(float(ds['step'].max()))} updates, in arms that see the same batches."


def _curves(ds: xr.Dataset, colours: list[str]) -> Gallery:
    by, language = str(ds.attrs["by"]), ds.attrs.get("trained_on")
    steps = np.asarray(ds["step"].to_numpy(), dtype=np.float64)
    is_new = (ds[by] == language).to_numpy() if language else np.zeros(ds.sizes[by], dtype=bool)
    groups = [(str(language), is_new), ("mean of the others" if is_new.any() else "mean of all", ~is_new)]
    pictures = [
        draw_arms(
            steps,
            ds["effect"].isel({by: np.flatnonzero(chosen)}).mean(by).transpose("arm", "step").to_numpy(),
            colours,
            units="nats per token",
            title=title,
        )
        for title, chosen in groups
        if chosen.any()
    ]
    caption = "Change of the loss since before the training: above 0 it is forgotten, below 0 learned."
    if "accuracy" in ds:
        accuracy = 100 * ds["accuracy"].transpose("arm", "step").to_numpy()
        chosen = is_new if is_new.any() else ~is_new
        loss = ds["effect"].isel({by: np.flatnonzero(chosen)}).mean(by).transpose("arm", "step").to_numpy()
        pictures.append(draw_dissociation(loss, accuracy, colours, title="knowledge against language"))
        of = f" {count(ds.attrs['n_items'])}" if "n_items" in ds.attrs else ""
        caption += f" Last: accuracy on the{of} questions against that change; the ring is the end."
    return Gallery(pictures, caption)


def _end(ds: xr.Dataset, arms: list[str]) -> Table:
    by = str(ds.attrs["by"])
    conditions = [str(c) for c in ds[by].to_numpy()]
    last = ds.isel(step=-1)
    effect, low, high, perplexity = (
        last[v].transpose("arm", by).to_numpy() for v in ("effect", "low", "high", "perplexity")
    )
    limit = float(effect[np.isfinite(effect)].max(initial=0.0))
    has_probe = "accuracy" in ds
    base = [Cell(decimal(float(v))) for v in ds["perplexity_baseline"].to_numpy()]
    first = [Cell(share(float(ds["accuracy"][0, 0]), 1))] if has_probe else []
    rows = [("before", first + base)]
    for i, arm in enumerate(arms):
        cells = [Cell(share(float(last["accuracy"][i]), 1))] if has_probe else []
        for j, condition in enumerate(conditions):
            hint = f"{decimal(effect[i, j])} nats per token, {decimal(low[i, j])} to {decimal(high[i, j])}"
            cells.append(
                heat_cell(
                    decimal(float(perplexity[i, j])), float(effect[i, j]), limit, palette="Oranges",
                    marked=condition == ds.attrs.get("trained_on"), hint=hint,
                )
            )  # fmt: skip
        rows.append((_FROZEN.get(arm, arm), cells))
    caption = f"Perplexity of each {by} after the last update. Darker: more forgotten; outlined: trained on."
    if has_probe:
        caption += " Accuracy: of the questions."
    return Table("frozen", [*(["accuracy"] if has_probe else []), *conditions], rows, caption, True)
