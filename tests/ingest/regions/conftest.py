"""Regions of the phantom, by hand and by importance."""

import numpy as np
import pytest
import xarray as xr

from actome.ingest.parameters import find_parameters


@pytest.fixture
def make_regions(phantom):
    """Regions of the phantom's matrices from a function of (name, shape, number of the region) -> mask."""

    def make(names, mask_of, selected_on=(), **labels):
        root = xr.Dataset(
            coords={"region": np.array(names, dtype=object)}
            | {k: ("region", np.array(v, dtype=object)) for k, v in labels.items()},
            attrs={"selected_on": list(selected_on)},
        )
        nodes = {"/": root}
        for p in find_parameters(phantom.module):
            masks = np.stack([mask_of(p.name, p.shape, k) for k in range(len(names))])
            nodes[p.name] = xr.Dataset({"mask": (("region", "row", "column"), masks)})
        return xr.DataTree.from_dict(nodes)

    return make


@pytest.fixture
def planted(make_regions, phantom):
    """The rows of the gates that know each language: lesioned, its words are no longer foretold."""

    def mask_of(name, shape, k):
        mask = np.zeros(shape, dtype=bool)
        if "gate_proj" in name:
            mask[phantom.networks[k, int(name.split(".")[2])]] = True
        return mask

    return make_regions(["a", "b"], mask_of, role=["monolingual", "monolingual"])
