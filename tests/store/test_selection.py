"""Prompts that selected something are known by their texts, and by their ids where texts are unknown."""

import pandas as pd
import pytest
import xarray as xr

import actome
from actome.store.selection import SELECTION, Selection, joined_selection, kept_selection
from actome.store.sharing.hiding import hidden_text


def table(**texts):
    return pd.DataFrame({"prompt": [*texts], "text": [*texts.values()]})


def mask(attrs):
    return xr.DataArray([[True, False]], dims=("layer", "neuron"), name="mask", attrs=attrs)


def test_shared__the_text_decides_where_both_sides_have_it():
    selected = Selection.of(table(p0="le chat", p1="le chien"))
    shown = Selection.of(table(p0="the cat", q9="le chat"))
    assert selected.shared(shown).tolist() == [False, True]
    assert shown.shared(selected).tolist() == [True, False]


def test_shared__the_id_decides_where_a_side_lacks_the_text():
    by_hand = Selection.noted({"selected_on": ["p0", "p7"]})
    shown = Selection.of(table(p0="the cat", q9="le chat"))
    assert by_hand.shared(shown).tolist() == [True, False]
    assert shown.shared(by_hand).tolist() == [True, False]
    assert by_hand.shared(shown, by_id=False).tolist() == [False, False]
    both = by_hand | Selection.of(table(p7="le chat"))
    assert both.shared(shown).tolist() == [True, True]


def test_selection__of_a_recording_is_that_of_its_paradigm():
    texts = table(p0="le chat", p1="le chien")
    ds = xr.Dataset(coords={"prompt": ["p0", "p1"], "text": ("prompt", texts["text"].to_numpy())})
    assert Selection.of(ds) == Selection.of(texts)
    assert Selection.of(ds.drop_vars("text")).attrs == {"selected_on": ["p0", "p1"]}


def test_selection__knows_a_text_that_was_exported_as_its_digest():
    hidden = table(q0=hidden_text("le chat"), q1=hidden_text("the cat"), q2="")
    assert Selection.of(table(p0="le chat")).shared(Selection.of(hidden)).tolist() == [True, False, False]


def test_noted__reads_what_attrs_says_and_what_was_saved(tmp_path):
    selection = Selection.of(table(p0="le chat", p1="", p2="le chien"))
    assert set(selection.attrs) == set(SELECTION) and selection.attrs["selected_texts"][1] == ""
    assert Selection.noted(selection.attrs) == selection
    actome.save_result(mask(selection.attrs), tmp_path / "m.zarr")
    assert Selection.noted(actome.open(tmp_path / "m.zarr").attrs) == selection
    assert Selection.noted({}) is None and Selection.noted({"selected_on": None}) is None
    assert Selection.noted({"selected_on": []}) == Selection()


@pytest.mark.parametrize("ids", [["p1", "p0"], ["q0", "q1"], ["p0"], ["p0", "p1", "p2"], []])
def test_noted__takes_a_list_given_by_hand_for_what_it_is(ids):
    attrs = {**Selection.of(table(p0="le chat", p1="le chien")).attrs, "selected_on": ids}
    assert Selection.noted(attrs) == Selection(tuple((name, "") for name in ids))


def test_joined_selection__keeps_prompts_that_share_an_id_apart():
    first, other = (Selection.of(table(p0=text)) for text in ("le chat", "the cat"))
    both = joined_selection(first.attrs, {}, other.attrs, first.attrs)
    assert both == Selection(first.prompts + other.prompts)
    assert Selection.noted(both.attrs) == both and both.attrs["selected_on"] == ["p0", "p0"]


def test_kept_selection__adds_nothing():
    assert kept_selection({"selected_on": ["p0"], "kind": "mask"}) == {"selected_on": ["p0"]}
    assert kept_selection({"kind": "mask"}) == {}
