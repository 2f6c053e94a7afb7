import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actome.analyze.crossfit.folds import held_out
from actome.store.errors import ActomeError
from actome.store.phantom import phantom


def spread(folds):
    """How much larger the largest fold is."""
    size = folds.sum("prompt").to_numpy()
    return size.max() - size.min()


BY_RUN = phantom(n_prompts=7, n_runs=3, n_tokens=(1, 2), n_layers=1, n_neurons=20)


def test_held_out__leaves_out_each_value_of_the_label():
    folds = held_out(BY_RUN)
    assert folds["fold"].to_numpy().tolist() == [0, 1, 2]
    for run, fold in enumerate(folds):
        assert fold.to_numpy().tolist() == (BY_RUN["run"] == run).to_numpy().tolist()
    words = held_out(BY_RUN, by="condition")
    assert words["fold"].to_numpy().tolist() == ["a", "b", "rest"]
    assert (words.attrs["folds"], folds.attrs["folds"]) == ("condition", "run")


@pytest.mark.parametrize(
    "change", [lambda ds: ds.drop_vars("run"), lambda ds: ds.isel(prompt=ds["run"] == 0)]
)
def test_held_out__parts_in_two_what_has_no_runs(change):
    folds = held_out(change(BY_RUN))
    assert folds.attrs["folds"] == "2 parts, drawn"
    assert spread(folds) <= 1


@given(st.integers(2, 6), st.integers(0, 99), st.sets(st.integers(0, 20), max_size=8))
def test_held_out__drawn_folds_are_balanced_in_every_label(n_folds, seed, left_out):
    ds = BY_RUN.isel(prompt=[i for i in range(21) if i not in left_out])
    folds = held_out(ds, n_folds=n_folds, seed=seed)
    assert folds.sizes["fold"] == n_folds
    assert (folds.sum("fold") == 1).all()
    assert spread(folds) <= 1
    for condition in "a", "b", "rest":
        mine = ds["condition"] == condition
        assert spread(folds & mine) <= 1
        for run in range(3):
            assert spread(folds & mine & (ds["run"] == run)) <= 1


def test_held_out__drawn_folds_are_balanced_in_the_label_of_the_formula():
    language = np.resize(["fr", "de", "fr", "en", "de"], 21)
    ds = BY_RUN.drop_vars(["condition", "run"]).assign_coords(language=("prompt", language))
    folds = held_out(ds, n_folds=4, formula="language")
    for value in "fr", "de", "en":
        assert spread(folds & (ds["language"] == value)) <= 1


def test_held_out__draws_by_name_not_by_place(rng):
    folds = held_out(BY_RUN, n_folds=3, seed=4)
    order = rng.permutation(21)
    again = held_out(BY_RUN.isel(prompt=order), n_folds=3, seed=4)
    np.testing.assert_array_equal(again.to_numpy(), folds.to_numpy()[:, order])
    assert (held_out(BY_RUN, n_folds=3, seed=5).to_numpy() != folds.to_numpy()).any()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"by": "session"}, "no label 'session' to make folds of; it has .*'condition', 'run'"),
        ({"by": "site"}, "'site' has one value in the prompts with tokens"),
        ({"n_folds": 1}, "n_folds must be a whole number from 2 to 21, got 1"),
        ({"n_folds": 22}, "n_folds must be a whole number from 2 to 21, got 22"),
        ({"n_folds": True}, "n_folds must be a whole number"),
        ({"n_folds": 2.0}, "n_folds must be a whole number"),
    ],
)
def test_held_out__refuses(options, message):
    ds = BY_RUN.assign_coords(site=("prompt", ["mlp"] * 21))
    with pytest.raises(ValueError, match=message) as caught:
        held_out(ds, **options)
    assert isinstance(caught.value, ActomeError)
