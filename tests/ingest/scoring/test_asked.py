"""What `score` can be asked for beside one lesion of each network."""

import numpy as np
import pytest
import torch
import xarray as xr

import actome
from actome.analyze.perturbation.adjustment import p_at_equal_activity
from actome.ingest.scoring import plan
from actome.ingest.scoring.untrained import untrained_copy
from actome.store.errors import InputError, InputTypeError
from actome.store.unit_archive import Grid


def test_score__doses_are_given_to_every_network_and_control(model, few, masks, tmp_path):
    doses = (0.0, 0.5, 1.0)
    scores = actome.score(
        model, few, tmp_path / "s.zarr", masks, kind="scale", amount=doses, controls=2
    ).load()
    assert scores.sizes["lesion"] == 1 + 2 * 3 * 3 and np.isnan(scores["dose"][0])
    loss = -scores["logprob"].mean(("prompt", "token"))
    target = loss.isel(lesion=(scores["role"] == "target") & (scores["target"] == "a"))
    assert target["dose"].values.tolist() == list(doses) and target[0] > target[1] + 1
    np.testing.assert_allclose(target[-1], loss[0], atol=1e-6)  # times one changes nothing
    for dose in doses[:2]:
        one = scores.isel(lesion=(scores["dose"] == dose) | (scores["role"] == "baseline"))
        single = actome.score(
            model, few, tmp_path / f"{dose}.zarr", masks, kind="scale", amount=dose, controls=2
        )
        assert "dose" not in single.coords
        np.testing.assert_array_equal(one["network"], single["network"])
        np.testing.assert_allclose(one["logprob"], single["logprob"], atol=1e-5)
        np.testing.assert_allclose(
            actome.lesion_effects(one)["effect"], actome.lesion_effects(single)["effect"], atol=1e-5
        )


def test_score__doses_that_six_digits_do_not_tell_apart_have_names_of_their_own(model, few, masks, tmp_path):
    doses = [1.0000001, 1.0000002]
    scores = actome.score(model, few, tmp_path / "s.zarr", masks, kind="scale", amount=doses, controls=0)
    assert scores["lesion"].values.tolist()[1:3] == ["a/target@1.0000001", "a/target@1.0000002"]


def test_score__keep_only_leaves_the_network_and_nothing_else(model, few, masks, tmp_path):
    scores = actome.score(model, few, tmp_path / "s.zarr", masks, keep_only=True, controls=1)
    for lesion in scores["lesion"].values:
        one = scores.sel(lesion=lesion)
        mask = np.zeros((3, 64), bool) if lesion == "baseline" else ~one["network"].to_numpy()
        with actome.lesion(model, mask):
            expected = actome.record(model, few, tmp_path / f"{lesion}.zarr".replace("/", "-"), index=False)
        np.testing.assert_allclose(one["logprob"], expected["logprob"], atol=1e-5)
    np.testing.assert_array_equal(scores["network"].sel(lesion="a/target"), masks[0])


@pytest.mark.parametrize("kind", ["noise", "resample"])
def test_score__chance_belongs_to_the_prompt_not_to_the_batch(model, few, masks, tmp_path, kind, monkeypatch):
    wide = actome.record(model, few, tmp_path / "r.zarr", dtype="float32", index=False)
    options = {"kind": kind, "reference": wide, "controls": 2}
    whole = actome.score(model, few, tmp_path / "a.zarr", masks, **options).load()
    monkeypatch.setattr(
        plan.ScorePlan,
        "grid",
        lambda self: Grid({"lesion": 7, "prompt": len(few)}, {"lesion": 2, "prompt": 1}),
    )
    monkeypatch.setattr(plan.ScorePlan, "batch_tokens", lambda self: 1)
    single = actome.score(model, few, tmp_path / "b.zarr", masks, **options).load()
    np.testing.assert_allclose(single["logprob"], whole["logprob"], atol=1e-5)
    other = actome.score(model, few, tmp_path / "c.zarr", masks, seed=1, **options).load()
    assert not np.allclose(other["logprob"][1], whole["logprob"][1], equal_nan=True)


@pytest.mark.parametrize("kind", ["noise", "resample"])
def test_score__chance_belongs_to_the_prompt_not_to_its_place(model, phantom, few, masks, tmp_path, kind):
    """Each prompt has its numbers and its texts, whichever others are there and in whichever order."""
    wide = actome.record(model, few, tmp_path / "r.zarr", dtype="float32", index=False)
    options = {"kind": kind, "reference": wide, "controls": 1, "max_new_tokens": 4, "temperature": 1.0}
    both = phantom.paradigm.select(run=0)
    whole = actome.score(model, both, tmp_path / "a.zarr", masks, **options).load()
    some = actome.Paradigm(both.table.iloc[[5, 1, 2]])
    other = actome.score(model, some, tmp_path / "b.zarr", masks, **options).load()
    same = whole.sel(prompt=other["prompt"]).isel(token=slice(0, other.sizes["token"]))
    np.testing.assert_allclose(other["logprob"], same["logprob"], atol=1e-5)
    assert other["completion"].values.tolist() == same["completion"].values.tolist()
    assert len({str(t) for t in whole["completion"].values[1]}) > 1


def test_score__controls_belong_to_the_network_not_to_its_place(model, few, masks, tmp_path):
    both = actome.score(model, few, tmp_path / "a.zarr", masks, controls=3).load()
    for name, networks in (("turned", ["b", "a"]), ("one", ["b"])):
        other = actome.score(model, few, tmp_path / name, masks.sel(network=networks), controls=3).load()
        xr.testing.assert_identical(other["network"], both["network"].sel(lesion=other["lesion"]))
    assert len(np.unique(both["network"].isel(lesion=both["target"] == "b"), axis=0)) == 4


def test_score__controls_say_how_they_differ_from_their_target(model, few, masks, tmp_path):
    ds = actome.record(model, few, tmp_path / "r.zarr", index=False)
    stat = xr.DataArray(
        np.arange(192.0).reshape(3, 64) - 96,
        dims=("layer", "neuron"),
        coords={d: masks[d] for d in ("layer", "neuron")},
    )
    scores = actome.score(
        model, few, tmp_path / "s.zarr", masks, reference=ds, controls=3, selectivity=stat
    ).load()
    kinds = scores["control_kind"].values.tolist()
    assert kinds == [""] + (["", *["matched"] * 3, "least_selective"] * 2)
    controls = scores.isel(lesion=scores["role"] == "control")
    assert (controls["mismatch_size"] == 0).all() and (controls["mismatch_layers"] == 0).all()
    assert (controls["shared"] < 1).all() and controls["mismatch"].notnull().all()
    magnitude = ds["activation"].astype(float).pipe(abs).mean(("prompt", "token"))
    for name in "ab":
        target = masks.sel(network=name).values
        for lesion in controls["lesion"].values:
            one = controls.sel(lesion=lesion)
            if one["target"] == name:
                wanted = magnitude.values[target].mean()
                got = magnitude.values[one["network"].values].mean()
                assert float(one["mismatch"]) == pytest.approx((got - wanted) / wanted, rel=1e-3)
        least = scores.sel(lesion=f"{name}/least_selective")["network"].values
        for layer in range(3):
            free = [f for f in np.argsort(abs(stat.values[layer]), kind="stable") if not target[layer, f]]
            assert set(np.flatnonzero(least[layer])) == set(free[: target[layer].sum()])
    effects = actome.lesion_effects(scores, n_bootstrap=1)
    off = scores["mismatch"].to_numpy()[scores["control_kind"].to_numpy() == "matched"].reshape(2, 3)
    np.testing.assert_array_equal(
        effects["p_at_equal_activity"],
        p_at_equal_activity(effects["effect"].to_numpy(), effects["control"].to_numpy(), off),
    )


def test_score__an_untrained_copy_is_lesioned_too(model, few, masks, phantom, tmp_path):
    before = {name: p.clone() for name, p in phantom.module.state_dict().items()}
    state = torch.random.get_rng_state()
    scores = actome.score(model, few, tmp_path / "s.zarr", masks, controls=1, untrained=2).load()
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(p, before[n]) for n, p in phantom.module.state_dict().items())
    values = scores["logprob_untrained"]
    assert values.dims == ("lesion", "prompt", "copy", "token") and values.sizes["copy"] == 2
    assert values.isel(lesion=scores["role"] == "control").isnull().all()
    for i in range(2):
        copy = untrained_copy(actome.ingest.models.load_model(model), [0, i])
        for lesion in ("baseline", "a/target"):
            with actome.lesion(copy, scores["network"].sel(lesion=lesion).values):
                again = actome.record(copy, few, tmp_path / f"{i}{lesion[0]}.zarr", index=False)
            np.testing.assert_allclose(values.sel(lesion=lesion).isel(copy=i), again["logprob"], atol=1e-5)
    assert not np.allclose(values.isel(copy=0), values.isel(copy=1), equal_nan=True)
    assert float(values.sel(lesion="baseline").mean()) < float(
        scores["logprob"].sel(lesion="baseline").mean()
    )


def test_score__masks_come_in_every_form(model, few, masks, tmp_path):
    actome.save_result(masks.rename("mask"), tmp_path / "m.zarr")
    whole = actome.score(model, few, tmp_path / "a.zarr", masks, controls=0).load()
    saved = actome.score(model, few, tmp_path / "b.zarr", tmp_path / "m.zarr", controls=0).load()
    xr.testing.assert_identical(whole.drop_attrs(), saved.drop_attrs())
    with pytest.warns(UserWarning, match="do not say which prompts selected them"):
        named = actome.score(
            model, few, tmp_path / "c.zarr",
            {"a": masks[0].values, "b": lambda layer, neuron: masks[1].values[layer, neuron]}, controls=0,
        ).load()  # fmt: skip
    xr.testing.assert_identical(whole.drop_attrs(), named.drop_attrs())
    assert whole.attrs["selected_on"] == [] and "selected_on" not in named.attrs


def test_score__what_cannot_be_asked_is_refused(model, few, masks, tmp_path):
    out = tmp_path / "s.zarr"
    for options, error, message in (
        ({"untrained": -1}, InputError, "untrained must be at least 0"),
        ({"untrained": 0.5}, InputTypeError, "untrained must be a whole number, got 0.5"),
        ({"controls": float("nan")}, InputTypeError, "controls must be a whole number, got nan"),
        ({"seed": -1}, InputError, "seed must be at least 0"),
        ({"max_new_tokens": -1}, InputError, "max_new_tokens must be at least 0"),
        ({"max_new_tokens": 1.5}, InputTypeError, "max_new_tokens must be a whole number"),
        ({"keep_only": "no"}, InputTypeError, "keep_only must be True or False, got 'no'"),
        ({"kind": "scale", "amount": [1.0, float("nan")]}, InputError, "amount must be a finite number"),
        ({"kind": "scale", "amount": [1, 1]}, InputError, "several that differ"),
        ({"max_new_tokens": 60}, InputError, "the model's context 64"),
        ({"selectivity": "stat"}, InputTypeError, "selectivity must be a DataArray"),
        (
            {"selectivity": masks[0].astype(float).drop_vars(["layer", "neuron"]).rename(layer="x")},
            InputError,
            "dims",
        ),
        ({"selectivity": masks.astype(float).isel(network=[0])}, InputError, "no map of the network 'b'"),
    ):
        with pytest.raises(error, match=message):
            actome.score(model, few, out, masks, **{"controls": 0, **options})
    with pytest.raises(InputError, match="names of the networks must differ"):
        actome.score(model, few, out, {"1": masks[0].values, 1: masks[1].values}, controls=0)
    with pytest.raises(InputError, match="at least one network"):
        actome.score(model, few, out, masks.isel(network=[]), controls=0)
    assert not out.exists()


def test_score__an_encoder_has_nothing_to_score(masks, few, tmp_path):
    from ..architectures import ARCHITECTURES, tokenizer

    bert = next(a for a in ARCHITECTURES if a.name == "bert")
    mask = masks.isel(neuron=slice(0, 24))
    with pytest.raises(InputError, match="gives no next token"):
        actome.score((bert.build(), tokenizer()), few, tmp_path / "s.zarr", mask, controls=0)
