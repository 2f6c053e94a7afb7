"""Comparing numbers that were computed twice."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actome.ingest.agreement import Agreement, Tolerance

EXACT = Tolerance(1e-3, 0.0, 0.0)


def compare(a, b, tolerance=EXACT, scale=0.0):
    agreement = Agreement("mlp", "activation")
    a, b = (np.array(x, dtype=np.float32)[None] for x in (a, b))
    agreement.add("p", a, b, tolerance, scale=scale, layer=[7], neuron=range(10, 10 + a.size))
    return agreement


def test_add__counts_what_is_beyond_and_finds_the_worst():
    agreement = compare([1.0, 2.0, -4.0, 8.0], [1.0005, 2.1, -4.1, 8.0])
    assert (agreement.n_values, agreement.n_beyond, agreement.prompts) == (4, 2, ["p"])
    assert agreement.largest == pytest.approx(0.1, rel=1e-5)
    assert agreement.relative == pytest.approx(0.1 / 2.1, rel=1e-5)
    assert agreement.excess == pytest.approx(0.1 / 2.1 / 1e-3, rel=1e-5)
    expected = {"prompt": "p", "layer": 7, "neuron": 11, "recorded": 2.0, "computed": pytest.approx(2.1)}
    assert agreement.worst == expected and agreement.share_beyond == 0.5
    assert "2 (50.00%) beyond the tolerance, the worst at prompt p, layer 7, neuron 11: 2 rec" in str(
        agreement
    )


def test_add__the_scale_covers_sums_that_nearly_cancel():
    assert compare([1e-6], [2e-6]).n_beyond == 1 and compare([1e-6], [2e-6], scale=0.01).n_beyond == 0


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_add__what_is_no_number_agrees_with_itself_alone(value):
    same = compare([value, 1.0], [value, 1.0])
    assert (same.n_beyond, same.largest, same.worst) == (0, 0.0, {})
    for a, b in ((value, 1.0), (1.0, value), (value, -np.inf if value != -np.inf else np.nan)):
        other = compare([1.0, a], [1.0, b], scale=1.0)
        assert (other.n_beyond, other.largest, other.relative) == (1, np.inf, np.inf)
        assert other.worst["neuron"] == 11


def test_add__prompts_without_values_change_nothing():
    agreement = Agreement("", "logprob")
    agreement.add("p", np.empty(0), np.empty(0), EXACT, scale=1.0, token=range(0))
    assert agreement == Agreement("", "logprob") and agreement.share_beyond == 0


def test_add__a_set_may_use_a_quarter_of_what_its_numbers_may():
    n = np.arange(1, 10_001) / 1000
    for used, beyond in ((0.2, 0), (0.3, 1)):
        agreement = compare(n, n * (1 + used * 1e-3))
        assert (agreement.n_beyond, agreement.n_sets_beyond) == (0, beyond)
        assert agreement.set_excess == pytest.approx(used / 0.2575, rel=0.01)
        assert agreement.prompts == ["p"] * beyond
    silent = np.concatenate([n, np.zeros(10**5)])
    assert compare(silent, silent * (1 + 0.3e-3)).n_sets_beyond == 1
    assert compare([1.0], [1.0009]).n_sets_beyond == 0  # one number alone may use all
    one = compare(n, np.where(n == 5, 9.0, n))
    assert (one.n_beyond, one.n_sets_beyond) == (1, 0)


def test_add__no_tolerance_allows_rounding_alone():
    x = np.linspace(1, 2, 100, endpoint=False).astype(np.float16)
    none = Tolerance.of("float32", "float16", 0.0)
    assert compare(x, x, none).set_excess == 0
    assert compare(x, x + np.float16(2**-10), none).prompts == []
    off = compare(x, x + np.float16(4 * 2**-10), none)
    assert (off.n_beyond, off.n_sets_beyond) == (100, 1)


@given(
    st.lists(st.floats(-6e4, 6e4, width=32), min_size=1, max_size=50),
    st.floats(0, 1),
    st.integers(0, 2**32 - 1),
)
def test_tolerance__two_computations_rounded_to_float16_always_agree(values, scale, seed):
    a = np.array(values)
    tolerance = Tolerance.of("float32", "float16")
    error = 0.99 * 1e-4 * np.random.default_rng(seed).uniform(-1, 1, len(a)) * (abs(a) + scale)
    stored, again = (x.astype(np.float16) for x in (a, a + error))
    assert compare(stored, again, tolerance, scale=scale).n_beyond == 0


def test_tolerance__a_float16_value_two_steps_off_does_not_agree():
    x = np.linspace(1, 2, 100, endpoint=False).astype(np.float16)
    off = x + np.float16(4 * 2**-10)
    assert compare(x, off, Tolerance.of("float32", "float16"), scale=0.5).n_beyond == 100


def test_averaged__allows_less_by_the_root_of_the_number_and_stops():
    tolerance = Tolerance.of("bfloat16", "float16")
    assert tolerance.averaged(1) == tolerance
    assert [tolerance.averaged(n).relative for n in (4, 64, 1000)] == [0.125, 0.03125, 0.03125]
    assert tolerance.averaged(64).rounding == tolerance.rounding == 2**-10
