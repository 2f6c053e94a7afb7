import warnings

import numpy as np
import pytest
from statsmodels.stats.outliers_influence import variance_inflation_factor

from actome.analyze.design import design_matrix
from actome.analyze.design.collinearity import triangle, variance_inflation
from actome.store.errors import ActomeError

from .labelled import labelled, tokens


def theirs(rows):
    """Statsmodels' factors, of rows of tokens."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The design matrix is poorly conditioned")
        return [variance_inflation_factor(rows, i, standardize=False) for i in range(rows.shape[1])]


@pytest.fixture
def ds(rng):
    n = 40
    valid = np.arange(9) < rng.integers(1, 10, n)[:, None]
    x = rng.standard_normal(n)
    return tokens(
        valid,
        rng,
        condition=rng.permutation(list("abcd") * 10).tolist(),
        run=rng.integers(0, 3, n),
        x=(300 + x).tolist(),
        y=(x + rng.standard_normal(n) / 2).tolist(),
    )


@pytest.mark.filterwarnings("ignore:the variance inflation factor")
@pytest.mark.parametrize(
    ("formula", "confounds"),
    [
        ("condition", ("run",)),
        ("condition", ("run", "x", "y")),
        ("x + y", ()),
        ("0 + x + y", ("run",)),
        ("condition * x", ("run",)),
        ("condition", ("x", "token_position", "log_frequency")),
        ("bs(token_position, df=5)", ("y",)),
    ],
)
def test_design_matrix__vif_is_that_of_statsmodels_over_tokens(ds, formula, confounds):
    design = design_matrix(ds, formula, confounds)
    X = design["design"].to_numpy()
    rows = np.repeat(X, design["count"], axis=0) if X.ndim == 2 else X[~np.isnan(X[..., 0])]
    np.testing.assert_allclose(design["vif"], theirs(rows), rtol=1e-7)


@pytest.mark.parametrize("step", [1, 7, 100])
def test_variance_inflation__does_not_depend_on_blocks_or_units(step, rng):
    X = rng.standard_normal((100, 4)) @ rng.standard_normal((4, 4))
    X[:, 0] = 1.0
    rows = np.column_stack([np.ones(100), X])
    R = triangle((rows[i : i + step] for i in range(0, 100, step)), 4)
    np.testing.assert_allclose(R.T @ R, rows.T @ rows, atol=1e-10)
    R_scaled = triangle([rows * [1, 1e-9, 1e9, 1, 1e-3]], 4)
    for triangular in (R, R_scaled):
        np.testing.assert_allclose(variance_inflation(triangular, list("wxyz")), theirs(X), rtol=1e-7)


def test_design_matrix__warns_once_of_regressors_that_can_hardly_be_told_apart(ds):
    near = ds.assign_coords(z=ds["x"] + 0.01 * ds["y"])
    with pytest.warns(
        UserWarning, match=r"factor of 'x' \(.*\), 'z' \(.*\) is above 30: .* center\(x\)"
    ) as caught:
        design_matrix(near, "x + z + condition")
    assert len(caught) == 1


def test_design_matrix__does_not_warn_of_confounds_nor_of_the_constant(ds):
    near = ds.assign_coords(z=ds["x"] + 0.01 * ds["y"])
    assert design_matrix(near, "condition", ("x", "z"))["vif"].max() > 30
    constant = design_matrix(near, "x")
    assert constant["vif"].sel(regressor="Intercept") > 30


def test_design_matrix__rank_does_not_depend_on_units(rng):
    ds = labelled(x=(1e-9 * rng.standard_normal(9)).tolist(), y=(1e9 * rng.standard_normal(9)).tolist())
    assert design_matrix(ds, "x + y").regressor.size == 3


def test_design_matrix__names_the_run_that_a_condition_fills():
    ds = labelled(condition=list("aaabbbcc"), run=[0, 0, 0, 1, 1, 1, 2, 1])
    with pytest.raises(ValueError, match="have rank") as caught:
        design_matrix(labelled(condition=list("aaabbb"), run=[0, 0, 0, 1, 1, 1]))
    assert str(caught.value) == (
        "the 3 regressors have rank 2: ['a', 'b', 'run[0]'] depend on each other; "
        "leave a confound or a term out"
    )
    assert isinstance(caught.value, ActomeError)
    with pytest.raises(ValueError, match=r"rank 4: \['a', 'b', 'c', 'run\[0\]', 'run\[1\]'\] depend"):
        design_matrix(ds)
    assert design_matrix(ds, "condition", ()).regressor.size == 3


@pytest.mark.parametrize(
    ("formula", "message"),
    [
        (
            "x + condition + {2 * x} + {x - 1} + y",
            r"\['x', '2 \* x'\] depend on each other; \['Intercept', 'x', 'x",
        ),
        ("0 + y + {0 * x}", r"rank 1: \['0 \* x'\] are zero wherever there are tokens"),
        ("x + token_position + {token_position - 3}", r"rank 3: \['Intercept', 'token_position', 'token_pos"),
    ],
)
def test_design_matrix__names_only_what_depends_on_each_other(ds, formula, message):
    with pytest.raises(ValueError, match=message):
        design_matrix(ds, formula, ())
