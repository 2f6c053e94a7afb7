import numpy as np
import pytest
from nilearn.glm.first_level import make_first_level_design_matrix

from actome.analyze.design import design_matrix
from actome.store.errors import ActomeError

from .labelled import labelled, tokens


def drifts(design):
    """The columns of the drift, with their names."""
    names = [n for n in design.regressor.to_numpy() if n.startswith(("linear", "quadratic", "cosine"))]
    return design.design.sel(regressor=names).to_numpy(), names


def runs_of(*lengths, rng):
    """Runs of so many prompts in a row, two conditions at random."""
    n = sum(lengths)
    run = np.repeat(np.arange(len(lengths)), lengths)
    return labelled(condition=rng.permutation(list("ab") * n)[:n].tolist(), run=run)


@pytest.mark.parametrize("period", [8, 20, 37.5])
def test_design_matrix__cosines_span_those_of_nilearn(period, rng):
    ds = runs_of(40, 31, rng=rng)
    values, names = drifts(design_matrix(ds, drift=("cosine", period)))
    for run, n in enumerate((40, 31)):
        own = values[ds["run"] == run][:, [name.endswith(f"[{run}]") for name in names]]
        theirs = make_first_level_design_matrix(
            np.arange(n, dtype=float), drift_model="cosine", high_pass=1 / period
        ).to_numpy()
        assert own.shape[1] == theirs.shape[1] - 1
        both = np.column_stack([own, theirs])
        assert np.linalg.matrix_rank(own) == own.shape[1]
        assert np.linalg.matrix_rank(both) == theirs.shape[1]
        assert not values[ds["run"] != run][:, [name.endswith(f"[{run}]") for name in names]].any()


@pytest.mark.parametrize(("drift", "order"), [("linear", 1), ("quadratic", 2)])
def test_design_matrix__powers_are_those_of_nilearn(drift, order, rng):
    ds = runs_of(30, rng=rng)
    values, names = drifts(design_matrix(ds, drift=drift))
    assert names == ["linear", "quadratic"][:order]
    theirs = make_first_level_design_matrix(
        np.arange(30.0), drift_model="polynomial", drift_order=order
    ).to_numpy()[:, :-1]
    np.testing.assert_allclose(values, theirs / np.abs(theirs).max(axis=0), atol=1e-12)


@pytest.mark.parametrize("drift", ["quadratic", ("cosine", 5)])
def test_design_matrix__drift_leaves_the_mean_of_a_run_alone_token_by_token(drift, rng):
    n_tokens = rng.integers(0, 6, 24)
    n_tokens[:3] = 2
    valid = np.arange(6) < n_tokens[:, None]
    ds = tokens(valid, rng, condition=["a", "b", "b", "a"] * 6, run=[0, 1, 2] * 8)
    design = design_matrix(ds, drift=drift)
    values, names = drifts(design)
    rows = np.repeat(values, design["count"], axis=0)
    run = np.repeat(ds["run"], design["count"])
    for r in range(3):
        np.testing.assert_allclose(rows[run == r].sum(axis=0), 0, atol=1e-12)
    inner = rows.T @ rows
    np.testing.assert_allclose(inner, np.diag(np.diag(inner)), atol=1e-12)
    np.testing.assert_allclose(np.abs(values).max(axis=0), 1)
    assert design.role.sel(regressor=names).to_numpy().tolist() == ["confound"] * len(names)
    kept = ds.isel(prompt=n_tokens > 0)  # a prompt without tokens has no place in the order
    np.testing.assert_array_equal(drifts(design_matrix(kept, drift=drift))[0], values[n_tokens > 0])


def test_design_matrix__drift_is_constant_within_a_prompt(tiny):
    assert design_matrix(tiny, drift="quadratic").design.dims == ("prompt", "regressor")


def test_design_matrix__says_which_drift_it_took(rng):
    ds = runs_of(300, rng=rng)
    assert design_matrix(ds).attrs["drift"] is None
    assert design_matrix(ds, drift="linear").attrs["drift"] == "linear"
    design = design_matrix(ds, drift="cosine")
    assert design.attrs["drift"] == ["cosine", 128.0]
    assert drifts(design)[1] == ["cosine_1", "cosine_2", "cosine_3", "cosine_4"]


@pytest.mark.parametrize(
    ("drift", "error", "message"),
    [
        ("cubic", ValueError, r"drift must be None, 'linear', .* got 'cubic'"),
        (("linear", 3), ValueError, r"drift must be .* got \('linear', 3\)"),
        (3, ValueError, "drift must be .* got 3"),
        (("cosine", "slow"), TypeError, "must be a number of prompts, got 'slow'"),
        (("cosine", 2), ValueError, "must be more than 2 prompts, got 2"),
        (
            "cosine",
            ValueError,
            r"half a cycle of 128 prompts fits into no run, the longest has 9; .*'cosine', ",
        ),
        ("quadratic", ValueError, "needs 3 prompts with tokens or more in every run, got 2 in run 1"),
    ],
)
def test_design_matrix__refuses_a_drift(drift, error, message, rng):
    with pytest.raises(error, match=message) as caught:
        design_matrix(runs_of(9, 2, rng=rng), drift=drift)
    assert isinstance(caught.value, ActomeError)
