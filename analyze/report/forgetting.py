"""The section on further training: what is learned and forgotten, by what was frozen."""

import numpy as np
import scipy.stats
import xarray as xr

from .curve_figures import draw_arms, draw_dissociation
from .effects import span
from .figures import PALETTE
from .gather import Bool, Float64, Results
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
    others = "mean of the others" if is_new.any() else "mean of all"
    groups = [(f"{language}, trained on", is_new), (others, ~is_new)]
    drawn = [(title, *_mean(ds, by, chosen)) for title, chosen in groups if chosen.any()]
    pictures = [
        draw_arms(steps, change, interval, colours, units="nats per token", title=title)
        for title, change, interval in drawn
    ]
    caption = (
        "Change of the loss since before the training: above 0 it is forgotten, below 0 learned. Shaded: "
        "95 % interval over prompts; of a mean, from those of its parts, which share no prompt."
    )
    if "accuracy" in ds:
        accuracy = ds["accuracy"].transpose("arm", "step").to_numpy()
        of, end = "", None
        if "n_items" in ds.attrs:
            of, end = f" {count(ds.attrs['n_items'])}", _wilson(accuracy[:, -1], int(ds.attrs["n_items"]))
        pictures.append(
            draw_dissociation(drawn[0][1], accuracy, end, colours, title="knowledge against language")
        )
        caption += f" Last: accuracy on the{of} questions against the first change; the ring is the end"
        caption += "." if end is None else ", with Wilson's 95 % interval."
    return Gallery(pictures, caption)


def _mean(ds: xr.Dataset, by: str, chosen: Bool) -> tuple[Float64, tuple[Float64, Float64]]:
    """Mean change (arm, step) of some conditions and its interval, their bootstraps being independent."""
    part = ds[["effect", "low", "high"]].isel({by: np.flatnonzero(chosen)}).transpose(by, "arm", "step")
    effect, low, high = (part[v].to_numpy() for v in ("effect", "low", "high"))
    mean = effect.mean(axis=0)
    below, above = (np.sqrt(np.square(effect - end).sum(axis=0)) / len(effect) for end in (low, high))
    return mean, (mean - below, mean + above)


def _wilson(share: Float64, n: int) -> tuple[Float64, Float64]:
    """95 % interval of a share of `n` answers [1]_.

    References
    ----------
    .. [1] Wilson (1927), Journal of the American Statistical Association 22:209-212.
    """
    square = float(scipy.stats.norm.ppf(0.975)) ** 2 / n
    centre, half = share + square / 2, np.sqrt(share * (1 - share) * square + square**2 / 4)
    return (centre - half) / (1 + square), (centre + half) / (1 + square)


def _beyond(cell: xr.Dataset) -> str:
    excess, low, high = (float(cell[v]) for v in ("excess", "excess_low", "excess_high"))
    return f"; {decimal(excess)} more than with the region frozen, {span(low, high)}"


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
            hint = f"{decimal(effect[i, j])} nats per token, {span(low[i, j], high[i, j])}"
            hint += _beyond(last.isel({"arm": i, by: j})) if "excess" in last and arm != "region" else ""
            cells.append(
                heat_cell(
                    decimal(float(perplexity[i, j])), float(effect[i, j]), limit, palette="Oranges",
                    marked=condition == ds.attrs.get("trained_on"), hint=hint,
                )
            )  # fmt: skip
        rows.append((_FROZEN.get(arm, arm), cells))
    caption = f"Perplexity of each {by} after the last update. Darker: more forgotten; outlined: trained on. "
    caption += "The change of the loss and its interval show when the mouse rests on a cell."
    if has_probe:
        caption += " Accuracy: of the questions."
    return Table("frozen", [*(["accuracy"] if has_probe else []), *conditions], rows, caption, True)
