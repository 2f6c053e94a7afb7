"""What a type holds, against the exact numbers of Python."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from actome.store.precision import keeps

NUMBERS = ["bool", "int8", "uint8", "int32", "uint32", "int64", "uint64", "float16", "float32", "float64"]


def exact(value) -> int | float | str:
    """The number as Python has it: int and float compare without rounding there."""
    return "nan" if value != value else value.item()


@given(st.sampled_from(NUMBERS).flatmap(lambda t: hnp.arrays(t, 3)), st.sampled_from(NUMBERS))
def test_keeps__where_every_number_comes_through(values, dtype):
    with np.errstate(all="ignore"):
        stored = values.astype(dtype)
    same = all(exact(a) == exact(b) for a, b in zip(values, stored, strict=True))
    assert keeps(np.dtype(dtype), values) == same


@pytest.mark.parametrize(
    ("value", "dtype"),
    [
        (np.int64(2**40 + 5), "int32"),
        (np.int64(-1), "uint64"),
        (np.int64(2**53 + 1), "float64"),
        (np.float64(0.1), "float32"),
        (np.float64("nan"), "int32"),
        (np.int8(2), "bool"),
    ],
)
def test_keeps__not_what_would_wrap_or_round(value, dtype):
    assert not keeps(np.dtype(dtype), np.array([value]))
