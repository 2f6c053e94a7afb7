"""Random controls of regions: as many in each tensor, none of the region, and as large where asked."""

import numpy as np
import pytest
import torch

from actome.ingest.regions.controls import control_places, mean_magnitude, size_of


@pytest.fixture
def weights():
    generator = torch.Generator().manual_seed(0)
    return {"a": torch.randn(40, 50, generator=generator), "b": torch.randn(1, 30, generator=generator)}


@pytest.fixture
def region(weights, rng):
    largest = np.argsort(-weights["a"].abs().flatten().numpy())[:400]
    return {"a": np.sort(rng.choice(largest, 100, replace=False)), "b": np.arange(3)}


@pytest.mark.parametrize("match", ["size", "magnitude"])
def test_control_places__are_others_of_the_same_tensors_and_as_many(weights, region, match):
    control = control_places(region, weights, match=match, seed=[0, 1])
    for name, own in region.items():
        assert len(np.unique(control[name])) == len(control[name]) == len(own)
        assert not set(control[name]) & set(own)
    again = control_places(region, weights, match=match, seed=[0, 1])
    other = control_places(region, weights, match=match, seed=[0, 2])
    assert (control["a"] == again["a"]).all() and (control["a"] != other["a"]).any()


def test_control_places__matched_ones_are_as_large(weights, region):
    target = mean_magnitude(region, weights)

    def mean_of(match):
        draws = [control_places(region, weights, match=match, seed=[s]) for s in range(20)]
        return np.mean([mean_magnitude(draw, weights) for draw in draws])

    means = {match: mean_of(match) for match in ("size", "magnitude")}
    assert means["magnitude"] == pytest.approx(target, rel=0.05)
    assert means["size"] < 0.7 * target


def test_control_places__of_the_very_largest_take_the_next_largest(weights):
    order = np.argsort(-weights["a"].abs().flatten().numpy())
    control = control_places({"a": np.sort(order[:50])}, weights, match="magnitude", seed=[0])["a"]
    assert len(control) == 50 and not set(control) & set(order[:50])


def test_control_places__of_more_than_half_take_all_others(weights):
    own = np.arange(20)
    control = control_places({"b": own}, weights, match="magnitude", seed=[0])["b"]
    assert len(np.unique(control)) == 20 and set(range(20, 30)) <= set(control)


def test_mean_magnitude__is_that_of_the_values(weights, region):
    values = np.concatenate([weights[n].flatten().numpy()[own] for n, own in region.items()])
    assert mean_magnitude(region, weights) == pytest.approx(np.abs(values).mean())
    assert size_of(region) == 103 and np.isnan(mean_magnitude({}, weights))
