"""Effects of region lesions, sweeps and training, against means by hand; the tables made of them."""

import numpy as np
import pytest
import xarray as xr

from actome.analyze.regions.effects import forgetting, region_effects, sweep_effects
from actome.analyze.regions.tables import core_table, matrix_table, monolingual_matrix, scalar_table
from actome.store.errors import InputError, InputTypeError

CONDITION = np.array(["fr", "en", "fr", "en", "fr", "de"], dtype=object)
N_SCORED = np.array([3, 2, 4, 5, 1, 2])
LESIONS = [
    ("baseline", "", -1, "", np.nan, 0.0),
    ("target", "top 1%", -1, "top", 0.01, 2.0),
    ("control", "top 1%", 0, "top", 0.01, 0.1),
    ("control", "top 1%", 1, "top", 0.01, 0.3),
    ("target", "bottom 1%", -1, "bottom", 0.01, 0.0),
    ("target", "fr", -1, "monolingual", 0.05, 1.0),
    ("control", "fr", 0, "monolingual", 0.05, 0.0),
    ("control", "fr", 1, "monolingual", 0.05, 1.5),
]


@pytest.fixture
def scores(rng):
    """Every scored token loses what its lesion costs; the region "fr" costs French alone."""
    token = np.arange(7)
    scored = (token >= 1) & (token <= N_SCORED[:, None])
    base = np.where(scored, -rng.random(scored.shape), np.nan)
    cost = np.array([row[5] for row in LESIONS])[:, None] * np.ones(6)
    cost[5] = np.where(CONDITION == "fr", 1.0, 0.0)
    columns = list(zip(*LESIONS, strict=True))
    return xr.Dataset(
        {
            "logprob": (("lesion", "prompt", "token"), (base - cost[:, :, None]).astype(np.float32)),
            "size": ("lesion", np.arange(8)),
            "magnitude": ("lesion", np.arange(8.0)),
            "shared": ("lesion", [np.nan, np.nan, 0.1, 0.3, np.nan, np.nan, 0.0, 0.0]),
        },
        coords={
            "prompt": [f"p{i}" for i in range(6)],
            "condition": ("prompt", CONDITION),
            "role": ("lesion", np.array(columns[0], dtype=object)),
            "target": ("lesion", np.array(columns[1], dtype=object)),
            "draw": ("lesion", list(columns[2])),
            "region_role": ("lesion", np.array(columns[3], dtype=object)),
            "top": ("lesion", list(columns[4])),
        },
        attrs={"kind": "region_scores", "inputs": {"kind": "zero"}, "selected_on": ["q0"]},
    )


def test_region_effects__are_means_per_token_with_their_controls(scores):
    effects = region_effects(scores, n_bootstrap=50)
    assert effects["condition"].values.tolist() == ["de", "en", "fr"]
    np.testing.assert_allclose(effects["effect"].sel(region="top 1%"), 2.0, atol=1e-5)
    np.testing.assert_allclose(effects["effect"].sel(region="fr"), [0, 0, 1], atol=1e-5)
    np.testing.assert_allclose(
        effects["control"].sel(region="top 1%").isel(condition=0), [0.1, 0.3], atol=1e-5
    )
    assert effects["control"].sel(region="bottom 1%").isnull().all()
    assert effects["n_controls"].values.tolist() == [2, 0, 2]
    np.testing.assert_allclose(effects["p_value"].sel(region="top 1%"), 1 / 3)
    np.testing.assert_allclose(effects["p_value"].sel(region="fr", condition="fr"), 2 / 3)
    assert effects["p_value"].sel(region="bottom 1%").isnull().all()
    base = -scores["logprob"][0].to_numpy().astype(float)[CONDITION == "fr"]
    assert float(effects["perplexity_baseline"].sel(condition="fr")) == pytest.approx(
        np.exp(np.nanmean(base))
    )
    assert effects["magnitude_control"].values.tolist()[:2] == [2.5, pytest.approx(np.nan, nan_ok=True)]
    assert effects["shared"].values.tolist() == [pytest.approx(0.2), pytest.approx(np.nan, nan_ok=True), 0.0]


def test_region_effects__the_order_of_prompts_changes_nothing(scores):
    first, turned = (
        region_effects(s, n_bootstrap=20) for s in (scores, scores.isel(prompt=[3, 1, 5, 0, 2, 4]))
    )
    xr.testing.assert_identical(first, turned)


def test_region_effects__prompts_that_selected_and_other_things_are_refused(scores):
    with pytest.raises(InputError, match="such as 'p1', took part in selecting the regions"):
        region_effects(scores.assign_attrs(selected_on=["p1"]))
    with pytest.raises(InputError, match="the prompt 'p0' comes twice"):
        region_effects(scores.isel(prompt=[0, 0, 1]))
    with pytest.raises(InputTypeError, match="takes scores from"):
        region_effects(scores.drop_vars("region_role"))
    with pytest.raises(InputError, match="no label 'run'"):
        region_effects(scores, by="run")
    with pytest.raises(InputError, match="n_bootstrap must be at least 1"):
        region_effects(scores, n_bootstrap=0)
    with pytest.raises(InputTypeError, match="n_bootstrap must be a whole number"):
        region_effects(scores, n_bootstrap=2.5)
    with pytest.raises(InputError, match="seed must be at least 0"):
        region_effects(scores, seed=-1)


def test_core_table__has_the_perplexities_beside_those_of_chance(scores):
    effects = region_effects(scores, n_bootstrap=5)
    table = core_table(effects)
    assert table.columns.tolist() == [("", "base"), ("1%", "top"), ("1%", "bottom"), ("1%", "random")]
    base = table["", "base"]
    np.testing.assert_allclose(table["1%", "top"], base * np.exp(2), rtol=1e-4)
    np.testing.assert_allclose(table["1%", "bottom"], base, rtol=1e-4)
    np.testing.assert_allclose(table["1%", "random"], base * np.exp(0.2), rtol=1e-4)
    with pytest.raises(InputError, match="no region has the role 'top'"):
        core_table(effects.isel(region=[2]))
    with pytest.raises(InputTypeError, match="that region_effects gives"):
        core_table(scores)


def test_monolingual_matrix__has_the_ratios_of_perplexity(scores):
    matrix = monolingual_matrix(region_effects(scores, n_bootstrap=5))
    assert matrix.index.tolist() == ["fr"]
    np.testing.assert_allclose(matrix.loc["fr"], [1, 1, np.e], rtol=1e-4)
    with pytest.raises(InputError, match="no region is monolingual"):
        monolingual_matrix(region_effects(scores, n_bootstrap=5).isel(region=[0]))


def test_matrix_table__has_a_row_for_each_type_of_matrix(scores):
    renamed = scores.assign_coords(
        target=("lesion", [f"{t}/q" if t else "" for t in scores["target"].values])
    )
    table = matrix_table(region_effects(renamed, n_bootstrap=5))
    assert table.index.tolist() == [("top 1%", "q"), ("bottom 1%", "q"), ("fr", "q")]
    np.testing.assert_allclose(table["top"], [2, 0, 1 / 3], atol=1e-5)
    np.testing.assert_allclose(table["random"].to_numpy(), [0.2, np.nan, 0.75], atol=1e-5)
    with pytest.raises(InputError, match="not those of by_matrix"):
        matrix_table(region_effects(scores, n_bootstrap=5))


@pytest.fixture
def swept():
    loss = np.arange(6.0) + np.array([[0.0, 6.0], [1.0, np.nan]])[:, :, None] * N_SCORED
    return xr.Dataset(
        {
            "loss": (("place", "factor", "prompt"), loss),
            "loss_baseline": ("prompt", np.arange(6.0)),
            "n_scored": ("prompt", N_SCORED),
        },
        coords={
            "prompt": [f"p{i}" for i in range(6)], "condition": ("prompt", CONDITION), "factor": [0.0, 4.0],
            "tensor": ("place", ["a", "b"]), "row": ("place", [1, 2]), "column": ("place", [-1, 3]),
            "role": ("place", ["top", "random"]),
        },
        attrs={"kind": "region_sweep", "selected_on": []},
    )  # fmt: skip


def test_scalar_table__has_the_perplexity_for_each_factor(swept):
    effects = sweep_effects(swept, n_bootstrap=5)
    np.testing.assert_allclose(effects["effect"].sel(factor=4.0)[0], 6.0)
    table = scalar_table(effects, condition="en")
    base = np.exp(4 / 7)
    assert table.index.tolist() == [("top", "a", 1, -1), ("random", "b", 2, 3)]
    np.testing.assert_allclose(table.to_numpy()[0], [base, base, base * np.exp(6)])
    assert np.isnan(table["x4"].iloc[1]) and table["x0"].iloc[1] == pytest.approx(base * np.e)
    assert scalar_table(effects)["base"].iloc[0] == pytest.approx(np.exp((5 / 2 + 4 / 7 + 6 / 8) / 3))
    with pytest.raises(InputError, match="no condition 'pl'"):
        scalar_table(effects, condition="pl")
    with pytest.raises(InputTypeError, match="result of"):
        sweep_effects(xr.Dataset())


def test_forgetting__is_the_change_since_the_first_step(swept):
    loss = swept["loss"].fillna(0.0).rename(place="arm", factor="step")
    trained = swept.drop_dims(("place", "factor")).assign(
        loss=loss.drop_vars(["tensor", "row", "column", "role"]).assign_coords(
            arm=["none", "region"], step=[0, 5]
        )
    )
    trained["right"] = (("arm", "step", "item"), np.array([[[True, False], [True, True]]] * 2))
    curves = forgetting(trained, n_bootstrap=5)
    np.testing.assert_allclose(curves["effect"].sel(arm="none"), [[0] * 3, [6] * 3], atol=1e-12)
    np.testing.assert_allclose(curves["accuracy"], [[0.5, 1.0]] * 2)
    np.testing.assert_allclose(curves["excess"].sel(arm="region"), 0)
    np.testing.assert_allclose(
        curves["excess"].sel(arm="none"), (curves["effect"].diff("arm") * -1)[0], atol=1e-12
    )
    assert (curves["excess_low"] <= curves["excess_high"]).where(curves["excess_low"].notnull(), True).all()
    assert "excess" not in forgetting(trained.sel(arm=["none"]), n_bootstrap=5)
    with pytest.raises(InputTypeError, match="train_frozen"):
        forgetting(swept.drop_vars("loss"))
    with pytest.raises(InputError, match="lacks step 0"):
        forgetting(trained.isel(step=[1]))


def test_effects__of_what_was_not_written_to_its_end_are_refused(scores, swept):
    begun = {"inputs_digest": "sha256:i"}
    for analyse, given, maker in (
        (region_effects, scores, "score_regions"),
        (sweep_effects, swept, "sweep"),
        (forgetting, swept.rename(place="arm", factor="step").assign_coords(arm=[0, 1]), "train_frozen"),
    ):
        with pytest.raises(InputError, match=rf"not written to its end; .*actome\.{maker} again"):
            analyse(given.assign_attrs(begun))
    region_effects(scores.assign_attrs(begun, manifest_digest="sha256:m"), n_bootstrap=5)
