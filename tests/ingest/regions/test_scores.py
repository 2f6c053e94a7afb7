"""Scores under region lesions: the planted region must hurt its language and no other."""

from contextlib import nullcontext

import numpy as np
import pytest
import xarray as xr

import actome
from actome.analyze.regions.effects import region_effects
from actome.ingest.completion import complete
from actome.ingest.forward import Sampling
from actome.ingest.identity import weights_digest
from actome.ingest.regions.lesions import pick_region, region_lesion
from actome.ingest.regions.losses import scorable_tokens, score_all
from actome.ingest.regions.scores import score_regions
from actome.store.errors import InputError, InputTypeError
from actome.store.integrity import verify
from actome.store.seeds import seed_of
from actome.store.sharing import export

NAME = "model.layers.1.mlp.up_proj.weight"


def unsaid(options):
    """Masks by hand do not say which prompts selected them."""
    by_hand = isinstance(options.get("regions"), dict) and "half" in options["regions"]
    return pytest.warns(UserWarning, match="do not say") if by_hand else nullcontext()


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


def test_score_regions__draws_belong_to_the_region_not_to_its_place(model, phantom, planted, tmp_path):
    few, options = phantom.paradigm.select(run=0), {"kind": "noise", "amount": 1.0, "controls": 2}
    both = score_regions(model, few, tmp_path / "s.zarr", planted, **options).load()
    for name, regions in (("turned", [1, 0]), ("one", [1])):
        other = score_regions(model, few, tmp_path / name, planted.isel(region=regions), **options).load()
        xr.testing.assert_equal(other["logprob"], both["logprob"].sel(lesion=other["lesion"]))


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
        ({"match": "layer"}, InputError, "match must be one of"),
        ({"regions": {"half": {NAME: np.eye(64, 50) > 0}}, "match": "lines"}, InputError, "needs whole rows"),
        ({"max_new_tokens": -1}, InputError, "max_new_tokens must be at least 1"),
        ({"max_new_tokens": 60}, InputError, "the model's context 64"),
        ({"regions": {}}, InputTypeError, "regions must be a DataTree, or one or more by name"),
        ({"regions": {NAME: np.ones((64, 50), bool)}}, InputTypeError, "must be one region"),
        ({"regions": {"half": {NAME: np.ones((64, 50), bool)}}, "kind": "swap"}, InputError, "than half"),
        ({"regions": {"both": planted}}, InputError, "'both' must be one region, got"),
        ({"kind": "noise"}, InputError, "needs `amount`"),
        ({"regions": xr.Dataset()}, InputTypeError, "regions must be a DataTree"),
    ):
        with pytest.raises(error, match=message), unsaid(options):
            score_regions(model, phantom.paradigm, out, **{"regions": planted, **options})
    assert not out.exists()


def test_score_regions__completions_are_those_of_the_lesioned_model(loaded, phantom, planted, tmp_path):
    few = phantom.paradigm.select(prompt=phantom.paradigm.table["prompt"].tolist()[::7])
    options = {"controls": 1, "max_new_tokens": 3, "temperature": 1.0, "seed": 5}
    scores = score_regions(loaded, few, tmp_path / "s.zarr", planted, **options).load()
    assert scores["completion"].dims == ("lesion", "prompt") and scores.sizes["lesion"] == 5
    plain = score_regions(loaded, few, tmp_path / "p.zarr", planted, controls=1, seed=5)
    np.testing.assert_array_equal(scores["logprob"], plain["logprob"])
    sampling = Sampling(3, 1.0, 1.0, 5)
    tokens, names = scorable_tokens(loaded, few), few.table["prompt"].tolist()
    for lesion, region in (("baseline", {}), ("a/target", pick_region(planted, "a"))):
        with region_lesion(loaded, region), loaded.evaluating():
            one_by_one = [
                complete(loaded, tokens.token_id[[i]], [n], sampling)[0] for i, n in enumerate(names)
            ]
        assert scores["completion"].sel(lesion=lesion).values.tolist() == one_by_one
    whole, lesioned = (scores["completion"].sel(lesion=name).values for name in ("baseline", "a/target"))
    assert (whole != lesioned).any() and all(len(text.split()) <= 3 for text in whole)
    export(tmp_path / "s.zarr", tmp_path / "e", text="digest")
    hidden = actome.open(tmp_path / "e" / "s.zarr")["completion"].values.ravel()
    assert all(text.startswith("sha256:") for text in hidden if text)
    with pytest.raises(InputError, match="holds other scores"):
        score_regions(loaded, few, tmp_path / "s.zarr", planted, **{**options, "max_new_tokens": 2})


@pytest.mark.parametrize(
    ("kind", "given"), [("noise", {"amount": 1.0}), ("swap", {}), ("reset", {"other": "initial"})]
)
def test_score_regions__rows_columns_and_single_values_beside_as_many_lines(
    loaded, phantom, planted, tmp_path, kind, given
):
    row, column, value = (np.zeros((64, 50), dtype=bool) for _ in range(3))
    row[[3, 9]], column[:, 7], value[5, 5] = True, True, True
    masks = {"rows": {NAME: row}, "column": {NAME: column}, "value": {NAME: value}}
    with pytest.warns(UserWarning, match="'rows', 'column', 'value' do not say which prompts selected them"):
        scores = score_regions(
            loaded, phantom.paradigm.select(run=0), tmp_path / "s.zarr",
            {**masks, "a": pick_region(planted, "a")}, kind=kind, controls=2, match="lines", **given,
        )  # fmt: skip
    sizes = dict(zip(scores["lesion"].values.tolist(), scores["size"].values.tolist(), strict=True))
    assert [sizes[f"{n}/{of}"] for n in masks for of in ("target", "control1")] == [100, 100, 64, 64, 1, 1]
    assert set(scores["region_role"].values) == {"", "monolingual"}
    tokens = scorable_tokens(loaded, phantom.paradigm.select(run=0))
    seed = 0 if kind == "reset" else seed_of(0, "rows/target")  # initial weights are those of the call's
    with region_lesion(loaded, masks["rows"], kind=kind, seed=seed, **given):
        np.testing.assert_array_equal(scores["logprob"].sel(lesion="rows/target"), score_all(loaded, tokens))
    assert region_effects(scores, n_bootstrap=5)["n_controls"].values.tolist() == [2] * 4


def test_score_regions__one_region_by_name_is_that_of_the_tree(loaded, phantom, planted, tmp_path):
    few = phantom.paradigm.select(run=0)
    tree = score_regions(loaded, few, tmp_path / "t.zarr", planted, controls=1)
    named = {name: pick_region(planted, name) for name in ("b", "a")}
    by_name = score_regions(loaded, few, tmp_path / "n.zarr", named, controls=1)
    xr.testing.assert_identical(
        by_name.load().sel(lesion=tree["lesion"].values).drop_attrs(), tree.load().drop_attrs()
    )
