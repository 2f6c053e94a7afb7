"""The rules of the verdicts, on results that are made up."""

import numpy as np
import pytest
import scipy.stats
import xarray as xr

from actome.replicate.block_design.statements import (
    active,
    distinct,
    identified,
    largest_overlap,
    overlapping,
    repeating,
    shared_between_runs,
)
from actome.replicate.outcome import as_dataset

PAIR = ("medical_imaging", "pathology")
N = 10_000  # neurons


def networks(**sizes):
    mask = np.arange(50) < np.array(list(sizes.values()))[:, None, None]
    return xr.DataArray(mask, dims=("network", "layer", "neuron"), coords={"network": list(sizes)})


def repeated(both, tasks=("a", "b"), n_runs=2, size=100, **numbers):
    """Maps of every task in every run; `both` (map, map) neurons shared, runs outside, tasks inside."""
    both = np.array(both, dtype=float)
    n = len(tasks) * n_runs
    with np.errstate(invalid="ignore"):
        dice = both / size if size else np.full((n, n), np.nan)
    told = {"within": np.nan, "between": np.nan, "difference": np.nan, "p_value": np.nan} | numbers
    return xr.Dataset(
        {
            "dice": (("map", "map_other"), dice),
            "size": ("map", np.full(n, size)),
            "icc2": ("contrast", np.full(len(tasks), np.nan)),
            "null": (("metric", "permutation"), np.zeros((1, 200))),
            **{name: ("metric", [value]) for name, value in told.items()},
        },
        coords={
            "map_contrast": ("map", list(tasks) * n_runs),
            "run": ("map", np.repeat(np.arange(n_runs), len(tasks))),
            "metric": ["dice"],
        },
        attrs={"by": "run"},
    )


def sharing(same, different):
    """Two tasks in two runs: neurons shared between runs by one task, and by two."""
    return [
        [100, different, same, different],
        [different, 100, different, same],
        [same, different, 100, different],
        [different, same, different, 100],
    ]


@pytest.mark.parametrize(
    ("sizes", "verdict"),
    [({"a": 3, "b": 1}, "agree"), ({"a": 3, "b": 0}, "cannot say"), ({"a": 0, "b": 0}, "disagree")],
)
def test_active__asks_for_a_value_of_every_task(sizes, verdict):
    told = active(networks(**sizes))
    assert told.verdict == verdict
    assert told.measured == f"Values above rest, of 50: a {sizes['a']}, b {sizes['b']}."


@pytest.mark.parametrize(
    ("difference", "p", "verdict"),
    [
        (0.2, 0.005, "agree"),
        (0.2, 0.05, "agree"),
        (0.2, 0.06, "cannot say"),
        (0.0, 0.005, "disagree"),
        (-0.1, 0.9, "disagree"),
        (np.nan, np.nan, "cannot say"),
    ],
)
def test_distinct__asks_for_more_likeness_within_tasks(difference, p, verdict):
    given = repeated(sharing(50, 30), within=0.5 + difference, between=0.5, difference=difference, p_value=p)
    assert distinct(given).verdict == verdict


def test_distinct__asks_it_of_every_task():
    one = np.array(sharing(50, 10))
    one[1, 3] = one[3, 1] = 0
    given = repeated(one, within=0.25, between=0.1, difference=0.15, p_value=0.005)
    told = distinct(given)
    assert told.verdict == "cannot say" and "for 1 of 2 tasks" in told.measured


def test_shared_between_runs__is_twice_the_mean_p_of_the_pairs_of_runs():
    rng = np.random.default_rng(0)
    both = rng.integers(0, 8, (6, 6))
    both = np.triu(both) + np.triu(both, 1).T
    names, ratio, p = shared_between_runs(repeated(both, n_runs=3), N)
    assert names == ["a", "b"]
    for i, j in np.ndindex(2, 2):
        pairs = [(2 * r + i, 2 * s + j) for r in range(3) for s in range(3) if r != s]
        shared = [both[pair] for pair in pairs]
        each = [scipy.stats.hypergeom.sf(k - 1, N, 100, 100) for k in shared]
        assert p[i, j] == pytest.approx(min(1.0, 2 * np.mean(each)), rel=1e-9)
        assert ratio[i, j] == pytest.approx(np.mean(shared), rel=1e-9)  # one is expected by chance


def test_shared_between_runs__holds_its_level_under_chance():
    rng = np.random.default_rng(1)
    small = 0
    for _ in range(200):
        masks = np.zeros((4, 500))
        for mask in masks:
            mask[rng.choice(500, 100, replace=False)] = 1
        _, _, p = shared_between_runs(repeated(masks @ masks.T), 500)
        small += p[0, 1] <= 0.05
    assert small <= scipy.stats.binom.ppf(0.999, 200, 0.05)


@pytest.mark.parametrize(("shared", "verdict"), [(20, "agree"), (1, "cannot say"), (0, "disagree")])
def test_overlapping__asks_for_a_pair_that_shares_more_than_chance(shared, verdict):
    assert overlapping(repeated(sharing(50, shared)), N).verdict == verdict


def test_repeating__asks_for_every_task():
    assert repeating(repeated(sharing(50, 1)), N).verdict == "agree"
    assert repeating(repeated(sharing(1, 50)), N).verdict == "disagree"
    one = np.array(sharing(50, 1))
    one[1, 3] = one[3, 1] = 1
    told = repeating(repeated(one), N)
    assert told.verdict == "cannot say" and told.measured.startswith("1 of 2 networks")


def test_verdicts__of_empty_networks_say_what_can_be_said():
    given = repeated(np.zeros((4, 4)), size=0)
    assert overlapping(given, N).verdict == "cannot say"
    assert repeating(given, N).verdict == "disagree"


def overlapped(names, largest):
    """Dice of 0.1 between any two networks, and 0.3 between the two of `largest`."""
    dice = np.full((len(names), len(names)), 0.1)
    i, j = (names.index(n) for n in largest)
    dice[i, j] = dice[j, i] = 0.3
    return xr.Dataset({"dice": (("network", "network_other"), dice)}, coords={"network": names})


@pytest.mark.parametrize(
    ("overall", "in_runs", "verdict"),
    [
        (PAIR, (PAIR, PAIR), "agree"),
        (PAIR, (PAIR, ("other", "pathology")), "agree"),
        (PAIR, (("other", "pathology"),) * 2, "cannot say"),
        (("other", "pathology"), (PAIR, ("other", "pathology")), "cannot say"),
        (("other", "pathology"), (("other", "pathology"),) * 2, "disagree"),
    ],
)
def test_largest_overlap__asks_all_runs_and_single_ones(overall, in_runs, verdict):
    names = ["medical_imaging", "other", "pathology"]
    both = np.zeros((6, 6))
    for r, pair in enumerate(in_runs):
        both[3 * r : 3 * r + 3, 3 * r : 3 * r + 3] = 100 * overlapped(names, pair)["dice"]
    told = largest_overlap(overlapped(names, overall), repeated(both, tasks=names), PAIR)
    assert told.verdict == verdict
    assert ("Dice over all runs: 0.300" in told.measured) == (overall == PAIR)


def test_largest_overlap__needs_the_tasks_and_their_networks():
    empty = overlapped(list(PAIR), PAIR) * np.nan
    assert (
        largest_overlap(empty, repeated(np.zeros((4, 4)), tasks=PAIR, size=0), PAIR).verdict == "cannot say"
    )
    told = largest_overlap(overlapped(["a", "b"], ("a", "b")), repeated(sharing(1, 1)), PAIR)
    assert told.verdict == "not asked"
    assert told.measured == "The paradigm has no condition medical_imaging and pathology."


@pytest.mark.parametrize(
    ("accuracy", "p", "verdict"),
    [(0.9, 0.005, "agree"), (0.4, 0.2, "cannot say"), (0.25, 0.6, "disagree"), (0.1, 0.9, "disagree")],
)
def test_identified__asks_for_more_than_chance(accuracy, p, verdict):
    given = xr.Dataset(
        {
            "accuracy": accuracy,
            "p_value": p,
            "null": ("permutation", np.full(199, 0.25)),
            "confusion": (("true", "named"), np.full((2, 2), 5)),
        }
    )
    assert identified(given).verdict == verdict


def test_as_dataset__holds_statements_and_choices():
    ds = as_dataset([active(networks(a=1))], [("runs", "3", "few")], study="s", note="n")
    assert ds.attrs == {"kind": "statements", "study": "s", "note": "n"}
    assert ds["verdict"].to_numpy().tolist() == ["agree"]
    assert [ds[v].item() for v in ("choice", "value", "reason")] == ["runs", "3", "few"]
