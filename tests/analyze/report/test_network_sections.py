"""The report's sections of what networks are, of subjects and of connectivity, from real results."""

import numpy as np
import pytest
import xarray as xr

from actome.analyze.components.descriptions import describe_networks
from actome.analyze.components.labelling import label_components
from actome.analyze.connectivity import connectivity, connectivity_difference, graph_measures
from actome.analyze.contrasts import compute_contrast
from actome.analyze.glm import fit_glm
from actome.analyze.subjects import dual_regression, individual_components
from actome.store.archive import open as open_result
from actome.store.phantom import phantom
from actome.store.results import save_result

from .test_report import EVIL, page


@pytest.fixture(scope="module")
def ds():
    return phantom(
        n_prompts=4, n_tokens=(6, 9), n_layers=2, n_neurons=30, effect=2.0, fraction=0.1, n_networks=3
    )


@pytest.fixture(scope="module")
def components(ds):
    maps = ds["true_network"].astype(float).rename(network="component").assign_coords(component=[0, 1, 2])
    return (maps - maps.mean(("layer", "neuron"))).to_dataset(name="component_map")


@pytest.fixture(scope="module")
def dual(ds, components):
    return dual_regression(ds, components)


@pytest.fixture
def out(tmp_path):
    return tmp_path / "report.html"


def test_report__shows_hubs_and_overlap_of_networks(ds, out):
    masks = xr.zeros_like(ds["true_network"]).assign_coords(network=["x", "y", "z"])
    masks[:, 1, 7] = masks[0, 0, 1] = masks[1, 0, 2] = True
    shown = page(describe_networks(masks), out=out)
    assert shown.sections == ["summary", "descriptions", "provenance"]
    assert "1 neuron in two networks or more, at most in 3; 1 hub" in shown.text
    assert "layer 1, neuron 7" in shown.text


def test_report__shows_what_components_are_labelled(ds, components, dual, out):
    fit = fit_glm(ds, measure="signed")
    contrasts = {c: compute_contrast(fit, f"{c} - mean(rest)") for c in "ab"}
    labels = label_components(components, dual, contrasts, n_permutations=19)
    shown = page(labels, out=out)
    assert "Correlation over prompts of a component's mean time course" in shown.text
    assert "Correlation over neurons of a component's map with each contrast's" in shown.text
    assert "exchangeable between prompts of one run" in shown.text


def test_report__shows_subjects_in_short(ds, components, dual, out, tmp_path):
    alone = individual_components(ds, n_components=3, templates=components)
    again = open_result(save_result(dual, tmp_path / "d.zarr"))
    shown = page(again, alone, out=out)
    assert shown.sections == ["summary", "subjects", "provenance"]
    assert "Dual regression of 3 components on 12 subjects, one a prompt." in shown.text
    assert "spatial, quasi-newton, float64: 12 subjects" in shown.text
    few = dual_regression(ds.isel(token=slice(2)), components)
    assert "12 of them have too few tokens" in page(few, out=out).text


def test_report__shows_connectivity_its_differences_and_graphs(dual, out):
    connected = connectivity(dual)
    difference = connectivity_difference(connected, "a - b", n_permutations=19)
    shown = page(connected, difference, graph_measures(connected, density=0.5), out=out)
    assert shown.sections == ["summary", "connectivity", "provenance"]
    assert (
        "0 of 3 edges differ at p ≤ 0.05" in shown.text and "smallest p they can give is 0.05" in shown.text
    )
    assert "Correlation of every two networks in every condition" in shown.text
    assert "From 12 prompts." in shown.text and "modularity" in shown.text
    assert "ic0, ic1: r = " in out.read_text(encoding="utf-8")


def test_report__escapes_conditions_of_connectivity_and_drops_numbers_of_many(dual, out):
    evil = dual.assign_coords(condition=("prompt", np.full(12, EVIL, dtype=object)))
    shown = page(connectivity(evil), out=out)
    assert "script" not in shown.tags and EVIL in shown.text
