"""SQL over the tables of an index: right answers, and nothing but the tables."""

import sys

import numpy as np
import pytest

import actome
from actome.store.errors import InputError, MissingDependencyError
from actome.store.queries import sql as store_sql


@pytest.fixture
def indexed(tiny_path):
    return actome.build_index(tiny_path)


def test_sql__joins_prompts_and_tokens(indexed):
    table = actome.sql(
        indexed,
        "SELECT condition, count(*) AS n, avg(n_tokens) AS length FROM tokens JOIN prompts USING (prompt) "
        "GROUP BY condition ORDER BY condition",
    )
    ds = actome.open(indexed)
    labels, n = ds["condition"].to_numpy(), ds["n_tokens"].to_numpy()
    assert table["condition"].tolist() == sorted(set(labels))
    for row in table.itertuples():
        own = n[labels == row.condition]
        assert row.n == own.sum() and row.length == pytest.approx(np.average(own, weights=own))


@pytest.mark.parametrize(
    "query",
    [
        "SELECT * FROM read_csv('/etc/passwd')",
        "SELECT * FROM 'other.parquet'",
        "COPY prompts TO 'out.csv'",
        "ATTACH 'other.db'",
        "INSTALL httpfs",
        "SET enable_external_access = true",
        "SELECT * FROM indexed",
        "SELEC 1",
    ],
)
def test_sql__reads_nothing_else_and_writes_nothing(indexed, query, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(InputError, match="the query failed"):
        actome.sql(indexed, query)
    assert sorted(tmp_path.iterdir()) == before


def test_sql__a_query_that_needs_a_file_of_its_own_is_refused(indexed, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    big = "SELECT count(*) FROM (SELECT random() AS x FROM range(100000000) ORDER BY x)"
    monkeypatch.setitem(store_sql._SHUT_IN, "memory_limit", "100MB")
    with pytest.raises(InputError, match=r"the query failed: Out of Memory"):
        actome.sql(indexed, big)
    assert sorted(tmp_path.rglob("*")) == before


def test_sql__needs_an_index_and_duckdb(tiny_path, monkeypatch):
    with pytest.raises(InputError, match="has no index of what it holds now; build one with `actome index`"):
        actome.sql(tiny_path, "SELECT 1")
    monkeypatch.setitem(sys.modules, "duckdb", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'actome\[sql\]'"):
        actome.sql(tiny_path, "SELECT 1")
