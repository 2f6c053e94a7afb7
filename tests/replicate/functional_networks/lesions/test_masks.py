"""Which neurons are removed, and which texts are scored."""

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from actome.replicate.functional_networks.lesions.masks import conditions_of, of_conditions, removed, scored
from actome.replicate.functional_networks.lesions.published import published_lesions
from actome.replicate.functional_networks.lesions.settings import (
    AT_RANDOM,
    TOGETHER,
    LesionSettings,
    check_lesions,
    components_kept,
)
from actome.replicate.functional_networks.samples import Samples
from actome.replicate.functional_networks.settings import Settings
from actome.store.errors import InputError
from actome.store.paradigm import Paradigm


def samples(conditions, n_group):
    paradigm = Paradigm([{"text": f"text {i}", "condition": c} for i, c in enumerate(conditions)], name="x")
    names = paradigm.table["prompt"].tolist()
    return Samples(paradigm, names[:n_group], names[n_group:])


def test_removed__has_every_network_all_and_15_percent(rng):
    maps = rng.normal(size=(3, 4, 50))
    maps[0, 1, :2], maps[2, 3, 7] = 9.0, 8.0
    maps[1] = maps[1].clip(-1, 1)  # nothing stands out
    templates = xr.Dataset(
        {"component_map": (("component", "layer", "neuron"), maps)},
        coords={"component": range(3)},
        attrs={"selected_on": ["p"], "source": "s"},
    )
    masks = removed(templates, seed=0)
    assert masks["network"].to_numpy().tolist() == ["ic0", "ic2", TOGETHER, AT_RANDOM]
    assert masks.attrs["selected_on"] == ["p"]
    assert masks.sum(("layer", "neuron")).to_numpy().tolist() == [2, 1, 3, 30]
    assert np.array_equal(masks.sel(network=TOGETHER), masks[:2].any("network"))
    assert np.array_equal(masks, removed(templates, seed=0))
    assert not np.array_equal(masks[3], removed(templates, seed=1)[3])


def test_scored__takes_the_conditions_in_turn_and_no_selected_sample():
    own = samples(["a", "b"] * 5 + ["a"] * 6 + ["b"] * 2, 10)
    chosen = scored(own, 4)
    assert not set(chosen) & set(own.group) and len(scored(own, 100)) == 8
    table = own.paradigm.table.set_index("prompt")
    assert sorted(table.loc[chosen, "condition"]) == ["a", "a", "b", "b"]


def test_conditions_of__needs_three_prompts_in_either_half():
    assert conditions_of(samples(["a", "b", "c"] * 3 + ["a", "b"] * 3, 9)) == ["a", "b"]
    assert conditions_of(samples(["a"] * 12, 6)) == []


def test_of_conditions__finds_a_planted_neuron(tiny_of_conditions):
    moments, planted = tiny_of_conditions
    found = of_conditions(moments, ["a", "b"], "signed")
    assert found["mask"].sum(("layer", "neuron")).to_numpy().tolist() == [1, 1]
    assert bool(found["mask"].sel(network="a")[planted]) and set(found.attrs["selected_on"]) == {
        str(p) for p, c in zip(moments["prompt"].to_numpy(), moments["condition"].to_numpy(), strict=True)
        if c != "c"
    }  # fmt: skip


@pytest.fixture
def tiny_of_conditions(rng):
    conditions = np.array(["a", "b", "c"] * 6, dtype=object)
    mean = rng.normal(size=(18, 2, 50))
    mean[conditions == "a", 1, 7] += 20
    dims = ("prompt", "layer", "neuron")
    moments = xr.Dataset(
        {
            "mean": (dims, mean),
            "mean_abs": (dims, np.abs(mean)),
            "m2": (dims, np.full(mean.shape, 5.0)),
            "count": ("prompt", np.full(18, 5)),
        },
        coords={
            "prompt": np.array([f"p{i}" for i in range(18)], dtype=object),
            "condition": ("prompt", conditions),
        },
        attrs={"site": "mlp"},
    )
    return moments, (1, 7)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (LesionSettings(0, 9, ()), "n_controls must be at least 1, got 0"),
        (LesionSettings(1, 1, ()), "n_scored must be at least 2, got 1"),
        (LesionSettings(1, 2, (3,)), r"kept_components must rise, from above n_components on, got \[3\]"),
    ],
)
def test_check_lesions__refuses_what_cannot_be_judged(asked, message):
    with pytest.raises(InputError, match=message):
        check_lesions(asked, Settings("mlp", 3, 2, 0))


def test_components_kept__are_more_than_those_of_the_templates():
    assert components_kept(None, 10) == (32, 64, 128) and components_kept(None, 64) == (128,)
    assert components_kept([5], 64) == (5,)


def test_published__has_the_studys_figures():
    single, gpt2, qwen, glm, curve = published_lesions()
    assert float(single["accuracy"].sel(network="network 5", task="AG News")) == 0.5749
    assert float(gpt2["effect"].sel(network="ten networks", task="SST-2")) == pytest.approx(0.9163 - 0.5436)
    assert float(gpt2["accuracy_baseline"].sel(task="MNLI")) == 0.6847
    assert float(qwen["accuracy"].sum()) == pytest.approx(0.0229)
    assert float(glm["accuracy"].sel(task="AG News")[0]) == 0.0025
    assert curve["n_kept"].to_numpy().tolist() == [86, 394, 830, 1281, 1606]
    assert pd.Index(curve["point"].to_numpy())[-1] == "512 components"
