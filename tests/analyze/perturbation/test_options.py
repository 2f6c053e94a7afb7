"""What every analysis of scores refuses, before any work."""

import numpy as np
import pytest
import xarray as xr

from actome.analyze.perturbation.doses import amplification, dose_response
from actome.analyze.perturbation.effects import lesion_effects
from actome.analyze.perturbation.preservation import preservation
from actome.store.archive import open as open_entry
from actome.store.errors import ActomeError
from actome.store.results import save_result

from .synthetic import make_scores

ANALYSES = [
    (lesion_effects, {}),
    (dose_response, {"doses": [0.5, 2.0]}),
    (amplification, {"doses": [0.5, 2.0], "kind": "add"}),
    (preservation, {"keep_only": True}),
]


def twice(scores):
    return xr.concat([scores, scores.isel(prompt=[3])], "prompt", data_vars="minimal")


@pytest.fixture(params=ANALYSES, ids=lambda case: case[0].__name__)
def case(request, rng):
    analysis, settings = request.param
    return analysis, make_scores(rng, **settings)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"n_bootstrap": 0}, ValueError, "n_bootstrap must be at least 1, got 0"),
        ({"n_bootstrap": 10.5}, TypeError, "n_bootstrap must be a whole number, got 10.5"),
        ({"seed": -1}, ValueError, "seed must be at least 0, got -1"),
        ({"metric": "bleu"}, ValueError, r"metric must be one of \['loss', .* got 'bleu'"),
        ({"metric": "kl"}, ValueError, r"the scores have no 'kl', .* they allow \['loss'\]"),
        ({"correction": "tukey"}, ValueError, r"correction must be one of \['fdr', .* got 'tukey'"),
        ({"correction": None}, ValueError, "correction must be one of .* got None"),
        (
            {"by": "genre"},
            ValueError,
            r"no label 'genre' of the prompts; they have \['condition', 'prompt'\]",
        ),
        ({"by": "role"}, ValueError, "no label 'role' of the prompts"),
        ({"by": ["condition"]}, TypeError, "by must be the name of a label"),
    ],
)
def test_analyses_of_scores__refuse_options(case, options, error, message):
    analysis, scores = case
    with pytest.raises(error, match=message) as caught:
        analysis(scores, **options)
    assert isinstance(caught.value, ActomeError)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda ds: None, TypeError, "takes scores from actome.score"),
        (lambda ds: ds["logprob"], TypeError, "takes scores from actome.score"),
        (lambda ds: ds.drop_vars("role"), TypeError, "takes scores from actome.score"),
        (lambda ds: ds.drop_vars("network"), TypeError, "takes scores from actome.score"),
        (lambda ds: ds.drop_vars("prompt"), TypeError, "takes scores from actome.score"),
        (lambda ds: ds.isel(prompt=[]), ValueError, "the scores hold no prompt; select some"),
        (twice, ValueError, "the prompt 'p03' comes twice"),
        (lambda ds: ds.isel(lesion=slice(1, None)), ValueError, "must hold one baseline"),
        (
            lambda ds: ds.assign_attrs(selected_on=["p03"]),
            ValueError,
            "1 of the scored prompts, such as 'p03', took part in selecting the networks",
        ),
        (
            lambda ds: ds.assign_attrs(inputs_digest="sha256:1"),
            ValueError,
            "the scores are not complete: other processes have not ended",
        ),
    ],
)
def test_analyses_of_scores__refuse_scores(case, change, error, message):
    analysis, scores = case
    with pytest.raises(error, match=message) as caught:
        analysis(change(scores))
    assert isinstance(caught.value, ActomeError)


def test_analyses_of_scores__say_what_was_asked_of_which_scores(case):
    analysis, scores = case
    scores = scores.assign_attrs(
        inputs_digest="sha256:1", manifest_digest="sha256:2", name="s", selected_on=["p99"]
    )
    attrs = analysis(scores, metric="loss", correction="holm", n_bootstrap=np.int64(3), seed=5).attrs
    expected = {
        "by": "condition",
        "metric": "loss",
        "correction": "holm",
        "n_bootstrap": 3,
        "seed": 5,
        "source": "sha256:2",
        "source_name": "s",
        "site": "mlp",
        "selected_on": ["p99"],
    }
    assert expected.items() <= attrs.items()
    assert "exchangeable" in attrs["assumption"] and "any dependence" in attrs["assumption"]


def test_analyses_of_scores__have_no_p_without_controls_and_nothing_without_tokens(case):
    analysis, scores = case
    alone = analysis(scores.isel(lesion=np.flatnonzero(scores["role"] != "control")), n_bootstrap=5)
    assert alone["effect"].notnull().all() and alone["low"].notnull().all() and alone.sizes["draw"] == 0
    silent = analysis(scores.assign(logprob=xr.full_like(scores["logprob"], np.nan)), n_bootstrap=5)
    numbers = [name for name in silent if name.startswith(("effect", "low", "slope", "p_", "baseline"))]
    assert {"effect", "low", "p_value"} <= set(numbers)
    for ds, names in ((alone, ["p_value", "p_corrected"]), (silent, numbers)):
        for name in names:
            assert ds[name].isnull().all(), name


def test_analyses_of_scores__are_saved_and_opened_again(case, tmp_path):
    analysis, scores = case
    result = analysis(scores, n_bootstrap=np.int64(5))
    again = open_entry(save_result(result, tmp_path / "r.zarr"))
    xr.testing.assert_equal(again.compute(), result)
    assert again.attrs["n_bootstrap"] == 5 and again.attrs["assumption"] == result.attrs["assumption"]
