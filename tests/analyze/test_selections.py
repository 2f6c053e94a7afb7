"""What every result says of the prompts that it was made from: their ids, and digests of their texts."""

import numpy as np
import pytest

import actome
from actome.store.phantom import phantom
from actome.store.selection import SELECTION, Selection, kept_selection


@pytest.fixture(scope="module")
def ds():
    return phantom(n_prompts=8, n_tokens=(12, 14), n_layers=2, n_neurons=12, n_runs=2, n_networks=2)


def own(ds):
    return Selection.of(ds).attrs


def test_selection__goes_along_from_a_fit_to_a_network(ds, tmp_path):
    assert set(own(ds)) == set(SELECTION)
    fit = actome.fit_glm(ds)
    actome.save_result(fit, tmp_path / "f.zarr")
    contrast = actome.compute_contrast(actome.open(tmp_path / "f.zarr"), "a - b")
    tested = actome.permutation_test(ds, "a - b", n_permutations=9)
    course = actome.time_course(ds, fit, layer=0, neuron=0)
    mask = actome.threshold(contrast, control=actome.Top(0.5))
    for made in (fit, contrast, tested, course, mask, actome.true_discoveries(contrast, "layer")):
        assert kept_selection(made.attrs) == own(ds)


def test_selection__goes_along_from_components_to_what_is_made_of_them(ds):
    first, other = (ds.isel(prompt=np.flatnonzero(ds["run"] == r)) for r in (0, 1))
    found = actome.group_ica(first, n_components=2, n_runs=1, null=0)
    dual = actome.dual_regression(other, found)
    masks = actome.networks(found)
    for made in (found, dual, masks, actome.network_time_courses(other, masks), actome.connectivity(dual)):
        assert kept_selection(made.attrs) == own(first)
    both = Selection.of(first) | Selection.of(other)
    assert kept_selection(actome.networks(dual).attrs) == both.attrs
    alone = actome.individual_components(other, n_components=2)
    assert kept_selection(actome.networks(alone).attrs) == own(other)
    counted = actome.recurrence(masks, actome.networks(alone), null=None)
    assert counted.attrs["selected_texts"] == own(first)["selected_texts"]
    assert counted.attrs["selected_texts_individuals"] == own(other)["selected_texts"]


def test_fold_network__keeps_the_texts_of_those_that_selected(ds):
    crossed = actome.cross_fit(ds, "a - b")
    one = actome.fold_network(crossed, 0)
    assert kept_selection(one.attrs) == own(ds.isel(prompt=np.flatnonzero(ds["run"] != 0)))
    turned = actome.fold_network(crossed.isel(prompt=slice(None, None, -1)), 0)
    assert sorted(turned.attrs["selected_on"]) == sorted(one.attrs["selected_on"])
    assert "selected_texts" not in turned.attrs
