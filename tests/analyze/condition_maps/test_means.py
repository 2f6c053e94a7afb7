import dask
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actome.analyze.condition_maps import PromptMeans, draws_at_once, means, read_labels
from actome.analyze.condition_maps.labelling import permute_within
from actome.store.blocks import prompt_level
from actome.store.phantom import phantom
from tests.strategies import chunkings

PHANTOM = phantom(n_prompts=4, n_tokens=(2, 5), n_layers=3, n_neurons=50, seed=1)


def put_together(source):
    out = np.full((source.moments.sizes["prompt"], source.n_neurons), np.nan)
    for places, values in source.blocks():
        assert np.isnan(out[:, places]).all() and len(places) <= source.width
        out[:, places] = values
    return out


@given(st.data())
def test_prompt_means__come_whole_whatever_the_chunks(data):
    few = PHANTOM.isel(neuron=slice(8))
    ds = few.chunk(data.draw(chunkings(few)))
    expected = prompt_level(few)["mean_abs"].to_numpy().reshape(12, -1)
    np.testing.assert_array_equal(put_together(PromptMeans(ds, "magnitude")), expected)


@pytest.mark.parametrize("workers", [1, 4])
def test_prompt_means__do_not_depend_on_the_number_of_workers(workers):
    with dask.config.set(scheduler="threads", num_workers=workers):
        values = put_together(PromptMeans(PHANTOM.chunk(prompt=3, neuron=9), "magnitude"))
    np.testing.assert_array_equal(values, prompt_level(PHANTOM)["mean_abs"].to_numpy().reshape(12, -1))


@pytest.mark.parametrize("level", ["token", "prompt"])
def test_prompt_means__come_in_small_pieces_where_they_do_not_fit(level, monkeypatch):
    monkeypatch.setattr(means, "_HELD_BYTES", 0)
    monkeypatch.setattr(means, "_PIECE_BYTES", 12 * 8 * 20)
    monkeypatch.setattr(means, "_WIDTHS", (1, 7))
    ds = PHANTOM if level == "token" else prompt_level(PHANTOM).compute()
    ds = ds.chunk(prompt=5, layer=2)
    source = PromptMeans(ds, "signed")
    assert len(list(source.blocks())) > 150 / 7
    np.testing.assert_array_equal(put_together(source), prompt_level(ds)["mean"].to_numpy().reshape(12, -1))


def test_prompt_means__leave_out_empty_prompts_and_neurons_with_a_nan():
    ds = PHANTOM.copy(deep=True)
    ds["token_id"][{"prompt": 2}] = -1
    ds["activation"][{"prompt": 2}] = np.nan
    ds["activation"][{"prompt": 4, "layer": 1, "neuron": 3}] = np.nan
    source = PromptMeans(ds, "signed")
    assert source.moments.sizes["prompt"] == 11
    with pytest.warns(UserWarning, match="1 of 150 neurons have no value, as activations of theirs are not"):
        missing = np.isnan(put_together(source)).all(axis=0)
    assert np.flatnonzero(missing).tolist() == [53]
    put_together(source)  # it was said


def test_read_labels__deals_by_id_whatever_the_order_of_the_prompts(rng):
    order = rng.permutation(PHANTOM.sizes["prompt"])
    _, labels = read_labels(PHANTOM, "run", "signed", 5, 3, "a test")
    _, other = read_labels(PHANTOM.isel(prompt=order), "run", "signed", 5, 3, "a test")
    np.testing.assert_array_equal(other.code, labels.code[:, order])
    assert len(np.unique(labels.code, axis=0)) > 3
    assert labels.conditions == ["a", "b", "rest"] and labels.folds == [0, 1]
    for code in labels.code:
        for fold in (0, 1):
            assert np.bincount(code[labels.fold == fold]).tolist() == labels.count[fold].tolist() == [2, 2, 2]


def test_permute_within__keeps_the_labels_of_every_fold(rng):
    code, fold = rng.integers(0, 3, 60), np.arange(60) % 2
    code[fold == 1] += 3
    permuted = permute_within(code, fold, rng)
    assert (permuted != code).any()
    for f in (0, 1):
        assert sorted(permuted[fold == f]) == sorted(code[fold == f])


def test_draws_at_once__covers_all_within_the_memory(rng):
    source, labels = read_labels(PHANTOM, "run", "signed", 40, 0, "a test")
    for bytes_per_draw, n_batches in ((1, 1), (2**29 / 10, 5), (2**40, 41)):
        batches = list(draws_at_once(labels, source, bytes_per_draw))
        assert np.concatenate([np.arange(41)[b] for b in batches]).tolist() == list(range(41))
        assert len(batches) == n_batches
