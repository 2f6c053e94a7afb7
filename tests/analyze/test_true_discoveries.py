"""Bounds against closed testing by brute force, against nilearn, and against what was planted."""

from fractions import Fraction
from itertools import combinations

import numpy as np
import pytest
import scipy.stats
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from nilearn.glm.thresholding import _compute_hommel_value, _true_positive_fraction

from actome.analyze.contrasts import compute_contrast
from actome.analyze.glm import fit_glm
from actome.analyze.threshold import P, Top, threshold
from actome.analyze.true_discoveries import _active, _hommel_value, true_discoveries
from actome.store.errors import ActomeError
from actome.store.phantom import phantom

TIES = 1 + 1e-12


def stat_map(z):
    """A contrast whose t is normal: (..., layer, neuron)."""
    dims = ("contrast", "layer", "neuron")[-z.ndim :]
    return xr.Dataset({"stat": (dims, z), "p_value": (dims, 2 * scipy.stats.norm.sf(np.abs(z)))})


def masks(values):
    return xr.DataArray(np.asarray(values), dims=("network", "layer", "neuron"))


def simes_rejects(p, alpha):
    return any(v <= alpha * (j + 1) / len(p) for j, v in enumerate(sorted(p)))


def closed_testing(p, alpha):
    """The largest set that is not rejected, its size; and the fewest active of each: by all 2^m sets."""
    m = len(p)
    sets = [frozenset(c) for size in range(1, m + 1) for c in combinations(range(m), size)]
    open_sets = [s for s in sets if not simes_rejects([p[i] for i in s], alpha)]
    kept = [s for s in sets if any(s <= larger for larger in open_sets)]
    fewest = {s: min([len(s)] + [len(s - k) for k in kept if k <= s]) for s in sets}
    return max((len(s) for s in open_sets), default=0), fewest


@given(st.lists(st.integers(0, 40), min_size=1, max_size=7), st.integers(1, 12))
def test_active__agrees_with_closed_testing_ties_included(twentieths, level):
    # multiples of alpha / k, as the p-values of permutations are: exact in fractions, not in floats
    p, alpha = [Fraction(k, 40) for k in twentieths], Fraction(level, 40)
    largest, fewest = closed_testing(p, alpha)
    values, limit = np.array([float(v) for v in p]), float(alpha) * TIES
    assert _hommel_value(values, limit) == largest
    for chosen, expected in fewest.items():
        inside = np.isin(np.arange(len(p)), list(chosen))
        assert _active(values, inside, largest, limit) == expected


@given(st.lists(st.floats(1e-9, 1), min_size=1, max_size=7), st.floats(0.01, 0.5))
def test_active__agrees_with_closed_testing(p, alpha):
    largest, fewest = closed_testing(p, alpha * TIES)
    assert _hommel_value(np.array(p), alpha * TIES) == largest
    for chosen, expected in fewest.items():
        inside = np.isin(np.arange(len(p)), list(chosen))
        assert _active(np.array(p), inside, largest, alpha * TIES) == expected


@pytest.mark.parametrize("active", [0, 30, 150, 1000])
@pytest.mark.parametrize("alpha", [0.01, 0.05, 0.2])
def test_true_discoveries__agrees_with_nilearn(active, alpha, rng):
    z = rng.standard_normal((4, 500))
    z.flat[rng.permutation(z.size)[:active]] += 4
    regions = masks([z > 2, z > 3, rng.random(z.shape) < 0.5])
    result = true_discoveries(stat_map(z), regions, alpha=alpha)
    hommel = _compute_hommel_value(z.ravel(), alpha)
    assert result["inactive"] == hommel
    expected = [_true_positive_fraction(z[r], hommel, alpha) for r in regions.to_numpy()]
    np.testing.assert_allclose(result["proportion"], expected, rtol=1e-12)
    np.testing.assert_array_equal(result["size"], regions.sum(("layer", "neuron")))
    assert active == 0 or 0 < result["discoveries"][0] < active


def test_true_discoveries__of_everything_is_what_is_not_inactive(rng):
    z = rng.standard_normal((3, 200))
    z[1, :50] += 4
    result = true_discoveries(stat_map(z), masks(np.ones((1, 3, 200), bool)))
    assert result["discoveries"].item() == 600 - result["inactive"].item() > 10


def test_true_discoveries__of_layers_are_those_of_their_masks(rng):
    z = rng.standard_normal((3, 200))
    z[1, :50] += 4
    z[2, 7] = np.nan
    layers = true_discoveries(stat_map(z), "layer")
    each = true_discoveries(stat_map(z), masks(np.repeat(np.eye(3, dtype=bool)[:, :, None], 200, axis=2)))
    assert layers["size"].to_numpy().tolist() == [200, 200, 199]
    assert layers["discoveries"][1] > 10
    for name in ("discoveries", "proportion", "size"):
        assert layers[name].dims == ("layer",)
        np.testing.assert_array_equal(layers[name], each[name])


def test_true_discoveries__takes_every_map_as_a_family_of_its_own(rng):
    z = rng.standard_normal((2, 3, 40))
    z[1] += 3
    regions = masks(rng.random((4, 3, 40)) < 0.5)
    both = true_discoveries(stat_map(z), regions)
    assert both["discoveries"].dims == ("contrast", "network") and both["inactive"].dims == ("contrast",)
    for i in range(2):
        alone = true_discoveries(stat_map(z[i]), regions)
        xr.testing.assert_equal(both.isel(contrast=i), alone)


def test_true_discoveries__pairs_masks_with_maps_of_the_same_dimension(rng):
    z = rng.standard_normal((2, 3, 40)) + 2
    maps = stat_map(z).rename(contrast="network")
    result = true_discoveries(maps, threshold(maps, control=P(0.01)))
    assert result["discoveries"].dims == ("network",)
    one = true_discoveries(maps.isel(network=1), threshold(maps.isel(network=1), control=P(0.01)))
    assert one["discoveries"].item() == result["discoveries"][1]


def test_true_discoveries__counts_the_side_that_is_asked_for():
    z = np.array([[8.0, 8.0, -8.0, 0.1, -0.1, 0.3]])
    everything = masks(np.ones((1, 1, 6), bool))
    assert true_discoveries(stat_map(z), everything)["discoveries"].item() == 2
    assert true_discoveries(stat_map(z), everything, two_sided=True)["discoveries"].item() == 3


def test_true_discoveries__neurons_without_a_test_are_counted_out(rng):
    z = rng.standard_normal((2, 50)) + 3
    without = np.concatenate([z, np.full((2, 50), np.nan)], axis=1)
    regions = rng.random((3, 2, 50)) < 0.5
    wider = np.concatenate([regions, np.ones_like(regions)], axis=2)
    xr.testing.assert_equal(
        true_discoveries(stat_map(without), masks(wider)), true_discoveries(stat_map(z), masks(regions))
    )


def test_true_discoveries__has_defined_ends():
    regions = masks([[[True, True]], [[False, False]]])
    every, none = (true_discoveries(stat_map(np.full((1, 2), v)), regions) for v in (40.0, np.nan))
    assert every["discoveries"].to_numpy().tolist() == [2, 0] and every["inactive"] == 0
    np.testing.assert_array_equal(every["proportion"], [1, np.nan])
    assert none["discoveries"].to_numpy().tolist() == [0, 0] == none["size"].to_numpy().tolist()
    assert np.isnan(none["proportion"]).all() and none["inactive"] == 0


def test_true_discoveries__is_the_same_lazy_or_not_and_in_any_order(rng):
    z = rng.standard_normal((3, 60)) + 1
    regions = masks(rng.random((2, 3, 60)) < 0.5)
    expected = true_discoveries(stat_map(z), regions)
    lazy = true_discoveries(stat_map(z).chunk(layer=1, neuron=7), regions.chunk(neuron=11))
    xr.testing.assert_identical(lazy, expected)
    order = rng.permutation(60)
    shuffled = true_discoveries(stat_map(z[:, order]), regions[:, :, order])
    xr.testing.assert_identical(shuffled, expected)


def test_true_discoveries__holds_on_a_null_for_regions_chosen_on_the_same_map():
    broken, n = 0, 200
    for seed in range(n):
        z = np.random.default_rng(seed).standard_normal((2, 300))
        chosen = masks([z > level for level in (1, 2, 2.5, 3, 3.5)])
        broken += bool((true_discoveries(stat_map(z), chosen, alpha=0.1)["discoveries"] > 0).any())
    assert broken / n < 0.1 + 3 * np.sqrt(0.1 * 0.9 / n)
    assert broken > 0


def test_true_discoveries__never_counts_more_than_was_planted():
    ds = phantom(n_prompts=10, n_layers=3, n_neurons=100, effect=1.0, prompt_sd=0.3, seed=5)
    contrast = compute_contrast(fit_glm(ds, measure="signed", noise="cr2"), "a - rest")
    truth = (ds["true_effect"].sel(condition_name="a") > 0).to_numpy()
    chosen = [threshold(contrast, control=c).to_numpy() for c in (Top(0.02), Top(0.1), P(0.001))]
    regions = np.stack([*chosen, truth, ~truth])
    result = true_discoveries(contrast, masks(regions))
    assert (result["discoveries"] <= (regions & truth).sum(axis=(1, 2))).all()
    assert result["discoveries"][3] > 0.5 * truth.sum()
    assert result.attrs["selected_on"] == contrast.attrs["selected_on"]
    assert "positively dependent" in result.attrs["assumption"]


@pytest.mark.parametrize(
    ("regions", "options", "error", "message"),
    [
        ("layers", {}, ValueError, "regions must be bool masks or 'layer', got 'layers'"),
        (masks(np.ones((1, 2, 5))), {}, TypeError, "regions must be bool .* got .*float64"),
        (np.ones((2, 5), bool), {}, TypeError, "regions must be bool .* got ndarray"),
        (masks(np.ones((1, 2, 5), bool)).isel(layer=0), {}, TypeError, "regions must be bool"),
        (masks(np.ones((1, 2, 4), bool)), {}, ValueError, "differ in neuron: 4 and 5 of them"),
        (masks(np.ones((1, 2, 5), bool)).assign_coords(layer=[1, 2]), {}, ValueError, "differ in layer"),
        ("layer", {"alpha": 0}, ValueError, "alpha must lie between 0 and 1, got 0"),
    ],
)
def test_true_discoveries__refuses(regions, options, error, message):
    with pytest.raises(error, match=message) as caught:
        true_discoveries(stat_map(np.zeros((2, 5))), regions, **options)
    assert isinstance(caught.value, ActomeError)


def test_true_discoveries__refuses_what_is_no_map():
    with pytest.raises(TypeError, match="true_discoveries takes a contrast from"):
        true_discoveries(stat_map(np.zeros((2, 5)))["stat"], "layer")
