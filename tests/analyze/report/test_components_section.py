"""Components in the report: stability, chance, halves, windows of layers."""

import numpy as np
import xarray as xr

from .test_report import components, page


def certain(found: xr.Dataset) -> xr.Dataset:
    """Give a decomposition what a null says of it."""
    values = {
        "split_half": [0.87, 0.21, np.nan],
        "departure": [4.0, 1.0, 0.5],
        "p_value": [0.05, 0.2, 0.85],
        "is_network": [True, False, False],
    }
    draws = ("draw", np.linspace(0.2, 0.4, 21))
    return found.assign({k: ("component", v) for k, v in values.items()}).assign(null_stability=draws)


def test_report__says_which_components_are_more_than_chance(tmp_path):
    shown = page(certain(components()), out=tmp_path / "r.html")
    assert "1 of 3 components are networks: more stable, and farther from Gaussian" in shown.text
    assert "of each of 21 draws: median 0.300, 95 % quantile 0.390." in shown.text
    for seen in ("not a network", "0.050", "0.20", "0.87", "0.21", "1 beat chance"):
        assert seen in shown.text


def test_report__shows_windows_of_layers(tmp_path):
    found = certain(components(shape=(4, 64)))
    found["component_map"][0, 2:] = np.nan
    found["component_map"][1:, :2] = np.nan
    found = found.assign_coords(window=("component", [0, 2, 2])).assign_attrs(window=2)
    converged = ("of_window", "repeat"), [[True] * 4, [True, False, True, True]]
    draws = ("of_window", "draw"), np.stack([np.linspace(0.2, 0.4, 21), np.linspace(0.5, 0.7, 21)])
    found = found.assign(converged=converged, null_stability=draws).assign_coords(of_window=[0, 2])
    shown = page(found, out=tmp_path / "r.html")
    assert "those of each window of 2 layers on their own" in shown.text
    assert "layers from 0: 4 of 4 repeats converged. layers from 2: 3 of 4 repeats" in shown.text
    assert "layers from 0: median 0.300, 95 % quantile 0.390; layers from 2: median 0.600" in shown.text
    assert "from layer" in shown.text
