"""Networks are told from noise: by the null, by stability, by halves."""

import numpy as np
import pytest
import xarray as xr

from actome.analyze.components.ica import group_ica
from actome.analyze.components.null import judged
from actome.store.phantom import phantom


def noise(seed, **options):
    made = {"n_prompts": 4, "n_tokens": (20, 40), "n_layers": 2, "n_neurons": 150, "effect": 0.0}
    return phantom(**{**made, **options}, autocorrelation=0.4, seed=seed)


def planted(seed, **options):
    networks = {"n_networks": 4, "network_gain": 4.0, "network_spread": 1.5, "network_overlap": True}
    return noise(seed, **{**networks, "network_autocorrelation": 0.5, "fraction": 0.05, **options})


def match(result, ds):
    """|correlation| of every true network with its best component, and which that is.

    Of standardized neurons the truth is a network over the standard deviation: less where two meet.
    """
    network = ds["true_network"].astype(float)
    if result.attrs["standardize"]:
        network = network / ds["activation"].std(("prompt", "token"))
    maps, truth = (x.to_numpy().reshape(len(x), -1) for x in (result["component_map"], network))
    similarity = np.abs(np.corrcoef(maps, truth)[: len(maps), len(maps) :])
    return similarity.max(axis=0), similarity.argmax(axis=0)


def compared(null_stability, null_departure, **coords):
    """Three components beside chance."""
    each = {"stability": [0.5, 0.25, 0.5], "departure": [5.0, 5.0, 0.5], "split_half": [np.nan, 0.9, 0.9]}
    dims = ("of_window", "draw")[-np.ndim(null_stability) :]
    draws = {"null_stability": (dims, null_stability), "null_departure": (dims, null_departure)}
    return judged(xr.Dataset({k: ("component", v) for k, v in each.items()} | draws, coords=coords))


def test_judged__p_is_the_larger_share_of_draws_that_gave_as_much():
    result = compared([0.1, 0.2, 0.3], [1.0, 2.0, 3.0])
    np.testing.assert_allclose(result["p_value"], [1 / 4, 2 / 4, 1])


def test_judged__a_draw_gives_the_most_of_all_windows_in_their_own_deviations(rng):
    null = rng.normal([[0.2], [0.6]], [[0.01], [0.1]], size=(2, 99)), rng.normal(1, 0.1, size=(2, 99))
    result = compared(*null, window=("component", [0, 0, 3]))
    each = np.array([[np.delete(row, i) for i in range(99)] for row in null[0]])  # (window, draw, other)
    most = ((null[0] - each.mean(axis=2)) / each.std(axis=2, ddof=1)).max(axis=0)
    own = (0.25 - null[0][0].mean()) / null[0][0].std(ddof=1)
    assert own > 3 and result["p_value"][1].item() == (1 + (most >= own).sum()) / 100
    assert result["p_value"][0].item() == 1 / 100 and result["p_value"][2].item() > 0.5


def test_judged__a_window_whose_draws_say_nothing_is_judged_by_departure_alone(rng):
    null = rng.normal(0.3, 0.01, size=(2, 19))
    null[1] = np.nan
    result = compared(null, rng.normal(1, 0.1, size=(2, 19)), window=("component", [0, 3, 3]))
    assert result["p_value"].to_numpy().tolist() == [1 / 20, 1 / 20, 1]


def test_judged__halves_that_differ_are_no_network_but_where_they_cannot_say():
    draws = np.linspace(0, 0.2, 19), np.linspace(0, 0.2, 19)
    assert compared(*draws)["is_network"].to_numpy().tolist() == [True] * 3
    again = compared(*draws).assign(split_half=("component", [np.nan, 0.4, 0.5]))
    assert judged(again)["is_network"].to_numpy().tolist() == [True, False, True]


def test_null__rejects_noise_and_keeps_what_is_planted():
    ds = planted(0, n_tokens=(60, 80), n_prompts=10)
    result = group_ica(ds, n_components=7, n_runs=5)
    recovered, which = match(result, ds)
    assert recovered.min() > 0.985  # the noise of 2,100 tokens leaves .99
    network = result["is_network"].to_numpy()
    assert np.flatnonzero(network).tolist() == sorted(which.tolist())
    stability, halves = result["stability"].to_numpy(), result["split_half"].to_numpy()
    assert stability[network].min() > stability[~network].max() + 0.2
    assert halves[network].min() > halves[~network].max() + 0.2
    assert result["split_half_dice"].to_numpy()[network].min() > 0.8
    assert result["p_value"].min() == 1 / 20 and result.sizes["draw"] == 19
    assert not group_ica(noise(0), n_components=4, n_runs=5)["is_network"].any()


def test_null__is_left_out_where_it_is_not_asked_for_or_means_nothing():
    ds = noise(0, n_neurons=40)
    for options in ({"null": 0, "n_runs": 2}, {"n_runs": 1}):
        result = group_ica(ds, n_components=2, **options)
        assert not {"p_value", "is_network", "null_stability"} & set(result)


def test_null__a_single_spatial_component_is_judged_by_its_departure():
    ds = planted(0, n_networks=1, n_prompts=10, n_tokens=(30, 40))
    result = group_ica(ds, n_components=1, n_runs=4)
    assert result["is_network"].all() and result["null_stability"].isnull().all()
    assert not group_ica(noise(1), n_components=1, n_runs=4)["is_network"].any()


def rectified(ds):
    """Noise of neurons that are active at one token in fifteen."""
    return ds.assign(activation=ds["activation"].clip(min=1.5))


def test_null__what_beats_it_in_one_half_only_is_no_network():
    result = group_ica(rectified(noise(5)), n_components=5, n_runs=6, seed=5)
    beats = result["p_value"].to_numpy() <= 0.05
    assert beats.any() and result["split_half"].to_numpy()[beats].max() < 0.2
    assert not result["is_network"].any()


def found_in_noise(seeds, mode, change=lambda ds: ds):
    """How many recordings of noise have a network."""
    options = {"n_components": 5, "n_runs": 6, "mode": mode}
    made = (group_ica(change(noise(seed)), seed=seed, **options) for seed in seeds)
    return sum(bool(result["is_network"].any()) for result in made)


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["spatial", "temporal"])
def test_null__has_no_network_in_noise_in_95_percent_of_runs(mode):
    assert found_in_noise(range(60), mode) <= 3


@pytest.mark.slow
def test_null__has_no_network_in_noise_of_one_component():
    found = [
        group_ica(noise(seed), n_components=1, n_runs=4, seed=seed)["is_network"].any() for seed in range(60)
    ]
    assert np.sum(found) <= 3


@pytest.mark.slow
def test_null__has_no_network_in_noise_of_eight_windows():
    made = (noise(seed, n_layers=8, n_neurons=75) for seed in range(40))
    found = [group_ica(ds, n_components=4, n_runs=6, window=1)["is_network"].any() for ds in made]
    assert np.sum(found) <= 2


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["spatial", "temporal"])
def test_null__has_no_network_in_noise_of_neurons_that_are_seldom_active(mode):
    # but for the halves half of them had one: patterns of single tokens, which the halves do not share
    assert found_in_noise(range(40), mode, rectified) <= 2


@pytest.mark.slow
@pytest.mark.parametrize("standardize", [True, False])
@pytest.mark.parametrize("seed", range(10))
def test_group_ica__recovers_sources_that_overlap_differ_and_persist(seed, standardize):
    ds = planted(seed, n_prompts=10, n_tokens=(60, 120), n_neurons=400, n_networks=6)
    result = group_ica(ds, n_components=10, n_runs=8, seed=seed, standardize=standardize)
    recovered, which = match(result, ds)
    assert recovered.min() >= 0.99
    network = result["is_network"].to_numpy()
    assert network[which].all() and network.sum() == 6
    stability = result["stability"].to_numpy()
    assert stability[network].min() > stability[~network].max()
