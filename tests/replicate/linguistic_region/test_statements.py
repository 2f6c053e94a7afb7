"""The rules of the verdicts, on results that are made up."""

import numpy as np
import pytest
import xarray as xr

from actome.replicate.linguistic_region.statements import (
    alone,
    destroyed,
    dissociated,
    frozen,
    gathered,
    hurt,
    lines_hurt,
    most,
    spared,
)

LANGUAGES = ["a", "b", "c"]


def effects(effect, control=0.0, width=0.01, **labels):
    """Effects (region, condition) of regions with three random ones each, all the same."""
    effect = np.asarray(effect, dtype=float)
    n = len(effect)
    control = np.broadcast_to(np.reshape(control, (-1, 1, 1)), (n, 3, effect.shape[1]))
    dims = ("region", "condition")
    return xr.Dataset(
        {
            "effect": (dims, effect),
            "low": (dims, effect - width),
            "high": (dims, effect + width),
            "perplexity": (dims, 10 * np.exp(effect)),
            "perplexity_baseline": ("condition", np.full(effect.shape[1], 10.0)),
            "control": (("region", "draw", "condition"), control),
            "n_controls": ("region", [3] * n),
            "size": ("region", [5] * n),
        },
        coords={"condition": LANGUAGES} | {k: ("region", v) for k, v in labels.items() if k != "region"},
        attrs={"kind": "region_effects", "by": "condition", "n_bootstrap": 10},
    ).assign_coords(region=labels.get("region", [f"r{i}" for i in range(n)]))


def core(top, bottom=0.0, control=0.0, **options):
    """Two shares, each with its top and its bottom region."""
    rows = [np.full(3, v) if np.ndim(v) == 0 else v for v in (top, bottom, top, bottom)]
    roles, shares = ["top", "bottom"] * 2, [0.01, 0.01, 0.05, 0.05]
    return effects(rows, control, role=roles, top=shares, **options)


@pytest.mark.parametrize(
    ("given", "verdict"),
    [
        (core(0.5), "agree"),
        (core([0.5, 0.5, 0.005]), "cannot say"),  # its interval holds 0
        (core(0.5, control=0.6), "disagree"),
        (core(-0.5), "disagree"),
    ],
)
def test_hurt__needs_every_language_beyond_every_random_region(given, verdict):
    assert hurt(given).verdict == verdict


def test_hurt__tells_the_perplexities():
    assert "10.0; without the top 1% 16.5, random 11.1; top 5%" in hurt(core(0.5, control=0.1)).measured


@pytest.mark.parametrize(
    ("given", "verdict"),
    [
        (core(0.5, 0.04, -0.04), "agree"),
        (core(0.5, 0.04, 0.06), "cannot say"),
        (core(0.5, 0.06, 0.06), "disagree"),
        (core(0.0, 0.0, 0.0), "disagree"),  # nothing to be small beside
    ],
)
def test_spared__needs_a_tenth_of_the_top_regions_effect(given, verdict):
    assert spared(given).verdict == verdict


OWN = np.eye(3)


@pytest.mark.parametrize(
    ("effect", "verdict"),
    [(OWN, "agree"), (OWN[[0, 2, 1]], "cannot say"), (1 - OWN, "disagree"), (np.ones((3, 3)), "disagree")],
)
def test_most__needs_the_own_language_ahead_of_every_other(effect, verdict):
    given = effects(effect, region=LANGUAGES, role=["monolingual"] * 3)
    assert most(given).verdict == verdict


@pytest.mark.parametrize(
    ("effect", "control", "verdict"),
    [
        (OWN + 0.05, 0.0, "agree"),
        (OWN + 0.2, 0.0, "disagree"),
        (OWN + np.array([[0.0], [0.0], [0.2]]), 0.0, "cannot say"),
        (OWN, 1.5, "disagree"),  # random regions hurt more
    ],
)
def test_alone__needs_the_others_left_as_they_are(effect, control, verdict):
    given = effects(effect, control, region=LANGUAGES, role=["monolingual"] * 3)
    assert alone(given).verdict == verdict


def concentrated(row, column, matrix=("o", "down", "q")):
    null = np.broadcast_to(np.linspace(0.1, 0.3, 5)[:, None, None], (5, 3, 1))
    both = {}
    for line, values in (("row", row), ("column", column)):
        both[f"{line}_share"] = (("tensor", "region"), np.array(values)[:, None])
        both[f"{line}_share_null"] = (("draw", "tensor", "region"), null)
    return xr.Dataset(both, coords={"matrix": ("tensor", list(matrix))}, attrs={"lines": 0.05})


@pytest.mark.parametrize(
    ("row", "column", "verdict"),
    [
        ([0.5, 0.1, 0.1], [0.1, 0.5, 0.1], "agree"),  # what is not looked at does not count
        ([0.5, 0.1, 0.5], [0.1, 0.3, 0.5], "cannot say"),
        ([0.1, 0.2, 0.9], [0.3, 0.2, 0.9], "disagree"),
    ],
)
def test_gathered__needs_every_output_matrix_beyond_every_random_region(row, column, verdict):
    assert gathered(concentrated(row, column)).verdict == verdict


def test_gathered__without_such_matrices_is_not_asked():
    assert gathered(concentrated([1] * 3, [1] * 3, matrix=("q", "k", "v"))).verdict == "not asked"


def swept(top, chance, along="row"):
    """Effects of two top and two random places at the factors 0, 4, 10, the same for all languages."""
    effect = np.array([top, top, chance, chance], dtype=float)[:, :, None] * np.ones(3)
    return xr.Dataset(
        {"effect": (("place", "factor", "condition"), effect)},
        coords={"factor": [0.0, 4.0, 10.0], "role": ("place", ["top"] * 2 + ["random"] * 2)},
        attrs={"by": "condition", "along": along},
    )


@pytest.mark.parametrize(
    ("rows", "columns", "verdict"),
    [
        (swept([1, 1, 1], [0, 0, 0]), swept([1, 1, np.nan], [0, 0, 2]), "agree"),  # nothing is left: worst
        (swept([1, 1, 1], [0, 0, 0]), swept([0, 0, 0], [0, 0, 0]), "cannot say"),
        (swept([0, 0, 0], [1, 1, np.nan]), swept([1, 1, 1], [1, 1, 1]), "disagree"),
    ],
)
def test_lines_hurt__needs_the_top_ahead_of_every_random_line(rows, columns, verdict):
    assert lines_hurt(rows, columns).verdict == verdict


@pytest.mark.parametrize(
    ("top", "chance", "verdict"),
    [
        ([0, 2.4, 0], [0, 0.1, 0], "agree"),
        ([0, np.nan, 0], [0, 0.1, 0], "agree"),
        ([0, 2.4, 0], [0, 2.4, 0], "cannot say"),
        ([0, 0.1, 2.4], [0, 0, 0], "cannot say"),  # only at another factor than the study's
        ([0, 0.1, 0.6], [0, 3, 3], "disagree"),
    ],
)
def test_destroyed__needs_ten_times_the_perplexity_at_the_studys_factor(top, chance, verdict):
    assert destroyed(swept(top, chance, "scalar")).verdict == verdict


def trained(region, high=-0.1, accuracy=(0.5, 0.5), language="c", within=0.05):
    """Four arms, two steps; loss of the first two languages at the end by arm, differences within so much."""
    effect = np.zeros((4, 2, 3))
    for i, values in enumerate(([0.5, 0.5], region, [0.4, 0.4], [0.1, 0.1])):
        effect[i, 1] = [*values, high - 0.1]
    dims = ("arm", "step", "condition")
    excess = effect - effect[1]
    values = {"effect": effect, "low": effect - 0.1, "high": effect + 0.1}
    values |= {"excess": excess, "excess_low": excess - within, "excess_high": excess + within}
    ds = xr.Dataset(
        {name: (dims, v) for name, v in values.items()},
        coords={"arm": ["none", "region", "random", "rest"], "step": [0, 10], "condition": LANGUAGES},
        attrs={"by": "condition", "trained_on": language, "n_items": 4},
    )
    return ds if accuracy is None else ds.assign(accuracy=(("arm", "step"), np.tile(accuracy, (4, 1))))


@pytest.mark.parametrize(
    ("region", "within", "verdict"),
    [
        ([0.3, 0.3], 0.05, "agree"),
        ([0.3, 0.3], 0.15, "cannot say"),  # less forgotten, but not surely
        ([0.3, 0.45], 0.05, "cannot say"),
        ([0.45, 0.6], 0.05, "disagree"),
    ],
)
def test_frozen__needs_surely_less_forgetting_than_with_a_random_region_frozen(region, within, verdict):
    assert frozen(trained(region, within=within)).verdict == verdict


@pytest.mark.parametrize(
    ("high", "accuracy", "verdict"),
    [
        (-0.1, (0.5, 0.5), "agree"),
        (-0.1, (0.5, 0.75), "disagree"),
        (0.1, (0.5, 0.5), "cannot say"),
        (-0.1, None, "not asked"),
    ],
)
def test_dissociated__needs_the_language_learned_and_no_more_known(high, accuracy, verdict):
    assert dissociated(trained([0.3, 0.3], high, accuracy)).verdict == verdict
