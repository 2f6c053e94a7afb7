"""Runs of rows of several recordings, found for any unit without going through all."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from actome.store.housekeeping.chain import Chain

ROWS = st.lists(st.sets(st.integers(0, 20)).map(sorted), min_size=1, max_size=4)


class Indexed(list):
    """A list that is looked into, never gone through."""

    def __iter__(self):
        raise AssertionError("every run was looked at")


@given(ROWS, st.integers(0, 40), st.integers(0, 10))
def test_runs__hold_the_rows_of_any_unit_in_order(rows, start, length):
    chain = Chain(tuple(range(len(rows))), tuple(np.array(r, dtype=np.int64) for r in rows))
    chain.__dict__["_runs"] = Indexed(chain._runs)
    expected = [(source, row) for source, several in enumerate(rows) for row in several]
    found, place = [], start
    for run in chain.runs(slice(start, start + length)):
        assert run.start == place
        place = run.stop
        found += [(run.source, row) for row in range(run.rows.start, run.rows.stop)]
    assert found == expected[start : start + length]
