"""Selectivity and similarity against scikit-learn, SciPy and NumPy, and against what was planted."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

import actome
from actome.store.blocks import prompt_level
from actome.store.errors import InputError
from actome.store.phantom import phantom


@pytest.fixture(scope="module")
def planted():
    return phantom(n_prompts=20, n_tokens=(3, 9), n_layers=2, n_neurons=30, fraction=0.1, effect=2.0, seed=2)


@pytest.mark.parametrize("measure", ["magnitude", "signed"])
def test_selective_neurons__agrees_with_scikit_learn(planted, measure):
    table = actome.selective_neurons(planted, measure=measure, k=7)
    moments = prompt_level(planted)
    values = moments["mean_abs" if measure == "magnitude" else "mean"].to_numpy()
    labels = moments["condition"].to_numpy().astype(str)
    assert len(table) == 7 * len(np.unique(labels))
    for row in table.itertuples():
        x, inside = values[:, row.layer, row.neuron], labels == row.condition
        a, b = x[inside], x[~inside]
        d_prime = (a.mean() - b.mean()) / np.sqrt((a.var(ddof=1) + b.var(ddof=1)) / 2)
        assert row.auc == pytest.approx(roc_auc_score(inside, x), abs=1e-12)
        assert (row.d_prime, row.mean, row.mean_other) == pytest.approx(
            (d_prime, a.mean(), b.mean()), rel=1e-10
        )


def test_selective_neurons__finds_what_was_planted(planted):
    table = actome.selective_neurons(planted, k=3)
    for condition in ("a", "b"):
        truth = planted["true_effect"].sel(condition_name=condition)
        found = table[table["condition"] == condition]
        assert all(truth[i, j] > 0 for i, j in zip(found["layer"], found["neuron"], strict=True))


def test_selective_neurons__does_not_depend_on_chunks_or_order(planted, rng):
    expected = actome.selective_neurons(planted)
    shuffled = planted.isel(prompt=rng.permutation(planted.sizes["prompt"]))
    got = actome.selective_neurons(shuffled.chunk(prompt=3, layer=1, neuron=7))
    np.testing.assert_array_equal(got[["layer", "neuron"]], expected[["layer", "neuron"]])
    np.testing.assert_allclose(got["d_prime"], expected["d_prime"], rtol=1e-10)


def test_selective_neurons__the_moments_of_a_recording_give_the_same(tiny_path):
    cube, moments = (actome.selective_neurons(actome.open(tiny_path, level=x)) for x in ("token", "prompt"))
    np.testing.assert_array_equal(cube[["layer", "neuron"]], moments[["layer", "neuron"]])
    np.testing.assert_allclose(cube["d_prime"], moments["d_prime"], rtol=1e-6)


def test_similar_neurons__agrees_with_numpy(planted):
    table = actome.similar_neurons(planted, layer=1, neuron=4, k=1000)
    values = prompt_level(planted)["mean_abs"].to_numpy().reshape(planted.sizes["prompt"], -1)
    r = np.corrcoef(values.T)[30 + 4]
    assert len(table) == 59 and not ((table["layer"] == 1) & (table["neuron"] == 4)).any()
    np.testing.assert_allclose(table["correlation"], r[table["layer"] * 30 + table["neuron"]], atol=1e-12)
    assert table["correlation"].is_monotonic_decreasing


def test_similar_neurons__neurons_that_never_change_are_left_out(planted):
    changed = planted.copy(deep=True)
    changed["activation"][:, :, 0, 3] = changed["activation"][:, :, 0, 3] * 0 + 2
    table = actome.similar_neurons(changed, layer=1, neuron=4, k=1000)
    assert len(table) == 58
    with pytest.raises(InputError, match="neuron 3 of layer 0 is the same in all prompts"):
        actome.similar_neurons(changed, layer=0, neuron=3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"by": "colour"}, "no label 'colour'; it has .*condition"),
        ({"by": "prompt"}, "two values or more, and two prompts each"),
        ({"measure": "square"}, "measure must be 'magnitude' or 'signed', got 'square'"),
        ({"k": 0}, "k must be at least 1, got 0"),
    ],
)
def test_selective_neurons__refuses_bad_options(planted, options, message):
    with pytest.raises(InputError, match=message):
        actome.selective_neurons(planted, **options)


def test_similar_neurons__refuses_unknown_neurons(planted):
    with pytest.raises(InputError, match="there is no neuron 30 among 30; they go from 0 to 29"):
        actome.similar_neurons(planted, layer=0, neuron=30)
    with pytest.raises(InputError, match="needs three with tokens, got 2"):
        actome.similar_neurons(planted.isel(prompt=[0, 1]), layer=0, neuron=0)
