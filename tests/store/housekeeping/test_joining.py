"""Joining reads what it must, and no more."""

import numpy as np
import pytest

from actome.store.archive import open as open_recording
from actome.store.archive import save
from actome.store.errors import InputError
from actome.store.housekeeping import merge
from actome.store.housekeeping.finished import Finished
from actome.store.housekeeping.joining import join

from .conftest import assert_same_numbers


@pytest.fixture
def reads(monkeypatch):
    """What is read of any recording from here on: names, and the number of rows."""
    seen, read = [], Finished.read

    def noted(self, name, *rows):
        values = read(self, name, *rows)
        seen.append((name, len(values)))
        return values

    monkeypatch.setattr(Finished, "read", noted)
    return seen


def joined(*paths, duplicates="refuse"):
    return join([Finished.of(path) for path in paths], runs="keep", duplicates=duplicates)


def reversed_copy(source, path):
    """The same prompts in the opposite order."""
    return save(open_recording(source).isel(prompt=slice(None, None, -1)), path)


@pytest.mark.parametrize("duplicates", ["refuse", "skip"])
def test_join__reads_no_tokens_where_no_prompt_is_shared(recorded, reads, duplicates):
    sources = [recorded(name, [f"{name}{i}" for i in range(20)]) for name in "abc"]
    reads.clear()
    joined(*sources, duplicates=duplicates)
    assert "token_id" not in {name for name, _ in reads}
    assert sum(name == "text" for name, _ in reads) == 3  # once each, for the labels


def test_join__refuses_a_shared_prompt_without_reading_any(recorded, reads):
    a, b = recorded("a", [f"p{i}" for i in range(20)]), recorded("b", ["x", "p3"])
    reads.clear()
    with pytest.raises(InputError, match=r"1 prompts stand in two recordings, such as \['p3'\]"):
        joined(a, b)
    assert {name for name, _ in reads} <= {"prompt", "mlp/layer", "mlp/neuron", "mlp/hook_name"}


def test_join__reads_the_tokens_of_shared_prompts_alone_unit_by_unit(recorded, tmp_path, reads):
    a = recorded("a", [f"p{i}" for i in range(30)], seed=1)
    part = save(open_recording(a).isel(prompt=slice(5, 16)), tmp_path / "part.zarr")
    reads.clear()
    chain = joined(part, a, duplicates="skip")
    assert [len(rows) for rows in chain.rows] == [11, 19]
    tokens = [n for name, n in reads if name == "token_id"]
    assert sum(tokens) == 2 * 11  # in both recordings
    assert max(tokens) <= Finished.of(a).unit == 4


def test_join__equal_prompts_in_another_order_are_found(recorded, tmp_path):
    a = recorded("a", [f"p{i}" for i in range(11)], seed=1, columns={"x": [0.5, np.nan] * 5 + [1]})
    back = reversed_copy(a, tmp_path / "back.zarr")
    assert_same_numbers(merge([a, back], tmp_path / "m.zarr", duplicates="skip"), a)


def test_join__names_those_that_differ_in_three_recordings(recorded):
    a, b = recorded("a", list("abc"), seed=1), recorded("b", list("def"), seed=2)
    c = recorded("c", list("xdaye"), seed=3)
    with pytest.raises(InputError, match=r"3 prompts .* \['d', 'a', 'e'\]; their labels or tokens differ"):
        joined(a, b, c, duplicates="skip")
