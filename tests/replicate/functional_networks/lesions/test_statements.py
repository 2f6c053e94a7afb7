"""The rules of the verdicts on lesions, on effects that are made up."""

from itertools import product

import numpy as np
import pytest
import xarray as xr

from actome.replicate.functional_networks.lesions.settings import AT_RANDOM, TOGETHER
from actome.replicate.functional_networks.lesions.statements import (
    amplified,
    better_kept,
    joint_p,
    kept_suffices,
    more_than_matched,
    more_than_random,
    off,
    selective,
    single,
)

SETS = ["words", "sums"]
NETWORKS = ["ic0", "ic1", TOGETHER, AT_RANDOM]


def effects(effect, control=0.0, whole=0.5, neurons=9):
    """Effects of two networks, both together and random neurons, alike in two data sets; 19 controls."""
    own = np.repeat(np.array(effect, dtype=float)[:, None], 2, axis=1)
    null = np.broadcast_to(np.reshape(control, (-1, 1, 1)), (4, 19, 2)).astype(float)
    p = (1 + (null >= own[:, None]).sum(axis=1)) / 20
    dims = ("network", "data_set")
    return xr.Dataset(
        {
            "effect": (dims, own),
            "control": (("network", "draw", "data_set"), null),
            "p_value": (dims, np.where(np.isnan(own), np.nan, p)),
            "neurons": (dims, np.full((4, 2), neurons)),
            "accuracy_baseline": ("data_set", [whole, whole]),
        },
        coords={"network": np.array(NETWORKS, dtype=object), "data_set": SETS},
    )


def kept(effect, control, share_kept=(0.05, 0.15, 0.5), baseline=-0.5):
    by = "data_set" if baseline < 0 else "condition"
    return xr.Dataset(
        {
            "effect": (("point", by), np.array(effect, dtype=float)[:, None]),
            "control": (("point", "draw", by), np.full((3, 19, 1), float(control))),
            "baseline": (by, [baseline]),
            "point": ["first", "second", "third"],
            "n_kept": ("point", (1000 * np.array(share_kept)).astype(int)),
            "share_kept": ("point", list(share_kept)),
        }
    )


def matching(*networks, off=0.0):
    """How controls match in the scores of both data sets: of some networks, of no others."""
    n = len(networks)
    ds = xr.Dataset(
        {
            "role": ("lesion", ["target", "control", "control"] * n),
            "target": ("lesion", np.repeat(np.array(networks, dtype=object), 3)),
            "mismatch": ("lesion", [0.0, off - 0.02, off + 0.02] * n),
        }
    )
    return dict.fromkeys(SETS, ds)


def test_joint_p__is_the_share_of_all_combinations():
    ranks = np.array([1, 2, 2])
    sums = [sum(r) for r in product(range(1, 6), repeat=3)]
    assert joint_p(ranks / 5, 4) == pytest.approx(np.mean([s <= ranks.sum() for s in sums]))
    assert joint_p(np.array([np.nan, 0.2]), 4) == pytest.approx(0.2)
    assert joint_p(np.ones(7), 4) == pytest.approx(1.0)
    assert np.isnan(joint_p(np.array([np.nan]), 4))


def test_joint_p__of_no_effect_is_rarely_small(rng):
    p = [joint_p(rng.integers(1, 6, 10) / 5, 4) for _ in range(2000)]
    assert np.mean(np.array(p) <= 0.05) <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 2000)


@pytest.mark.parametrize(
    ("effect", "verdict"),
    [
        ([0.2, 0.001, 0.3, 0], "agree"),
        ([0.2, 0.1, 0.3, 0], "disagree"),  # none that costs hardly any
        ([0.01, 0.001, 0.3, 0], "disagree"),  # none that costs much
        ([np.nan, np.nan, 0.3, 0], "not asked"),
    ],
)
def test_single__needs_networks_that_matter_and_some_that_do_not(effect, verdict):
    assert single(effects(effect)).verdict == verdict


def test_single__says_shares_of_the_whole_models_accuracy():
    assert "words 0.20 % to 40.0 %" in single(effects([0.2, 0.001, 0.3, 0])).measured


@pytest.mark.parametrize(
    ("together", "at_random", "verdict"),
    [(0.3, 0.1, "agree"), (0.05, 0.0, "cannot say"), (0.01, 0.02, "disagree")],
)
def test_more_than_random__compares_with_every_draw(together, at_random, verdict):
    control = [0, 0, 0, [*[0.0] * 18, 0.1] if verdict == "cannot say" else [at_random] * 19]
    ds = effects([0, 0, together, at_random])
    ds["control"][3] = np.array(control[3])[:, None]
    assert more_than_random(ds).verdict == verdict


def test_more_than_random__without_networks_is_not_asked():
    assert more_than_random(effects([np.nan, np.nan, 0, 0.1], neurons=0)).verdict == "not asked"


@pytest.mark.parametrize(
    ("effect", "verdict"),
    [
        ([1, 1, 1, 0], "agree"),
        ([-1, -1, 1, 0], "cannot say"),
        ([-1, -1, -1, 0], "disagree"),
        ([np.nan, np.nan, 0, 0], "not asked"),
    ],
)
def test_more_than_matched__needs_single_networks_and_all_together(effect, verdict):
    assert more_than_matched(effects(effect), matching("ic0", "ic1", TOGETHER)).verdict == verdict


@pytest.mark.parametrize("aside", [-0.3, 0.3])
def test_more_than_matched__says_nothing_of_controls_that_do_not_match(aside):
    told = more_than_matched(effects([1, 1, 1, 0]), matching(TOGETHER, off=aside))
    assert told.verdict == "cannot say" and "of 2 data sets none has controls that match" in told.measured
    assert more_than_matched(effects([-1, -1, -1, 0]), matching(TOGETHER, off=aside)).verdict == "cannot say"
    sets = {name: kept([2, 1, 0], 2.0, baseline=3.0) for name in SETS}
    assert better_kept(sets, matching("second", off=aside)).verdict == "cannot say"


def test_more_than_matched__compares_the_networks_whose_controls_match():
    ds = effects([1, -1, 1, 0])
    assert more_than_matched(ds, matching("ic0", TOGETHER)).verdict == "agree"
    told = more_than_matched(ds, matching("ic0", "ic1", TOGETHER))
    assert told.verdict == "cannot say" and "4 of 4 single networks" in told.measured


@pytest.mark.parametrize(
    ("effect", "verdict"),
    [([0.1, 0.04, 0], "agree"), ([0.1, 0.06, 0], "disagree"), ([0.04, 0.04, 0], "disagree")],
)
def test_kept_suffices__looks_at_the_largest_small_set(effect, verdict):
    assert kept_suffices({"words": kept(effect, 0.2)}).verdict == verdict


def test_kept_suffices__of_some_data_sets_is_not_enough():
    told = kept_suffices({"words": kept([0.1, 0.04, 0], 1), "sums": kept([0.1, 0.3, 0], 1)})
    assert told.verdict == "cannot say" and "words 80.0 % with 50, 92.0 % with 150" in told.measured


@pytest.mark.parametrize(("control", "verdict"), [(2.0, "agree"), (0.5, "disagree")])
def test_better_kept__compares_with_random_sets(control, verdict):
    sets = {name: kept([2, 1, 0], control, baseline=3.0) for name in SETS}
    assert better_kept(sets, matching("second")).verdict == verdict


def test_amplified__tells_without_a_verdict():
    dims = ("network", "dose", "data_set")
    ds = xr.Dataset(
        {
            "effect": (dims, np.array([0.5, 2.0]).reshape(1, 2, 1)),
            "control": (("network", "draw", "dose", "data_set"), np.full((1, 3, 2, 1), 0.25)),
        }
    )
    told = amplified({"words": ds})
    assert told.verdict == "not asked" and "words 0.500 (0.250), 2.00 (0.250)" in told.measured


def of_conditions(p):
    return xr.Dataset(
        {
            "effect": (("network", "condition"), np.eye(2)),
            "control": (("network", "draw", "condition"), np.zeros((2, 4, 2))),
            "selectivity": ("network", [1.0, 1.0]),
            "selectivity_p": ("network", p),
        },
        coords={"network": ["a", "b"], "condition": ["a", "b"]},
    )


@pytest.mark.parametrize(("p", "verdict"), [([0.2, 0.2], "agree"), ([1.0, 0.6], "disagree")])
def test_selective__needs_networks_of_conditions_and_controls_that_match(p, verdict):
    effects = {"words": of_conditions(p)}
    told = selective(effects, matching("a", "b"), "signed")
    assert told.verdict == verdict and "words 2 of 2" in told.measured
    assert selective(effects, matching("a", "b", off=-0.2), "signed").verdict == "cannot say"
    one = selective(effects, matching("a"), "signed")  # too few to tell
    assert one.verdict in ("cannot say", "disagree") and "over the 1 of 2 networks" in one.measured
    assert selective({}, {}, "signed").verdict == "not asked"


def test_off__is_the_mean_over_the_controls_of_a_network():
    found = off({"words": matching("a", off=0.3)["words"], "sums": matching("b", off=-0.3)["sums"]})
    assert found == {("words", "a"): pytest.approx(0.3), ("sums", "b"): pytest.approx(-0.3)}
