import numpy as np
import pandas as pd
import pytest
import statsmodels.formula.api as smf
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from actome.analyze.design import design_matrix, prompt_labels
from actome.store.errors import ActomeError


def labelled(**columns):
    n = len(next(iter(columns.values())))
    labels = {
        k: ("prompt", np.array(v, dtype=object if isinstance(v[0], str) else None))
        for k, v in columns.items()
    }
    return xr.Dataset(coords={"prompt": [f"p{i}" for i in range(n)], **labels})


CONDITION = list("aabbccab")
RUN = [0, 1, 0, 1, 0, 1, 2, 2]


def test_design_matrix__cell_means_are_indicators_and_run_sums_to_zero():
    design = design_matrix(labelled(condition=CONDITION, run=RUN), "condition")
    assert design.regressor.to_numpy().tolist() == ["a", "b", "c", "run[0]", "run[1]"]
    assert design.attrs["conditions"] == ["a", "b", "c"]
    for name in "abc":
        assert design.sel(regressor=name).to_numpy().tolist() == [float(c == name) for c in CONDITION]
    for run in (0, 1):
        expected = [1.0 if r == run else -1.0 if r == 2 else 0.0 for r in RUN]
        assert design.sel(regressor=f"run[{run}]").to_numpy().tolist() == expected


@pytest.mark.parametrize(
    "formula",
    ["condition", "condition * x", "C(condition, contr.sum) + x", "0 + condition", "log(x) + {x**2}", "x"],
)
def test_design_matrix__spans_what_statsmodels_builds(formula, rng):
    ds = labelled(condition=CONDITION * 2, run=RUN * 2, x=rng.uniform(1, 2, 16).tolist())
    ours = design_matrix(ds, formula).to_numpy()
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
    ds = labelled(condition=CONDITION, run=RUN)
    xr.testing.assert_identical(
        design_matrix(ds, "condition")[order], design_matrix(ds.isel(prompt=order), "condition")
    )


def test_design_matrix__whole_numbers_make_cells_and_fractions_a_slope():
    ds = labelled(level=[3, 3, 10, 10, 3, 10], x=[0.1, 0.5, 0.2, 0.4, 0.3, 0.9])
    assert design_matrix(ds, "level").regressor.to_numpy().tolist() == ["3", "10"]
    assert design_matrix(ds, "x").regressor.to_numpy().tolist() == ["Intercept", "x"]
    assert design_matrix(ds, "x").attrs["conditions"] == []


def test_design_matrix__reads_a_label_with_a_space():
    ds = labelled(**{"mean length": [0.1, 0.5, 0.2, 0.4]})
    np.testing.assert_array_equal(design_matrix(ds, "mean length")[:, 1], ds["mean length"])


@pytest.mark.parametrize("confounds", [(), ("run",), ("run", "run"), ("session",)])
def test_design_matrix__leaves_out_confounds_that_are_missing_constant_or_in_the_formula(confounds):
    constant = labelled(condition=CONDITION, run=[4] * 8)
    assert design_matrix(constant, "condition", confounds).regressor.size == 3
    runs = labelled(condition=CONDITION, run=RUN)
    assert design_matrix(runs, "condition", confounds).regressor.size == (5 if "run" in confounds else 3)
    assert design_matrix(runs, "run", confounds).regressor.to_numpy().tolist() == ["0", "1", "2"]
    assert "run[0]" not in design_matrix(runs, "0 + condition + C(run)", confounds).regressor


def test_design_matrix__rank_does_not_depend_on_units(rng):
    ds = labelled(x=(1e-9 * rng.standard_normal(9)).tolist(), y=(1e9 * rng.standard_normal(9)).tolist())
    assert design_matrix(ds, "x + y").regressor.size == 3


@pytest.mark.parametrize(
    ("formula", "message"),
    [
        ("tongue", r"names \['tongue'\], which the recording lacks; its labels are \['prompt', 'condition'"),
        ("", "formula is empty"),
        ("condition +", "cannot be read"),
        ("__import__('os')", "is not allowed"),
        ("__import__('os').getpid()", "cannot be read"),
        ("{__import__('os').getpid()}", "is not allowed"),
        ("{().__class__}", "is not allowed"),
        ("{np.load('f')}", "is not allowed"),
        ("open('f')", "is not allowed"),
        ("{[i for i in x]}", "is not allowed"),
        ("x.mean()", "is not allowed"),
        ("x ~ condition", "must have one side"),
        ("x | condition", "must have one side"),
        ("log(x)", r"\['log\(x\)'\] hold values that are not finite"),
        ("x + {2 * x}", r"'2 \* x' follows from those before it"),
        ("text", "8 prompts are too few for 10 regressors"),
    ],
)
def test_design_matrix__refuses(formula, message):
    text = [f"t{i}" for i in range(8)]
    ds = labelled(condition=CONDITION, run=RUN, text=text, x=[0.0, 1.5, 0.5, 1.0, 2.0, 3.0, 4.0, 7.0])
    with pytest.raises(ValueError, match=message) as caught:
        design_matrix(ds, formula)
    assert isinstance(caught.value, ActomeError)


def test_design_matrix__names_the_run_that_a_condition_fills():
    ds = labelled(condition=list("aaabbb"), run=[0, 0, 0, 1, 1, 1])
    with pytest.raises(
        ValueError, match=r"have rank 2: 'run\[0\]' follows from those before it; leave a confound"
    ):
        design_matrix(ds, "condition")
    assert design_matrix(ds, "condition", ()).regressor.size == 2


def test_design_matrix__refuses_two_regressors_of_one_name():
    ds = labelled(condition=["a", "a", "run[0]", "run[0]"] * 2, run=[0, 1] * 4)
    with pytest.raises(ValueError, match="two regressors have the same name"):
        design_matrix(ds, "condition")


@pytest.mark.parametrize(("formula", "confounds"), [(3, ("run",)), ("condition", "run")])
def test_design_matrix__refuses_wrong_types(formula, confounds):
    with pytest.raises(TypeError, match=r"must be a (string|sequence)") as caught:
        design_matrix(labelled(condition=CONDITION, run=RUN), formula, confounds)
    assert isinstance(caught.value, ActomeError)


def test_prompt_labels__are_the_coordinates_of_the_prompts(tiny):
    table = prompt_labels(tiny)
    assert {"prompt", "condition", "run", "block", "text"} <= set(table.columns)
    pd.testing.assert_series_equal(table["run"], pd.Series(tiny["run"].to_numpy(), name="run"))
