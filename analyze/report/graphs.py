"""Drawings of the graphs of networks: nodes on a circle, coloured by community, with the edges between."""

import numpy as np
import xarray as xr

from .figures import INK, PALETTE, drawable_labels, new_figure, picture
from .gather import Bool
from .page import Gallery, Picture

_SIZE = 250  # CSS pixels
_ALONE = "#c4c4c4"


def graph_gallery(ds: xr.Dataset) -> Gallery:
    """Draw the graph of every condition."""
    names = [str(n) for n in ds["network"].to_numpy()]
    labels, key = drawable_labels(names)
    pictures = [
        _draw(
            ds["edge"].isel(condition=c).transpose("network", "network_other").to_numpy().astype(bool),
            ds["community"].isel(condition=c).to_numpy().astype(int).tolist(),
            labels,
            str(condition),
        )
        for c, condition in enumerate(ds["condition"].to_numpy())
    ]
    caption = (
        "Networks that vary together: every line is an edge, larger nodes have more of them. Colour: "
        "community; grey: without an edge. Each network has the same place in all."
    )
    return Gallery(pictures, f"{caption} {key}".strip(), small=len(pictures) > 2)


def _draw(edge: Bool, community: list[int], labels: list[str], title: str) -> Picture:
    n = len(labels)
    angle = np.pi / 2 - 2 * np.pi * np.arange(n) / n  # from the top, clockwise
    x, y = np.cos(angle), np.sin(angle)
    figure = new_figure(_SIZE, _SIZE)
    axes = figure.add_axes((0, 0, 1, 1))
    for i, j in np.argwhere(np.triu(edge, 1)):
        axes.plot(x[[i, j]], y[[i, j]], color="#b5b5b5", linewidth=0.9, zorder=1)
    degree = edge.sum(axis=1)
    colours = [PALETTE[c % len(PALETTE)] if d else _ALONE for c, d in zip(community, degree, strict=True)]
    axes.scatter(x, y, s=25 + 200 * degree / max(n - 1, 1), c=colours, zorder=2)
    for i, label in enumerate(labels):
        axes.text(1.2 * x[i], 1.2 * y[i], label, ha="center", va="center", fontsize=7, color=INK)
    axes.set(xlim=(-1.4, 1.4), ylim=(-1.4, 1.4), aspect="equal")
    axes.axis("off")
    return picture(figure, f"Graph of {n} networks with {int(edge.sum()) // 2} edges: {title}", title)
