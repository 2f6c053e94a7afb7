"""Scores under region lesions: the planted region must hurt its language and no other."""

import numpy as np
import pytest
import xarray as xr

from actome.analyze.regions.effects import region_effects
from actome.ingest.identity import weights_digest
from actome.ingest.regions.lesions import pick_region, region_lesion
from actome.ingest.regions.losses import scorable_tokens, score_all
from actome.ingest.regions.scores import score_regions
from actome.store.errors import InputError, InputTypeError
from actome.store.integrity import verify


def test_score_regions__planted_regions_hurt_their_language_and_no_other(model, phantom, planted, tmp_path):
    digest = weights_digest(phantom.module)
    scores = score_regions(model, phantom.paradigm, tmp_path / "s.zarr", planted, controls=3)
    assert weights_digest(phantom.module) == digest and verify(str(tmp_path / "s.zarr")) == []
    effects = region_effects(scores, n_bootstrap=50)
    for own, other in (("a", "b"), ("b", "a")):
        assert float(effects["effect"].sel(region=own, condition=own)) > 1
        assert float(effects["low"].sel(region=own, condition=own)) > 1
        assert abs(float(effects["effect"].sel(region=own, condition=other))) < 1e-3
        assert float(effects["p_value"].sel(region=own, condition=own)) == 1 / 4
    assert effects["size"].values.tolist() == [12 * 50, 12 * 50]


def test_score_regions__logprob_is_that_of_the_lesioned_model(loaded, phantom, planted, tmp_path):
    scores = score_regions(loaded, phantom.paradigm, tmp_path / "s.zarr", planted, controls=0)
    assert scores["lesion"].values.tolist() == ["baseline", "a/target", "b/target"]
    tokens = scorable_tokens(loaded, phantom.paradigm)
    with region_lesion(loaded, pick_region(planted, "b")):
        expected = score_all(loaded, tokens)
    np.testing.assert_array_equal(scores["logprob"].sel(lesion="b/target").to_numpy(), expected)


def test_score_regions__bottom_and_random_regions_have_no_controls(model, phantom, make_regions, tmp_path):
    regions = make_regions(
        ["t", "b", "r"], lambda name, shape, k: np.indices(shape)[0] == k, role=["top", "bottom", "random"]
    )
    scores = score_regions(model, phantom.paradigm.select(run=0), tmp_path / "s.zarr", regions, controls=2)
    assert scores["lesion"].values.tolist() == [
        "baseline", "t/target", "t/control0", "t/control1", "b/target", "r/target",
    ]  # fmt: skip
    assert len(set(scores["size"].values[1:].tolist())) == 1


def test_score_regions__prompts_that_selected_a_region_do_not_score_it(model, phantom, planted, tmp_path):
    ids = phantom.paradigm.table["prompt"].tolist()
    some = planted.copy()
    some.attrs["selected_on"] = ids[:10]
    scores = score_regions(model, phantom.paradigm, tmp_path / "s.zarr", some, controls=0)
    assert set(scores["prompt"].values) == set(ids[10:])
    some.attrs["selected_on"] = ids
    with pytest.raises(InputError, match="every prompt of the paradigm took part"):
        score_regions(model, phantom.paradigm, tmp_path / "t.zarr", some, controls=0)
    del some.attrs["selected_on"]
    with pytest.warns(UserWarning, match="do not say which prompts selected them"):
        score_regions(model, phantom.paradigm.select(run=0), tmp_path / "u.zarr", some, controls=0)


def test_score_regions__same_call_opens_what_is_there_another_is_refused(model, phantom, planted, tmp_path):
    few = phantom.paradigm.select(run=0)
    first = score_regions(model, few, tmp_path / "s.zarr", planted, controls=1)
    again = score_regions(model, few, tmp_path / "s.zarr", planted, controls=1)
    xr.testing.assert_identical(first.compute(), again.compute())
    with pytest.raises(InputError, match="holds other scores"):
        score_regions(model, few, tmp_path / "s.zarr", planted, controls=1, kind="swap")


def test_score_regions__bad_input_is_refused_before_anything_is_written(model, phantom, planted, tmp_path):
    out = tmp_path / "s.zarr"
    for options, error, message in (
        ({"controls": -1}, InputError, "controls must be at least 0"),
        ({"match": "layer"}, InputError, "match must be 'size' or 'magnitude'"),
        ({"kind": "noise"}, InputError, "needs `amount`"),
        ({"regions": xr.Dataset()}, InputTypeError, "regions must be a DataTree"),
    ):
        with pytest.raises(error, match=message):
            score_regions(model, phantom.paradigm, out, **{"regions": planted, **options})
    assert not out.exists()
