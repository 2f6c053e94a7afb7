import sys

import networkx as nx
import numpy as np
import pytest
import xarray as xr

from actome.analyze.connectivity.correlations import connectivity
from actome.analyze.connectivity.graphs import graph_measures
from actome.store.archive import open as open_result
from actome.store.errors import ActomeError
from actome.store.results import save_result

from .test_correlations import made


@pytest.fixture
def connected(rng):
    """Two groups of four networks, in condition b one network astray."""
    courses = made(rng, 12, (30, 40), n_networks=8, mixing=np.eye(8)).transpose("prompt", "token", "network")
    values = courses["time_course"].to_numpy()
    common = rng.standard_normal((*values.shape[:2], 2))
    values += 2 * np.repeat(common, 4, axis=2)
    values[1::2, :, 3] = rng.standard_normal(values[1::2, :, 3].shape) * np.where(
        np.isnan(values[1::2, :, 2]), np.nan, 1
    )
    return connectivity(courses)


def test_graph_measures__find_the_planted_communities(connected):
    got = graph_measures(connected, density=0.4)
    a = got["community"].sel(condition="a").to_numpy()
    assert len(set(a[:4])) == len(set(a[4:])) == 1 and a[0] != a[4]
    edges = got["edge"].sel(condition="a").to_numpy()
    assert edges[:4, :4].sum() == 12 and got["n_edges"].to_numpy().tolist() == [11, 11]
    strict = graph_measures(connected, density=None, threshold=0.5)
    assert strict["degree"].sel(condition="a").to_numpy().tolist() == [3] * 8
    assert strict["degree"].sel(condition="b").to_numpy().tolist() == [2, 2, 2, 0, 3, 3, 3, 3]
    assert float(strict["modularity"].sel(condition="a")) == pytest.approx(0.5)


def test_graph_measures__are_those_of_networkx(connected):
    got = graph_measures(connected, density=0.5).sel(condition="b")
    r = connected["correlation"].sel(condition="b").to_numpy()
    pairs = sorted(((r[i, j], i, j) for i in range(8) for j in range(i)), reverse=True)[:14]
    graph = nx.Graph([(i, j) for value, i, j in pairs if value > 0])
    graph.add_nodes_from(range(8))
    for name, values in (
        ("degree", dict(graph.degree)),
        ("clustering", nx.clustering(graph)),
        ("betweenness", nx.betweenness_centrality(graph)),
    ):
        np.testing.assert_allclose(got[name], [values[n] for n in range(8)], atol=1e-12)
    best = nx.community.greedy_modularity_communities(graph)
    assert float(got["modularity"]) == pytest.approx(nx.community.modularity(graph, best))


def test_graph_measures__make_no_edge_of_what_is_negative_or_missing(connected):
    none = connected.assign(correlation=-abs(connected["correlation"]))
    got = graph_measures(none)
    assert not got["edge"].any() and got["modularity"].isnull().all()
    assert got["community"][0].to_numpy().tolist() == list(range(8))
    holes = connected.copy(deep=True)
    holes["correlation"][:, 2, :] = holes["correlation"][:, :, 2] = np.nan
    assert (graph_measures(holes, density=0.9)["degree"].isel(network=2) == 0).all()


def test_graph_measures__are_saved_and_opened(connected, tmp_path):
    got = graph_measures(connected)
    xr.testing.assert_equal(open_result(save_result(got, tmp_path / "g.zarr")).load(), got)


def test_graph_measures__say_which_package_is_missing(connected, monkeypatch):
    monkeypatch.setitem(sys.modules, "networkx", None)
    with pytest.raises(ImportError, match=r"need the package networkx.*actome\[graphs\]") as caught:
        graph_measures(connected)
    assert isinstance(caught.value, ActomeError)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"threshold": 0.3}, "give either density or threshold"),
        ({"density": None}, "give either density or threshold"),
        ({"density": 2.0}, "density must lie between 0 and 1, got 2.0"),
    ],
)
def test_graph_measures__refuse(options, message, connected):
    with pytest.raises(ValueError, match=message):
        graph_measures(connected, **options)
    with pytest.raises(TypeError, match="takes what connectivity returns"):
        graph_measures(connected.drop_vars("fisher_z"))
