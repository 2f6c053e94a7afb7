"""Which analysis suits some scores."""

import numpy as np
import pytest
import xarray as xr

from actome.analyze.perturbation.doses import amplification
from actome.analyze.perturbation.suited import metrics_of, suited_effects

from .synthetic import make_scores


@pytest.mark.parametrize(
    ("settings", "kind"),
    [
        ({}, "effects"),
        ({"keep_only": True}, "preservation"),
        ({"doses": [2.0], "kind": "scale"}, "effects"),
        ({"doses": [0.0, 0.5], "kind": "scale"}, "dose_response"),
        ({"doses": [1.0, 2.0], "kind": "scale"}, "amplification"),
        ({"doses": [-1.0, 2.0], "kind": "add"}, "dose_response"),
        ({"doses": [1.0, 2.0], "kind": "add"}, "amplification"),
        ({"doses": [1.0, 2.0], "kind": "noise"}, "dose_response"),
        ({"doses": [1.0, 2.0], "kind": "add", "keep_only": True}, "dose_response"),
    ],
)
def test_suited_effects__are_of_the_kind_that_the_scores_ask_for(rng, settings, kind):
    assert suited_effects(make_scores(rng, **settings), n_bootstrap=2).attrs["kind"] == kind


def test_suited_effects__are_those_of_the_analysis_and_its_options(rng):
    scores = make_scores(rng, doses=[1.0, 2.0], kind="add")
    options = {"correction": "holm", "n_bootstrap": 7, "seed": 3}
    xr.testing.assert_identical(suited_effects(scores, **options), amplification(scores, **options))


def test_metrics_of__are_those_that_the_scores_hold(rng):
    scores = make_scores(rng)
    assert metrics_of(scores) == ["loss"]
    more = {"hit": scores["logprob"] > -2, "kl": scores["logprob"] ** 2}
    assert metrics_of(scores.assign(more)) == ["loss", "hit", "kl"]
    assert np.isin(metrics_of(scores.assign(parsed=scores["role"])), ["loss", "answer"]).all()
