"""Preservation curves and the series of networks they are made of."""

import numpy as np
import pytest
import xarray as xr

from actome.analyze.perturbation.doses import dose_response
from actome.analyze.perturbation.effects import lesion_effects
from actome.analyze.perturbation.preservation import preservation
from actome.analyze.perturbation.series import top_fractions, unions

from .synthetic import make_scores


def kept_scores(rng, **options):
    """Scores of four points that keep 4, 1, 2 and 8 of 10 neurons."""
    scores = make_scores(rng, targets=("c", "a", "b", "d"), keep_only=True, **options)
    network = np.zeros(scores["network"].shape, dtype=bool)
    for name, n in (("c", 4), ("a", 1), ("b", 2), ("d", 8)):
        network.reshape(len(network), -1)[scores["target"] == name, :n] = True
    return scores.assign(network=(("lesion", "layer", "neuron"), network))


def test_preservation__has_the_effects_of_its_points_in_the_order_of_their_size(rng):
    scores = kept_scores(rng, effect=0.5, n_prompts=20)
    result = preservation(scores, n_bootstrap=200)
    as_lesions = scores.assign_attrs(inputs={})
    effects = lesion_effects(as_lesions, n_bootstrap=200).sel(network=["a", "b", "c", "d"])
    assert result["point"].values.tolist() == ["a", "b", "c", "d"]
    assert result["n_kept"].values.tolist() == [1, 2, 4, 8]
    np.testing.assert_allclose(result["share_kept"], [0.1, 0.2, 0.4, 0.8])
    for name in ("effect", "low", "high", "control"):
        np.testing.assert_allclose(result[name], effects[name])
    np.testing.assert_allclose(np.exp(result["baseline"]), effects["perplexity_baseline"])


def test_preservation__p_counts_the_random_sets_that_hold_up_as_well(rng):
    result = preservation(kept_scores(rng, effect=-1.0, draws=9), n_bootstrap=1)
    assert (result["p_value"] == 0.1).all()  # every point loses less than any random set
    result = preservation(kept_scores(rng, effect=1.0, draws=9), n_bootstrap=1)
    assert (result["p_value"] == 1.0).all()


def test_preservation__refuses_lesions_of_the_networks_themselves(rng):
    with pytest.raises(ValueError, match=r"keep_only=True.*use lesion_effects"):
        preservation(make_scores(rng))


def test_preservation__takes_one_of_several_doses(rng):
    scores = kept_scores(rng, effect=0.5, doses=[0.5, 2.0])
    with pytest.raises(ValueError, match=r"choose one with preservation\(dose=...\), or use dose_response"):
        preservation(scores)
    one = preservation(scores, dose=2.0, n_bootstrap=5)
    of_all = dose_response(scores, n_bootstrap=5).sel(dose=2.0, network=one["point"].values)
    assert one.attrs["dose"] == 2.0
    for name in ("effect", "low", "high", "p_value", "control"):
        np.testing.assert_allclose(one[name], of_all[name])


@pytest.fixture
def masks(rng):
    return xr.DataArray(
        rng.random((5, 3, 20)) < 0.2,
        dims=("network", "layer", "neuron"),
        coords={"layer": [4, 5, 6]},
        attrs={"site": "mlp", "selected_on": ["p1"], "threshold": "Z(3.6)"},
    )


def test_unions__are_nested_and_join_the_first_networks(masks):
    series = unions(masks, [1, 3, 5])
    assert series["network"].values.tolist() == ["first 1 network", "first 3 networks", "first 5 networks"]
    np.testing.assert_array_equal(series[0], masks[0])
    np.testing.assert_array_equal(series[1], masks.values[:3].any(axis=0))
    np.testing.assert_array_equal(series[2], masks.any("network"))
    assert series.attrs["selected_on"] == ["p1"] and series.attrs["n_networks"] == [1, 3, 5]
    assert series["layer"].values.tolist() == [4, 5, 6]


def test_top_fractions__are_nested_and_take_the_largest(rng):
    values = rng.standard_normal((4, 50))
    values[0, 0] = np.nan
    series = top_fractions(xr.DataArray(values, dims=("layer", "neuron")), [0.01, 0.1, 0.5])
    assert series["network"].values.tolist() == ["top 1 %", "top 10 %", "top 50 %"]
    order = np.sort(values[~np.isnan(values)])[::-1]
    for mask, n in zip(series.values, (2, 20, 100), strict=True):
        assert mask.sum() == n and values[mask].min() == order[n - 1]


def test_series__refuse(masks):
    for counts in ([], [0, 1], [2, 2], [3, 1], [6]):
        with pytest.raises(ValueError, match="counts must rise, from 1 to the 5 networks"):
            unions(masks, counts)
    with pytest.raises(TypeError, match="unions takes networks"):
        unions(masks.astype(int), [1])
    with pytest.raises(ValueError, match="must have dims"):
        unions(masks[0], [1])
    values = xr.DataArray(np.ones((2, 3)), dims=("layer", "neuron"))
    for fractions in ([], [0.0], [1.0], [0.2, 0.1]):
        with pytest.raises(ValueError, match="fractions must rise"):
            top_fractions(values, fractions)
    with pytest.raises(TypeError, match="takes a map"):
        top_fractions(masks, [0.1])
