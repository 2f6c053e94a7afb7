"""The phantom's own promises."""

import numpy as np

import actome
from actome.ingest.phantom import phantom_model


def test_phantom_model__networks_are_disjoint_and_one_neuron_a_word():
    networks = phantom_model(n_words=9).networks
    assert networks.sum(axis=(1, 2)).tolist() == [9, 9] and not networks.all(axis=0).any()


def test_phantom_model__planted_neurons_are_silent_in_the_other_language(model, phantom, tmp_path):
    ds = actome.record(model, phantom.paradigm, tmp_path / "r.zarr", dtype="float32")
    level = abs(ds.activation).mean(("prompt", "token"))
    for i, own in enumerate("ab"):
        other = (
            abs(ds.activation.isel(prompt=np.flatnonzero(ds.condition != own)))
            .mean(("prompt", "token"))
            .values
        )
        assert other[phantom.networks[i]].max() < 0.05 * level.values[phantom.networks[i]].mean()


def test_phantom_model__repeats_with_its_seed():
    a, b = phantom_model(seed=3), phantom_model(seed=3)
    assert a.paradigm.digest == b.paradigm.digest and np.array_equal(a.networks, b.networks)
