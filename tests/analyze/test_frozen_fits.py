"""What statsmodels and nilearn once made of a frozen recording (tests/reference/make_fits.py), to 1e-8."""

import json
from pathlib import Path

import numpy as np
import pytest

import actome

REFERENCE = Path(__file__).parents[1] / "reference"


@pytest.fixture(scope="module")
def theirs():
    return json.loads((REFERENCE / "fits.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def recording():
    return actome.open(REFERENCE / "fits.zarr.zip")


def same(ours, values):
    """Compare where they have a number: neither the constant neuron nor the one with a NaN."""
    there = np.array([v is not None for v in values])
    assert there.sum() == there.size - 2
    got = ours.to_numpy().ravel()
    np.testing.assert_allclose(got[there], [v for v in values if v is not None], rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("noise", ["ols", "cluster"])
@pytest.mark.parametrize("level", ["token", "prompt"])
def test_fit_glm__gives_the_frozen_numbers_of_statsmodels(noise, level, theirs):
    ds = actome.open(REFERENCE / "fits.zarr.zip", level=level)
    fit = actome.fit_glm(ds, noise=noise)
    found = theirs["statsmodels"]
    t = actome.compute_contrast(fit, "a - b").compute()
    same(t["effect"], found[f"{noise}_effect"])
    same(t["stat"], found[f"{noise}_stat"])
    assert t["effect"].sel(layer=0, neuron=3) == pytest.approx(0, abs=1e-12)  # it never varies
    assert t["stat"].sel(layer=0, neuron=3).isnull() and t["effect"].sel(layer=1, neuron=5).isnull()
    if noise == "ols":
        same(t["p_value"], found["ols_p_value"])
        names = [str(r) for r in fit["regressor"].to_numpy()]
        rows = np.zeros((2, len(names)))
        for row, (plus, minus) in enumerate((("a", "b"), ("b", "rest"))):
            rows[row, names.index(plus)], rows[row, names.index(minus)] = 1, -1
        f = actome.compute_contrast(fit, rows).compute()
        same(f["stat"], found["ols_f_stat"])
        same(f["p_value"], found["ols_f_p_value"])


def test_fit_glm__gives_the_frozen_numbers_of_nilearn(recording, theirs):
    found = theirs["nilearn"]
    fit = actome.fit_glm(
        recording.isel(prompt=[found["prompt"]]), "token_position", noise="ar1", confounds=()
    ).compute()
    ours = actome.compute_contrast(fit, "token_position")["stat"].to_numpy().ravel()[found["neurons"]]
    rho = fit["autocorrelation"].to_numpy().ravel()[found["neurons"]]
    same_bin = np.isclose(np.trunc(rho * 100) / 100, found["rho_bin"])  # theirs divides by one row fewer
    assert same_bin.sum() >= 4
    np.testing.assert_allclose(ours[same_bin], np.array(found["stat"])[same_bin], rtol=1e-9)
