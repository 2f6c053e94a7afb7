"""Prompts that selected something do not score it, whatever they are called."""

import warnings

import numpy as np
import pytest
import xarray as xr

import actome
from actome.ingest.held_out import held_out
from actome.ingest.phantom import phantom_model
from actome.store.errors import InputError
from actome.store.selection import Selection

FIRST = [{"text": f"le chat {i}"} for i in range(4)]
OTHER = [{"text": f"the cat {i}"} for i in range(4)]


def selected(prompts):
    return Selection.of(actome.Paradigm(prompts).table)


def test_held_out__leaves_out_the_same_text_under_another_id():
    again = actome.Paradigm([*OTHER, {"text": "le chat 2"}])
    left = held_out(again, selected(FIRST), "masks")
    assert left.table["text"].tolist() == [p["text"] for p in OTHER]


def test_held_out__keeps_other_texts_under_the_same_ids():
    other = actome.Paradigm(OTHER)
    assert other.table["prompt"].tolist() == actome.Paradigm(FIRST).table["prompt"].tolist()
    assert held_out(other, selected(FIRST), "masks") is other


def test_held_out__takes_ids_given_by_hand():
    by_hand = Selection.noted({"selected_on": ["all-0001", "all-0003"]})
    left = held_out(actome.Paradigm(OTHER), by_hand, "masks")
    assert left.table["prompt"].tolist() == ["all-0000", "all-0002"]
    every = Selection.noted({"selected_on": [f"all-{i:04d}" for i in range(4)]})
    with pytest.raises(
        InputError, match=r"every prompt of the paradigm took part .* give the prompts other ids"
    ):
        held_out(actome.Paradigm(OTHER), every, "masks")
    with pytest.raises(InputError, match=r"every prompt of the paradigm took part .* other prompts$"):
        held_out(actome.Paradigm(FIRST), selected(FIRST), "masks")


def test_held_out__warns_where_nothing_says():
    other = actome.Paradigm(OTHER)
    with pytest.warns(UserWarning, match="the masks do not say .* none is left out"):
        assert held_out(other, None, "masks") is other


def test_score__leaves_out_what_any_mask_says_and_names_the_silent(model, phantom, masks, tmp_path):
    paradigm = phantom.paradigm
    selecting = paradigm.select(run=0)
    known = masks.sel(network="a", drop=True).assign_attrs(Selection.of(selecting.table).attrs)
    given = {"a": known, "first": lambda layer, neuron: (neuron < 3) & (layer == 0)}
    with pytest.warns(UserWarning, match="the masks 'first' do not say which prompts selected them"):
        scores = actome.score(model, paradigm, tmp_path / "s.zarr", given, controls=0)
    assert set(scores["run"].values.tolist()) == {1, 2}
    assert set(scores.attrs["selected_on"]) == set(selecting.table["prompt"])
    effects = actome.lesion_effects(scores, n_bootstrap=2)
    assert Selection.noted(effects.attrs) == Selection.noted(scores.attrs)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        both = {"a": known, "b": masks.sel(network="b", drop=True)}
        actome.score(model, paradigm.select(run=1), tmp_path / "t.zarr", both, controls=0)


def test_score__masks_of_a_recording_tell_texts_apart(model, phantom, masks, tmp_path):
    table = phantom.paradigm.table
    one, other = (
        actome.Paradigm(table[table["run"] == r][["text", "condition"]], name=f"run {r}") for r in (0, 1)
    )
    assert one.table["prompt"].tolist() == other.table["prompt"].tolist()
    fit = actome.fit_glm(actome.record(model, one, tmp_path / "r.zarr"))
    found = actome.threshold(actome.compute_contrast(fit, "a - b"), control=actome.Top(0.05))
    scores = actome.score(model, other, tmp_path / "s.zarr", found, controls=0)
    assert scores.sizes["prompt"] == len(other)
    assert actome.lesion_effects(scores, n_bootstrap=2).sizes["condition"] == 2
    renamed = one.table.assign(prompt=[f"q{i}" for i in range(len(one))])
    with pytest.raises(InputError, match="every prompt of the paradigm took part"):
        actome.score(model, actome.Paradigm(renamed), tmp_path / "t.zarr", found, controls=0)
    with pytest.raises(InputError, match="took part in selecting the networks"):
        again = scores.assign_coords(text=("prompt", one.table["text"].to_numpy()))
        actome.lesion_effects(again, n_bootstrap=2)


def test_importance__regions_are_scored_on_other_texts(tmp_path):
    small = phantom_model(n_layers=1)
    model, table = (small.module, small.tokenizer), small.paradigm.table
    one, other = (actome.Paradigm(table[table["run"] == r][["text", "condition"]]) for r in (0, 1))
    found = actome.region(actome.importance(model, one, tmp_path / "i.zarr"), top=0.05)
    scores = actome.score_regions(model, other, tmp_path / "s.zarr", found, controls=0)
    assert scores.sizes["prompt"] == len(other)
    assert Selection.noted(scores.attrs) == Selection.of(one.table)
    assert np.isfinite(actome.region_effects(scores, n_bootstrap=2)["effect"]).all()
    with pytest.raises(InputError, match="took part in selecting the regions"):
        actome.region_effects(
            scores.assign_coords(text=("prompt", one.table["text"].to_numpy())), n_bootstrap=2
        )
    places = actome.top_places(actome.open(tmp_path / "i.zarr"), n=1, n_random=0)
    assert isinstance(places, xr.Dataset) and Selection.noted(places.attrs) == Selection.of(one.table)
