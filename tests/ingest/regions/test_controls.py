"""Random controls of regions: as many in each tensor, any of them, and as large where asked."""

import numpy as np
import pytest
import scipy.stats
import torch

from actome.analyze.regions.effects import region_effects
from actome.ingest.regions.controls import Controls, mean_magnitude, shared, size_of
from actome.ingest.regions.scores import score_regions
from actome.store.errors import InputError


@pytest.fixture
def weights():
    generator = torch.Generator().manual_seed(0)
    return {"a": torch.randn(40, 50, generator=generator), "b": torch.randn(1, 30, generator=generator)}


@pytest.fixture
def region(weights, rng):
    largest = np.argsort(-weights["a"].abs().flatten().numpy())[:400]
    return {"a": np.sort(rng.choice(largest, 100, replace=False)), "b": np.arange(3)}


@pytest.mark.parametrize("match", ["size", "magnitude"])
def test_controls__are_of_the_same_tensors_and_as_many(weights, region, match):
    controls = Controls(region, weights, match)
    drawn = controls.draw([0, 1])
    for name, own in region.items():
        assert len(np.unique(drawn[name])) == len(drawn[name]) == len(own)
        assert (np.diff(drawn[name]) > 0).all() and drawn[name][-1] < weights[name].numel()
    again, other = controls.draw([0, 1]), controls.draw([0, 2])
    assert (drawn["a"] == again["a"]).all() and (drawn["a"] != other["a"]).any()


def test_controls__of_lines_are_as_many_whole_lines_of_the_same_tensor(weights):
    rows, columns = np.zeros((2, 40, 50), dtype=bool)
    rows[[2, 7, 39]], columns[:, [0, 49]] = True, True
    for mask, axis in ((rows, 1), (columns, 0)):
        target = {"a": np.flatnonzero(mask), "b": np.array([4])}
        controls, count = Controls(target, weights, "lines"), np.zeros(mask.shape[1 - axis])
        for draw in range(60):
            drawn = controls.draw([0, draw])
            found = np.zeros((40, 50), dtype=bool)
            found.reshape(-1)[drawn["a"]] = True
            assert found.sum() == mask.sum() and len(drawn["b"]) == 1
            assert (found.all(axis=axis) == found.any(axis=axis)).all()
            count += found.all(axis=axis)
        expected = mask.all(axis=axis).mean()  # every line is as likely
        assert abs(count - 60 * expected).max() < 5 * np.sqrt(60 * expected)
    with pytest.raises(InputError, match="of a the region is 52 values in 2 rows and 50 columns"):
        Controls({"a": np.r_[0:50, 60, 70]}, weights, "lines")


def test_controls__matched_ones_are_as_large(weights, region):
    target = mean_magnitude(region, weights)

    def mean_of(match):
        controls = Controls(region, weights, match)
        return np.mean([mean_magnitude(controls.draw([s]), weights) for s in range(20)])

    assert mean_of("magnitude") == pytest.approx(target, rel=0.05)
    assert mean_of("size") < 0.7 * target


def test_controls__of_the_very_largest_are_not_mostly_the_region(weights):
    region = {"a": np.sort(np.argsort(-weights["a"].abs().flatten().numpy())[:100])}
    controls = Controls(region, weights, "magnitude")
    own = [shared(region, controls.draw([s])) for s in range(50)]
    assert 0.1 < np.mean(own) <= 0.27 and max(own) < 0.4


@pytest.mark.parametrize("match", ["size", "magnitude"])
def test_controls__of_a_whole_tensor_are_the_tensor_and_of_nothing_nothing(weights, match):
    region = {"a": np.empty(0, dtype=np.int64), "b": np.arange(30)}
    drawn = Controls(region, weights, match).draw([0])
    assert len(drawn["a"]) == 0 and drawn["b"].tolist() == list(range(30))
    assert shared(region, drawn) == 1 and np.isnan(shared({"a": region["a"]}, {"a": drawn["a"]}))


@pytest.mark.parametrize("value", [0.0, float("nan"), float("inf")])
def test_controls__of_weights_that_are_all_alike_or_broken_are_drawn_all_the_same(value):
    region = {"a": np.arange(5)}
    drawn = Controls(region, {"a": torch.full((20, 10), value)}, "magnitude").draw([0])
    assert len(np.unique(drawn["a"])) == 5


def uniform_enough(p, alphas):
    """Whether p is at most alpha as often as chance has it, give or take."""
    bounds = {alpha: scipy.stats.binom.interval(0.999, len(p), alpha) for alpha in alphas}
    counts = {alpha: int((p <= alpha + 1e-9).sum()) for alpha in alphas}
    assert all(low <= counts[a] <= high for a, (low, high) in bounds.items()), (counts, bounds)


@pytest.mark.parametrize("match", ["size", "magnitude"])
def test_controls__a_random_region_is_exchangeable_with_them(match):
    """Sums of a number that goes with the magnitude: the region's place among the controls' is uniform."""
    rng = np.random.default_rng(0)
    weights = {"a": torch.from_numpy(rng.standard_normal((20, 30)))}
    worth = weights["a"].flatten().numpy() ** 2 + rng.lognormal(size=600)
    p = []
    for i in range(250):
        region = {"a": np.sort(rng.choice(600, 120, replace=False))}
        controls = Controls(region, weights, match)
        sums = np.array([worth[controls.draw([i, k])["a"]].sum() for k in range(9)])
        p.append((1 + (sums >= worth[region["a"]].sum()).sum()) / 10)
    uniform_enough(np.array(p), (0.1, 0.2, 0.5))


def p_of_random_regions(model, phantom, make_regions, path, n_regions, share, **options):
    rng = np.random.default_rng(1)
    names = [str(i) for i in range(n_regions)]
    regions = make_regions(names, lambda name, shape, k: rng.random(shape) < share)
    texts = phantom.paradigm.select(run=0)
    scores = score_regions(model, texts, path, regions, progress=False, **options)
    effects = region_effects(scores, n_bootstrap=1)
    if options.get("match") == "magnitude":
        return effects["p_value"].to_numpy()
    drawn = scores["shared"].to_numpy()[scores["role"].to_numpy() == "control"]
    assert np.nanmean(drawn) == pytest.approx(share, rel=0.1)
    return effects["p_value"].to_numpy()


def test_score_regions__p_of_random_regions_is_uniform_enough(model, phantom, make_regions, tmp_path):
    p = p_of_random_regions(
        model, phantom, make_regions, tmp_path / "s.zarr", n_regions=8, share=0.02, controls=4
    )
    uniform_enough(p[:, 0], (0.2, 0.6))


@pytest.mark.slow
@pytest.mark.parametrize("match", ["size", "magnitude"])
@pytest.mark.parametrize("share", [0.01, 0.2])
def test_score_regions__p_of_random_regions_is_uniform(model, phantom, make_regions, tmp_path, match, share):
    p = p_of_random_regions(
        model, phantom, make_regions, tmp_path / "s.zarr",
        n_regions=100, share=share, controls=19, match=match,
    )  # fmt: skip
    for condition in p.T:
        uniform_enough(condition, (0.05, 0.1, 0.2, 0.5))


def test_mean_magnitude__is_that_of_the_values(weights, region):
    values = np.concatenate([weights[n].flatten().numpy()[own] for n, own in region.items()])
    assert mean_magnitude(region, weights) == pytest.approx(np.abs(values).mean())
    assert size_of(region) == 103 and np.isnan(mean_magnitude({}, weights))
