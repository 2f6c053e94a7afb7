"""Draw the README's figure from what ``make demo`` left: ``python examples/lesions_figure.py``."""

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

import actome

NAMES = {
    "de": "German",
    "el": "Greek",
    "en": "English",
    "es": "Spanish",
    "fr": "French",
    "it": "Italian",
    "ja": "Japanese",
    "pt": "Portuguese",
    "ru": "Russian",
    "code": "Python code",
}


def main() -> None:
    """Write docs/lesions.png."""
    root = Path(__file__).parents[1]
    effects = actome.lesion_effects(actome.open(root / "data/demo/lesions_glm.zarr"))
    order = list(NAMES)
    effect = effects["effect"].sel(network=order, condition=order).to_numpy()
    control = effects["control"].mean("draw").sel(network=order, condition=order).to_numpy()
    figure = Figure(figsize=(9.6, 5.4), dpi=150, layout="constrained")
    axes = figure.subplots(1, 2, sharey=True)
    for ax, values, title in (
        (axes[0], effect, "the network"),
        (axes[1], control, "matched random neurons (mean of the draws)"),
    ):
        image = ax.imshow(values, cmap="OrRd", vmin=0, vmax=effect.max())
        for i, j in np.ndindex(values.shape):
            dark = values[i, j] > 0.6 * effect.max()
            ax.text(
                j, i, f"{values[i, j]:.1f}", ha="center", va="center", fontsize=7, color="w" if dark else "k"
            )
        ax.set_xticks(range(len(order)), NAMES.values(), rotation=45, ha="right", fontsize=8)
        ax.set_yticks(range(len(order)), NAMES.values(), fontsize=8)
        ax.set_title(f"removed: {title}", fontsize=9)
        ax.set_xlabel("tested on held-out passages in", fontsize=8)
    axes[0].set_ylabel("network of", fontsize=8)
    figure.colorbar(image, ax=axes, shrink=0.8).set_label("rise of the loss, nats per token", fontsize=8)
    figure.savefig(root / "docs" / "lesions.png")


if __name__ == "__main__":
    main()
