"""The rules of the verdicts, on results that are made up."""

import numpy as np
import pytest
import xarray as xr
from statsmodels.stats.contingency_tables import cochrans_q

from actome.replicate.functional_networks.choices import choices
from actome.replicate.functional_networks.samples import Samples
from actome.replicate.functional_networks.settings import Settings
from actome.replicate.functional_networks.statements import (
    across,
    cochran,
    followed,
    recurring,
    several,
    small,
    uneven,
)
from actome.store.paradigm import Paradigm

N, SAMPLES = 4, 30


def found(samples, p, components=None, together=10):
    """Recurrence of four templates; `samples` with a match of each."""
    best = np.where(np.arange(SAMPLES) < np.array(samples)[:, None], 0.5, 0.2)
    return xr.Dataset(
        {
            "samples": ("network", np.array(samples)),
            "components": ("network", np.array(samples if components is None else components)),
            "p_samples": ("network", np.array(p, dtype=float)),
            "best": (("network", "subject"), best),
            "size": ("network", np.arange(N) + 3),
            "n_together": together,
        },
        coords={"subject": np.arange(SAMPLES)},
        attrs={"jaccard": 0.2},
    )


RECURS, HARDLY, NEVER = (
    found([30, 25, 2, 0], [0.001] * 2 + [1.0] * 2),
    found([9] * N, [0.1] * N),
    found([0] * N, [1] * N),
)


@pytest.mark.parametrize(
    ("sets", "verdict"),
    [
        ({"x": RECURS, "y": RECURS}, "agree"),
        ({"x": RECURS, "y": NEVER}, "cannot say"),
        ({"x": found([9] * N, [0.001, 1, 1, np.nan])}, "cannot say"),
        ({"x": HARDLY, "y": NEVER}, "disagree"),
    ],
)
def test_recurring__needs_half_of_the_templates_of_every_data_set(sets, verdict):
    assert recurring(sets).verdict == verdict


def test_recurring__counts_the_number_of_templates_in():
    assert recurring({"x": found([9] * N, [0.0126] * N)}).verdict == "disagree"  # above 0.05 / 4
    said = recurring({"words": RECURS}).measured
    assert "words 2 of 4, in 0 to 30 of 30 samples" in said


@pytest.mark.parametrize(
    ("sets", "verdict"),
    [({"x": RECURS}, "agree"), ({"x": RECURS, "y": HARDLY}, "cannot say"), ({"x": NEVER}, "disagree")],
)
def test_uneven__tests_whether_templates_differ(sets, verdict):
    assert uneven(sets).verdict == verdict


def test_several__and_small__look_at_counts_alone():
    twice = found([3] * N, [1] * N, components=[3, 3, 5, 3])
    assert several({"x": twice}).verdict == "agree" and several({"x": RECURS}).verdict == "disagree"
    assert "x 1 of 4 templates" in several({"x": twice}).measured
    assert small({"x": RECURS}, 1000).verdict == "agree" and small({"x": RECURS}, 400).verdict == "disagree"
    assert "10 (1.00 %; each 3 to 6)" in small({"x": RECURS}, 1000).measured


def test_cochran__is_that_of_statsmodels(rng):
    for _ in range(5):
        matched = rng.random((5, 40)) < rng.random((5, 1))
        assert cochran(matched) == pytest.approx(cochrans_q(matched.T.astype(int)).pvalue)
    assert cochran(np.ones((3, 9), dtype=bool)) == 1.0


def test_choices__tell_the_two_ways_apart():
    settings = Settings("mlp", 7, 10, 0)
    samples = {"words": Samples(Paradigm([{"text": "x"}], name="words"), ["a"], ["b"])}
    few = xr.Dataset({"few": ("data_set", [3])}, coords={"data_set": ["words"]})
    practice, paper = (
        {name: (value, reason) for name, value, reason in choices(way, settings, samples, few)}
        for way in settings.ways("practice")
    )
    assert practice["values"][0] == "mlp" and paper["values"][0] == "mlp_out"
    assert practice["ICA"][0].startswith("spatial") and "row of the transposed mixing" in paper["ICA"][0]
    assert "unit variance" in practice["scale of neurons"][0] and "centred" in paper["scale of neurons"][0]
    assert all(
        "the study's code takes the cube" in w["non-linearity of the ICA"][1] for w in (practice, paper)
    )
    assert practice["stability"][0].startswith("10 repeats") and "further repeats" in paper["stability"][0]
    assert practice["components"][0] == "7" and practice["short samples"][0].endswith("words 3")
    assert practice["samples"][0].startswith("words 1 + 1")


def counted(p):
    """Recurrence of two data sets' templates in each other: p (data set, in data set, template)."""
    dims = ("data_set", "data_set_other", "network")
    return xr.Dataset({"p_samples": (dims, np.array(p))}, coords={"data_set": ["x", "y"]})


ALL, NONE = [0.001, 0.001], [1.0, 1.0]


@pytest.mark.parametrize(
    ("p", "verdict", "said"),
    [
        ([[NONE, ALL], [ALL, NONE]], "agree", "x 2 of 2; y 2 of 2"),
        ([[ALL, NONE], [NONE, ALL]], "disagree", "x 0 of 2; y 0 of 2"),  # its own samples do not count
        ([[ALL, ALL], [NONE, ALL]], "cannot say", "x 2 of 2; y 0 of 2"),
        ([[ALL, [0.001, np.nan]], [[0.025, 0.026], ALL]], "agree", "x 1 of 2; y 1 of 2"),  # 0.05 / 2
    ],
)
def test_across__looks_at_samples_of_other_data_sets(p, verdict, said):
    told = across([counted(p)])
    assert told.verdict == verdict and said in told.measured


def test_across__one_data_set_cannot_tell():
    assert across([]).verdict == "not asked"


def labelled(*labels):
    return xr.Dataset({"label": ("component", np.array(labels, dtype=object))})


@pytest.mark.parametrize(
    ("labels", "kept", "verdict"),
    [
        ({"x": labelled("fr", "", "fr")}, {}, "agree"),
        ({"x": labelled("fr", "", "")}, {"x": xr.DataArray([True, True, False])}, "agree"),
        ({"x": labelled("fr", "", "")}, {}, "cannot say"),
        ({"x": labelled("fr", ""), "y": labelled("", "")}, {}, "cannot say"),
        ({"x": labelled("", "fr")}, {"x": xr.DataArray([True, False])}, "disagree"),
        ({"x": labelled("fr", "fr")}, {"x": xr.DataArray([False, False])}, "not asked"),
        ({}, {}, "not asked"),
    ],
)
def test_followed__counts_the_networks_that_beat_their_null(labels, kept, verdict):
    assert followed(labels, kept).verdict == verdict
