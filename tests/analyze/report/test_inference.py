"""The sections on true discoveries, cross-fitted effects and matched networks."""

import numpy as np
import pytest

import actome
from actome.store.phantom import phantom

from .test_report import page


@pytest.fixture(scope="module")
def ds():
    return phantom(n_prompts=12, n_layers=2, n_neurons=40, fraction=0.1, effect=1.5, seed=1)


@pytest.fixture
def contrast(ds):
    return actome.compute_contrast(actome.fit_glm(ds), "a - rest")


def test_report__tells_how_many_neurons_are_active_at_least(contrast, tmp_path):
    found = actome.true_discoveries(contrast, "layer")
    read = page(found, out=tmp_path / "r.html")
    assert read.sections[0] == "summary" and "discoveries" in read.sections
    assert "layer 1" in read.text and f"{int(found['discoveries'][1])}" in read.text
    assert "95 % confidence" in read.text and "positively dependent" in read.text


def test_report__shows_cross_fitted_effects_beside_naive_ones(ds, tmp_path):
    fitted = actome.cross_fit(ds, "a - rest", control=actome.Top(0.05))
    actome.save_result(fitted, tmp_path / "c.zarr")
    read = page(actome.open(tmp_path / "c.zarr"), out=tmp_path / "r.html")
    assert "crossfit" in read.sections and "all folds" in read.text and "Top(0.05)" in read.text
    assert f"{float(fitted['naive_combined']):.2f}" in read.text


def test_report__outlines_partners(contrast, tmp_path):
    a = actome.threshold(contrast, control=actome.Top(0.05)).expand_dims(
        network=np.array(["x"], dtype=object)
    )
    b = a.assign_coords(network=np.array(["y"], dtype=object))
    read = page(actome.match_networks(a, b), out=tmp_path / "r.html")
    assert "matching" in read.sections and "partner" in read.text and "1.00" in read.text


def test_report__of_a_network_without_neurons_has_no_effect(ds, tmp_path):
    fitted = actome.cross_fit(ds, "a - rest", control=actome.P(1e-12))
    assert int(fitted["size"].sum()) == 0
    assert "crossfit" in page(fitted, out=tmp_path / "r.html").sections
