import numpy as np
import pytest

from actome.store.arguments import check_seed, real_number, true_or_false, whole_number, whole_numbers
from actome.store.errors import ActomeError


def test_whole_number__takes_every_kind_of_whole_number():
    found = [whole_number(value, "k", least=1) for value in (3, np.int8(3), np.array(3))]
    assert found == [3, 3, 3] and {type(n) for n in found} == {int}
    assert true_or_false(np.bool_(True), "k") is True
    assert real_number(np.float32(0.5), "x") == 0.5 and whole_numbers(np.arange(2), "layers") == (0, 1)


@pytest.mark.parametrize(
    ("check", "value", "message"),
    [
        (lambda v: whole_number(v, "k", least=1), 0, "k must be at least 1, got 0"),
        (lambda v: whole_number(v, "k", least=1), 1.0, "k must be a whole number, got 1.0"),
        (lambda v: whole_number(v, "k", least=1), True, "k must be a whole number, got True"),
        (lambda v: true_or_false(v, "k"), "no", "k must be True or False, got 'no'"),
        (check_seed, -1, "seed must be at least 0, got -1"),
        (check_seed, 0.5, "seed must be a whole number, got 0.5"),
        (lambda v: real_number(v, "x"), "1", "x must be a number, got '1'"),
        (lambda v: real_number(v, "x"), None, "x must be a number, got None"),
        (lambda v: whole_numbers(v, "layers"), [0.5], "layers must be a sequence of whole numbers"),
        (lambda v: whole_numbers(v, "layers"), 3, "layers must be a sequence of whole numbers, got 3"),
    ],
)
def test_numbers__refuse(check, value, message):
    with pytest.raises((ValueError, TypeError), match=message) as caught:
        check(value)
    assert isinstance(caught.value, ActomeError)
