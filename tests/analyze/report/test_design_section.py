import numpy as np
import pytest

import actome
from actome.analyze.design import design_matrix
from actome.analyze.report.design import design
from actome.analyze.report.gather import gather
from actome.analyze.report.page import Gallery, Table
from actome.store.phantom import phantom

from ..design.labelled import tokens


def as_fit(ds, *arguments, **options):
    """A fit as far as the section on the design reads one."""
    return design_matrix(ds, *arguments, **options).assign_attrs(kind="fit", measure="signed")


def section(fit):
    """The last figure and table of the section on the design."""
    blocks = design(gather([fit])).blocks
    return [next(b for b in reversed(blocks) if isinstance(b, kind)) for kind in (Gallery, Table)]


@pytest.fixture
def ds():
    return phantom(n_prompts=4, n_tokens=(3, 5), n_layers=1, n_neurons=8)


def test_design__shows_the_prompts_of_a_design_and_its_inflation(ds):
    fit = as_fit(ds, drift="linear")
    figure, table = section(fit)
    assert "12 prompts from top to bottom, 6 regressors" in figure.caption
    assert "drift linear" in figure.caption
    assert figure.pictures[0].alt == "Design matrix of 12 prompts by 6 regressors"
    assert [name for name, _ in table.rows] == fit.regressor.to_numpy().tolist()
    assert [cells[0].text for _, cells in table.rows] == ["condition"] * 3 + ["confound"] * 3
    assert not any(cell.marked for _, cells in table.rows for cell in cells)


def test_design__shows_the_tokens_of_a_design_that_varies_with_them(ds):
    fit = as_fit(ds, "condition", ("token_position",), kernel=(1, 0.5))
    figure, table = section(fit)
    n = int(ds["n_tokens"].sum())
    assert f"{n} tokens from top to bottom, 4 regressors" in figure.caption
    assert figure.pictures[0].alt == f"Design matrix of {n} tokens by 4 regressors"
    assert "kernel [1.0, 0.5]" in figure.caption
    assert len(table.rows) == 4


def test_design__draws_some_of_many_tokens(rng):
    many = tokens(np.ones((100, 50)), rng, condition=list("ab") * 50)
    figure, _ = section(as_fit(many, "condition", ("token_position",)))
    assert "5,000 tokens from top to bottom (1,667 drawn)" in figure.caption


@pytest.mark.filterwarnings("ignore:the variance inflation factor")
def test_design__marks_what_is_poorly_known(ds, rng):
    x = rng.standard_normal(12)
    near = ds.assign_coords(x=("prompt", x), y=("prompt", x + 0.01 * rng.standard_normal(12)))
    for formula, confounds, marked in (("x + y", (), ["x", "y"]), ("condition", ("x", "y"), [])):
        fit = as_fit(near, formula, confounds)
        assert fit.vif.sel(regressor="x") > 30
        assert [name for name, cells in section(fit)[1].rows if cells[1].marked] == marked


def test_design__takes_a_fit_that_does_not_tell_its_inflation(ds):
    blocks = design(gather([as_fit(ds).drop_vars(["role", "vif"])])).blocks
    assert not [b for b in blocks if isinstance(b, Table)]
    assert [b for b in blocks if isinstance(b, Gallery)]


def test_report__shows_a_design_that_varies_with_tokens(ds, tmp_path):
    fit = actome.fit_glm(ds, confounds=("token_position",))
    page = tmp_path / "report.html"
    actome.report(fit, out=page)
    assert "variance inflation" in page.read_text(encoding="utf-8")


def test_report__shows_a_design_matrix_before_anything_is_fitted(ds, tmp_path):
    page = tmp_path / "report.html"
    actome.report(actome.design_matrix(ds, drift="linear"), out=page)
    assert "Design matrix of the formula" in page.read_text(encoding="utf-8")
