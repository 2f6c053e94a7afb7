import numpy as np
import pandas as pd
import pytest
import statsmodels.formula.api as smf
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

import actome
from actome.analyze.design import design_matrix, prompt_labels
from actome.store.errors import ActomeError
from actome.store.phantom import phantom

from ...strategies import chunkings
from .labelled import CONDITION, RUN, labelled


def test_design_matrix__cell_means_are_indicators_and_run_sums_to_zero():
    ds = design_matrix(labelled(condition=CONDITION, run=RUN))
    assert ds.regressor.to_numpy().tolist() == ["a", "b", "c", "run[0]", "run[1]"]
    assert ds.role.to_numpy().tolist() == ["condition"] * 3 + ["confound"] * 2
    assert ds.attrs["conditions"] == ["a", "b", "c"]
    for name in "abc":
        assert ds.design.sel(regressor=name).to_numpy().tolist() == [float(c == name) for c in CONDITION]
    for run in (0, 1):
        expected = [1.0 if r == run else -1.0 if r == 2 else 0.0 for r in RUN]
        assert ds.design.sel(regressor=f"run[{run}]").to_numpy().tolist() == expected


@pytest.mark.filterwarnings("ignore:the variance inflation factor")
@pytest.mark.parametrize(
    "formula",
    ["condition", "condition * x", "C(condition, contr.sum) + x", "0 + condition", "log(x) + {x**2}", "x"],
)
def test_design_matrix__spans_what_statsmodels_builds(formula, rng):
    ds = labelled(condition=CONDITION * 2, run=RUN * 2, x=rng.uniform(1, 2, 16).tolist())
    ours = design_matrix(ds, formula).design.to_numpy()
    theirs = {
        "C(condition, contr.sum) + x": "C(condition, Sum) + x",
        "log(x) + {x**2}": "np.log(x) + I(x**2)",
    }
    table = prompt_labels(ds).assign(y=rng.standard_normal(16))
    model = smf.ols(f"y ~ {theirs.get(formula, formula)} + C(run)", table)
    both = np.concatenate([ours, model.exog], axis=1)
    rank = np.linalg.matrix_rank(model.exog)
    assert ours.shape[1] == np.linalg.matrix_rank(ours) == np.linalg.matrix_rank(both) == rank


@given(st.permutations(range(8)))
def test_design_matrix__does_not_depend_on_the_order_of_prompts(order):
    ds = labelled(condition=CONDITION, run=RUN, x=[0.1, 0.5, 0.2, 0.4, 0.3, 0.9, 0.8, 0.6])
    whole, shuffled = (design_matrix(d, confounds=["run", "x"]) for d in (ds, ds.isel(prompt=order)))
    xr.testing.assert_allclose(whole.isel(prompt=order), shuffled, rtol=1e-12)


@given(st.data())
def test_design_matrix__does_not_depend_on_chunks(data):
    ds = phantom(n_prompts=4, n_tokens=(2, 5), n_layers=1, n_neurons=3, fraction=0.3)
    chunked = ds.chunk(data.draw(chunkings(ds)))
    confounds = ("run", "token_position")
    xr.testing.assert_identical(
        design_matrix(ds, confounds=confounds), design_matrix(chunked, confounds=confounds)
    )


def test_design_matrix__reads_no_activation(tiny, raise_if_computes):
    lazy = tiny.assign(activation=tiny["activation"].chunk())
    with raise_if_computes():
        ds = design_matrix(lazy, "condition", ("run", "token_position"), drift="linear")
    np.testing.assert_array_equal(ds["count"], tiny["n_tokens"])


def test_design_matrix__tells_padding_from_the_cube_where_there_is_no_token_id(tiny):
    xr.testing.assert_identical(design_matrix(tiny.drop_vars("token_id")), design_matrix(tiny))


def test_design_matrix__of_the_summaries_is_that_of_the_cube(tiny_path):
    cube, summary = (actome.open(tiny_path, level=level) for level in ("token", "prompt"))
    xr.testing.assert_identical(design_matrix(cube, drift="linear"), design_matrix(summary, drift="linear"))


def test_design_matrix__can_be_saved(tiny, tmp_path):
    ds = design_matrix(tiny, "condition", ("token_position",), drift=("cosine", 12), kernel=(1, 0.5))
    opened = actome.open(actome.save_result(ds, tmp_path / "design.zarr")).compute()
    np.testing.assert_array_equal(opened["design"], ds["design"])
    assert opened.role.to_numpy().tolist() == ds.role.to_numpy().tolist()
    for name, value in ds.attrs.items():
        assert opened.attrs[name] == value


def test_design_matrix__keeps_a_row_for_a_prompt_without_tokens(tiny):
    token_id = tiny["token_id"].where(tiny["prompt"] != tiny["prompt"][3], -1)
    ds = tiny.assign_coords(token_id=token_id)
    by_prompt, by_token = design_matrix(ds), design_matrix(ds, confounds=("token_position",))
    assert by_prompt["count"][3] == by_token["count"][3] == 0
    assert by_token["design"][3].isnull().all()
    kept = np.arange(12) != 3
    np.testing.assert_allclose(by_prompt["vif"], design_matrix(ds.isel(prompt=kept))["vif"], rtol=1e-12)
    with pytest.raises(ValueError, match=r"\['b'\] are zero wherever there are tokens"):
        design_matrix(ds.assign_coords(token_id=ds["token_id"].where(ds["condition"] != "b", -1)))
    with pytest.raises(ValueError, match="no prompt has a valid token"):
        design_matrix(ds.assign_coords(token_id=xr.full_like(ds["token_id"], -1)))


def test_design_matrix__whole_numbers_make_cells_and_fractions_a_slope():
    ds = labelled(level=[3, 3, 10, 10, 3, 10], x=[0.1, 0.5, 0.2, 0.4, 0.3, 0.9])
    assert design_matrix(ds, "level").regressor.to_numpy().tolist() == ["3", "10"]
    slope = design_matrix(ds, "x")
    assert slope.regressor.to_numpy().tolist() == ["Intercept", "x"]
    assert slope.role.to_numpy().tolist() == ["effect", "effect"]
    assert slope.attrs["conditions"] == []


def test_design_matrix__centres_a_number_over_tokens(tiny):
    ds = design_matrix(tiny.assign_coords(x=("prompt", np.arange(12.0))), confounds=("x", "n_tokens"))
    assert ds.regressor.to_numpy().tolist() == ["a", "b", "rest", "x", "n_tokens"]
    rows = np.repeat(ds.design.to_numpy(), ds["count"], axis=0)
    np.testing.assert_allclose(rows[:, 3:].mean(axis=0), 0, atol=1e-12)
    x = np.repeat(np.arange(12.0), tiny["n_tokens"])
    np.testing.assert_allclose(rows[:, 3], x - x.mean(), atol=1e-12)


def test_design_matrix__reads_a_label_with_a_space():
    ds = labelled(**{"mean length": [0.1, 0.5, 0.2, 0.4]})
    np.testing.assert_array_equal(design_matrix(ds, "mean length").design[:, 1], ds["mean length"])
    np.testing.assert_array_equal(
        design_matrix(ds, "{`mean length`**2}").design[:, 1], ds["mean length"] ** 2
    )


def test_design_matrix__multiplies_small_integers_without_overflow():
    ds = labelled(x=np.array([1, 20, 200, 100, 50], dtype=np.uint8))
    assert design_matrix(ds, "{x**2}").design[:, 1].to_numpy().tolist() == [1, 400, 40000, 10000, 2500]


@pytest.mark.parametrize("confounds", [None, (), ("run",), ("run", "run"), ("x",)])
def test_design_matrix__leaves_out_confounds_that_are_constant_or_in_the_formula(confounds):
    constant = labelled(condition=CONDITION, run=[4] * 8, x=[0.5] * 8)
    design = design_matrix(constant, "condition", confounds)
    assert design.regressor.size == 3 and design.attrs["confounds"] == []
    runs = constant.assign_coords(run=("prompt", RUN))
    design = design_matrix(runs, "condition", confounds)
    removed = ["run"] if confounds is None or "run" in confounds else []
    assert design.regressor.size == 3 + 2 * len(removed) and design.attrs["confounds"] == removed
    assert design_matrix(runs, "run", confounds).regressor.to_numpy().tolist() == ["0", "1", "2"]
    assert "run[0]" not in design_matrix(runs, "0 + condition + C(run)", confounds).regressor


def test_design_matrix__runs_alone_may_be_missing():
    ds = labelled(condition=CONDITION, session=RUN)
    for confounds in (None, ("run",)):
        assert design_matrix(ds, "condition", confounds).regressor.size == 3
    assert design_matrix(ds, "condition", ["session"]).attrs["confounds"] == ["session"]
    for wrong in (["sesion"], ["session", "sesion"]):
        with pytest.raises(ValueError, match=rf"\['{wrong[-1]}'\], which the recording lacks; .*'session'\]"):
            design_matrix(ds, "condition", wrong)


@pytest.mark.parametrize(("formula", "confounds"), [(3, ("run",)), ("condition", "run"), ("condition", 3)])
def test_design_matrix__refuses_wrong_types(formula, confounds):
    with pytest.raises(TypeError, match=r"must be a (string|sequence)") as caught:
        design_matrix(labelled(condition=CONDITION, run=RUN), formula, confounds)
    assert isinstance(caught.value, ActomeError)


@pytest.mark.parametrize(
    ("columns", "formula", "message"),
    [
        ({"condition": ["a", "run[0]"] * 4, "run": [0, 0, 1, 1] * 2}, "condition", "have the same name"),
        ({"x": [0.5, np.nan, 1.0, 2.0]}, "x", r"'x' has no finite value at 1 of 4 prompts, .* prompt 'p1'"),
        ({"x": range(1001)}, "x", r"'x' has 1001 different values, too many .*\(at most 1000\)"),
        ({"x": list("abc")}, "x", "3 prompts are too few for 3 regressors"),
    ],
)
def test_design_matrix__refuses_labels(columns, formula, message):
    with pytest.raises(ValueError, match=message) as caught:
        design_matrix(labelled(**columns), formula)
    assert isinstance(caught.value, ActomeError)


def test_prompt_labels__are_the_coordinates_of_the_prompts(tiny):
    table = prompt_labels(tiny)
    assert {"prompt", "condition", "run", "block", "text"} <= set(table.columns)
    pd.testing.assert_series_equal(table["run"], pd.Series(tiny["run"].to_numpy(), name="run"))
