import tracemalloc

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

import actome
from actome.analyze.design import design_matrix
from actome.analyze.design.tokens import convolved, token_position
from actome.store.errors import ActomeError

from .labelled import tokens

# padded on the right, on the left, with a hole, and whole
VALID = [[1, 1, 1, 0, 0], [0, 0, 1, 1, 1], [1, 1, 0, 1, 1], [1, 1, 1, 1, 1], [0, 1, 1, 1, 0], [1, 1, 1, 1, 0]]
CONDITION = list("abcabc")


@pytest.fixture
def ds(rng):
    return tokens(VALID, rng, condition=CONDITION, x=rng.random(6).tolist())


def column(design, name):
    """A regressor at the valid tokens, in order."""
    values = design.design.sel(regressor=name).to_numpy()
    return values[~np.isnan(values)]


def test_design_matrix__counts_places_and_frequencies_as_pandas_does(ds):
    design = design_matrix(ds, "token_position + log_frequency + n_tokens")
    prompt, place = np.nonzero(VALID)
    rows = pd.DataFrame({"prompt": prompt, "place": place, "id": ds["token_id"].to_numpy()[prompt, place]})
    first = rows.groupby("prompt")["place"].transform("min")
    np.testing.assert_array_equal(column(design, "token_position"), rows["place"] - first)
    times = rows.groupby("id")["place"].transform("size")
    np.testing.assert_allclose(column(design, "log_frequency"), np.log(times))
    np.testing.assert_array_equal(
        column(design, "n_tokens"), rows.groupby("prompt")["place"].transform("size")
    )
    np.testing.assert_array_equal(design["count"], np.sum(VALID, axis=1))
    assert design.design.dims == ("prompt", "token", "regressor")
    np.testing.assert_array_equal(design.design.isnull().any("regressor"), np.equal(VALID, 0))


@given(st.permutations(range(6)))
def test_design_matrix__of_tokens_does_not_depend_on_the_order_of_prompts(order):
    ds = tokens(VALID, np.random.default_rng(1), condition=CONDITION, x=[0.1, 0.5, 0.2, 0.4, 0.3, 0.9])
    model = ("condition + center(x)", ("token_position", "log_frequency"))
    whole = design_matrix(ds, *model, kernel=(1, 0.5))
    shuffled = design_matrix(ds.isel(prompt=order), *model, kernel=(1, 0.5))
    xr.testing.assert_allclose(whole.isel(prompt=order), shuffled, rtol=1e-10)


def test_design_matrix__centres_a_number_of_tokens(ds):
    design = design_matrix(ds, confounds=("token_position",))
    assert design.role.to_numpy().tolist() == ["condition"] * 3 + ["confound"]
    place = token_position(np.array(VALID, dtype=bool))
    np.testing.assert_allclose(column(design, "token_position"), place - place.mean(), atol=1e-12)
    np.testing.assert_array_equal(column(design, "a"), np.repeat(np.equal(CONDITION, "a"), design["count"]))


def test_design_matrix__prefers_a_stored_variable_to_a_computed_one(ds):
    own = ds.assign_coords(n_tokens=("prompt", np.arange(6)), token_position=ds["token_id"] * 2.0)
    design = design_matrix(own, "n_tokens + token_position")
    np.testing.assert_array_equal(
        column(design, "token_position"), 2 * ds["token_id"].to_numpy()[np.nonzero(VALID)]
    )
    np.testing.assert_array_equal(column(design, "n_tokens"), np.repeat(np.arange(6), design["count"]))


def test_design_matrix__counts_anew_where_tokens_are_left_out(ds):
    rest = ds.isel(token=slice(1, None))
    design = design_matrix(rest, "token_position")
    np.testing.assert_array_equal(design["count"], np.sum(VALID, axis=1) - np.array(VALID)[:, 0])
    expected = [0, 1, 0, 1, 2, 0, 2, 3, 0, 1, 2, 3, 0, 1, 2, 0, 1, 2]
    assert column(design, "token_position").tolist() == expected
    padded_right = rest.isel(prompt=[0, 2, 3, 5])
    expected = rest["logprob"].to_numpy()[[0, 2, 3, 5]][np.array(VALID, dtype=bool)[[0, 2, 3, 5], 1:]]
    np.testing.assert_array_equal(column(design_matrix(padded_right, "logprob"), "logprob"), expected)


def test_design_matrix__says_where_a_variable_of_tokens_has_no_value(ds):
    message = (
        r"'logprob' has no finite value at 6 of 22 valid tokens, the first in prompt 'p0'; .*isel\(token="
    )
    for formula, confounds in (("logprob", ()), ("condition", ("logprob",))):
        with pytest.raises(ValueError, match=message) as caught:
            design_matrix(ds, formula, confounds)
        assert isinstance(caught.value, ActomeError)


def test_design_matrix__gives_cell_means_of_what_a_token_is(ds):
    generated = np.arange(5) > 2
    labels = ds.assign_coords(generated=(("token", "prompt"), np.tile(generated[:, None], 6)))
    design = design_matrix(labels, "generated")
    assert design.attrs["conditions"] == ["False", "True"]
    where = generated[np.nonzero(VALID)[1]]
    np.testing.assert_array_equal(column(design, "True"), where)
    confound = design_matrix(labels, "condition", ("generated",))
    np.testing.assert_array_equal(column(confound, "generated[False]"), np.where(where, -1, 1))


def test_design_matrix__is_constant_within_prompts_where_its_values_are(ds):
    one = ds.assign_coords(token_id=ds["token_id"].where(ds["token_id"] == -1, ds["prompt"] == "p2")).isel(
        token=[1]
    )
    design = design_matrix(one, "condition", ("log_frequency",))
    assert design.design.dims == ("prompt", "regressor")
    assert design["count"].to_numpy().tolist() == [1, 0, 1, 1, 1, 1]
    assert design.design.sel(regressor="log_frequency").isnull().to_numpy().tolist() == [0, 1, 0, 0, 0, 0]


@pytest.mark.parametrize("name", ["token_position", "log_frequency", "logprob", "token_id", "generated"])
def test_design_matrix__asks_for_the_cube(name, tiny_path):
    summary = actome.open(tiny_path, level="prompt")
    message = f"names '{name}', which varies from token to token; open the cube with level='token'"
    for formula, confounds in ((f"condition + {name}", ()), (name, ()), ("condition", (name,))):
        with pytest.raises(ValueError, match=message):
            design_matrix(summary, formula, confounds)
    with pytest.raises(ValueError, match=r"a kernel of 2 weights makes the design .* level='token'"):
        design_matrix(summary, kernel=(1, 1))


def test_design_matrix__convolves_the_formula_and_not_the_confounds(ds):
    kernel = [1.0, -0.5, 0.25]
    confounds = ("log_frequency", "x")
    plain, design = (design_matrix(ds, "condition", confounds, kernel=k) for k in (None, kernel))
    for name in ("log_frequency", "x"):
        np.testing.assert_array_equal(column(design, name), column(plain, name))
    for name in "abc":
        values = design.design.sel(regressor=name).to_numpy()
        for prompt, valid in enumerate(np.array(VALID, dtype=bool)):
            first = valid.argmax()
            boxcar = valid[first:] * float(CONDITION[prompt] == name)
            expected = np.convolve(boxcar, kernel)[: len(boxcar)]
            np.testing.assert_allclose(values[prompt, valid], expected[valid[first:]], atol=1e-15)


@given(st.data())
def test_convolved__is_numpys_in_each_prompt(data):
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    valid = np.arange(7) < rng.integers(0, 8, 5)[:, None]
    kernel = rng.standard_normal(data.draw(st.integers(1, 9)))
    values = rng.standard_normal(valid.sum())
    parts = np.split(values, np.cumsum(valid.sum(axis=1))[:-1])
    expected = [np.convolve(p, kernel)[: len(p)] for p in parts if len(p)]
    np.testing.assert_allclose(
        convolved(values, kernel, valid), np.concatenate([np.zeros(0), *expected]), atol=1e-12
    )


def test_design_matrix__takes_a_kernel_of_one_weight_as_a_scale(ds):
    design = design_matrix(ds, kernel=[2])
    assert design.design.dims == ("prompt", "regressor")
    np.testing.assert_array_equal(design.design, 2 * design_matrix(ds).design)


@pytest.mark.parametrize(
    ("kernel", "error", "message"),
    [
        (1.0, TypeError, "must be a sequence of numbers, one a lag, got 1.0"),
        ("hrf", TypeError, "must be a sequence of numbers, one a lag, got 'hrf'"),
        ([1, "a"], TypeError, "must be a sequence of numbers"),
        ([], ValueError, r"one that is not zero, got \[\]"),
        ([0, 0], ValueError, r"one that is not zero, got \[0, 0\]"),
        ([1, np.inf], ValueError, "must hold finite weights"),
    ],
)
def test_design_matrix__refuses_a_kernel(ds, kernel, error, message):
    with pytest.raises(error, match=message) as caught:
        design_matrix(ds, kernel=kernel)
    assert isinstance(caught.value, ActomeError)


def test_design_matrix__refuses_tokens_that_it_cannot_tell_from_padding(ds):
    with pytest.raises(ValueError, match="neither token_id nor activation"):
        design_matrix(ds.drop_vars("token_id"))


def test_design_matrix__names_the_variables_of_tokens_that_there_are(ds):
    with pytest.raises(ValueError, match=r"names \['entropy'\].* of tokens \['token_id', 'logprob'\]"):
        design_matrix(ds, "entropy")
    with pytest.raises(ValueError, match="3 tokens are too few for 3 regressors"):
        design_matrix(ds.isel(prompt=[0]), "token_position + log_frequency")


@pytest.mark.slow
def test_design_matrix__holds_little_more_than_the_design(rng):
    n = 20_000
    ds = tokens(np.ones((n, 50)), rng, condition=[f"c{i % 40}" for i in range(n)]).isel(token=slice(1, None))
    confounds = ("token_position", "log_frequency", "logprob")
    tracemalloc.start()
    design = design_matrix(ds, "condition + bs(token_position, df=6)", confounds)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert design.design.shape == (n, 49, 48)
    assert peak < 3 * design.design.nbytes
