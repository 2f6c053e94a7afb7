"""Importance without a model: three conditions, three tensors, numbers drawn at random."""

import numpy as np
import xarray as xr

SHAPES = {"m.0.q_proj.weight": (12, 10), "m.0.down_proj.weight": (10, 20), "m.norm.weight": (1, 10)}
MATRIX = {"m.0.q_proj.weight": "q", "m.0.down_proj.weight": "down", "m.norm.weight": "norm"}
CONDITIONS = ("de", "en", "fr")


def importance(seed: int = 0, shapes: dict[str, tuple[int, int]] | None = None) -> xr.DataTree:
    rng = np.random.default_rng(seed)
    root = xr.Dataset(
        {"loss": ("condition", [1.0, 2.0, 3.0])},
        coords={"condition": np.array(CONDITIONS, dtype=object)},
        attrs={"kind": "importance", "selected_on": ["p0", "p1"], "manifest_digest": "sha256:i"},
    )
    nodes = {"/": root}
    for name, shape in (shapes or SHAPES).items():
        values = rng.lognormal(sigma=2, size=(3, *shape)).astype(np.float32)
        nodes[name] = xr.Dataset(
            {"importance": (("condition", "row", "column"), values)},
            attrs={"matrix": MATRIX.get(name, "q"), "layer": 0 if ".0." in name else -1, "rows": "out"},
        )
    return xr.DataTree.from_dict(nodes)


def regions(masks: dict[str, np.ndarray], names: tuple[str, ...]) -> xr.DataTree:
    """Regions from masks (region, row, column)."""
    root = xr.Dataset(coords={"region": np.array(names, dtype=object)}, attrs={"selected_on": []})
    nodes = {n: xr.Dataset({"mask": (("region", "row", "column"), m)}) for n, m in masks.items()}
    return xr.DataTree.from_dict({"/": root, **nodes})
