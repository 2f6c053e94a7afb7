"""What a scoring does all the same, and says."""

import pytest

import actome
from actome.ingest.phantom import phantom_model
from actome.ingest.scoring.doubts import warn_of_another_model, warn_of_empty

OWN, OTHER = "sha256:1", "sha256:2"


def test_score__a_network_without_a_neuron_is_named(model, phantom, masks, tmp_path):
    masks = masks.copy()
    masks[1] = False
    with pytest.warns(UserWarning, match="no neuron is in 'b': the lesion of such a network changes nothing"):
        scores = actome.score(model, phantom.paradigm, tmp_path / "s.zarr", masks, controls=2)
    assert scores.attrs["inputs"]["controls"] == 2  # as asked for, whatever the number of networks


def test_warn_of_empty__where_a_network_alone_is_kept_all_is_changed(masks):
    with pytest.warns(UserWarning, match="changes every neuron of the site"):
        warn_of_empty({"a": masks[0].values & False}, keep_only=True)


def test_score__masks_and_a_reference_of_another_model_are_kept_in_mind(masks, tmp_path):
    trained, other = phantom_model(), phantom_model(seed=1)
    paradigm = trained.paradigm.select(run=0)
    reference = actome.record((trained.module, trained.tokenizer), paradigm, tmp_path / "r.zarr")
    own = reference.attrs["provenance"]["inputs"]["weights_digest"]
    masks = masks.assign_attrs(weights_digest=own)
    given = {"masks": masks, "reference": reference, "controls": 1}
    scores = actome.score((trained.module, trained.tokenizer), paradigm, tmp_path / "s.zarr", **given)
    assert "other_weights" not in scores.attrs
    with pytest.warns(UserWarning, match="the masks and the reference come from a model of other weights"):
        scores = actome.score((other.module, other.tokenizer), paradigm, tmp_path / "o.zarr", **given)
    told = {"masks": [own], "reference": [own]}
    assert scores.attrs["other_weights"] == told
    assert actome.lesion_effects(scores, n_bootstrap=10).attrs["other_weights"] == told


@pytest.mark.parametrize("noted", [{}, {"weights_digest": ""}, {"weights_digest": [OTHER, OWN]}])
def test_warn_of_another_model__what_is_unknown_or_of_several_is_no_doubt(masks, noted):
    assert warn_of_another_model(masks.assign_attrs(noted), None, OWN) == {}
    assert warn_of_another_model({"a": masks[0].values}, None, OWN) == {}


def test_warn_of_another_model__each_mask_may_be_of_its_own(masks):
    named = {"a": masks[0].assign_attrs(weights_digest=OTHER), "b": masks[1].assign_attrs(weights_digest=OWN)}
    with pytest.warns(UserWarning, match="the masks come from"):
        assert warn_of_another_model(named, None, OWN) == {"other_weights": {"masks": [OTHER]}}
