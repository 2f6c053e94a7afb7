"""The phantom's planted networks as masks."""

import pytest
import xarray as xr


@pytest.fixture
def masks(phantom):
    coords = {"network": ["a", "b"], "layer": range(3), "neuron": range(64)}
    dims, known = ("network", "layer", "neuron"), {"selected_on": []}  # the truth needed no prompt
    return xr.DataArray(phantom.networks, dims=dims, coords=coords, attrs=known)
