"""Connectivity as a graph: networks are nodes, and the strongest correlations are edges."""

import importlib
from typing import Any

import numpy as np
import xarray as xr

from ... import _version
from ...store.errors import InputError, InputTypeError, MissingDependencyError
from ...store.moments import Bool, Float64
from ...store.provenance import ORIGIN
from ..threshold import check_fraction


def graph_measures(
    connected: xr.Dataset, *, density: float | None = 0.2, threshold: float | None = None
) -> xr.Dataset:
    """Describe the graph of the strongest correlations between networks, in each condition.

    Parameters
    ----------
    connected
        From `connectivity`.
    density
        Share of all pairs of networks that become edges: those of the largest correlations, so that the
        graphs of all conditions have the same number of edges. Only positive correlations do.
    threshold
        Instead: the correlation from which on a pair is an edge; then give ``density=None``.

    Returns
    -------
    Dataset, computed here with networkx

    degree : (condition, network), edges of the network
    clustering : (condition, network), share of the pairs of its neighbours that are neighbours
    betweenness : (condition, network), share of the shortest paths between others that lead through it
    community : (condition, network), number of its community, the largest being 0, found by greedy
        maximisation of the modularity [1]_
    modularity : (condition), edges inside communities beyond those expected by the degrees [2]_; NaN
        without an edge
    edge : (condition, network, network_other), bool
    n_edges : (condition)

    A description: differences in it are not tested, `connectivity_difference` tests the edges.

    Raises
    ------
    InputError, InputTypeError
        This is no connectivity, or both or neither of density and threshold were given.
    MissingDependencyError
        networkx is not installed.

    References
    ----------
    .. [1] Clauset, Newman & Moore (2004), Physical Review E 70:066111.
    .. [2] Newman (2006), PNAS 103:8577-8582.
    """
    if not isinstance(connected, xr.Dataset) or "fisher_z" not in connected:
        raise InputTypeError("graph_measures takes what connectivity returns")
    if (density is None) == (threshold is None):
        raise InputError("give either density or threshold, and None for the other")
    name, value = ("density", density) if threshold is None else ("threshold", threshold)
    check_fraction(name, value if value is not None else 0.0)
    networkx = _networkx()
    R = connected["correlation"].transpose("condition", "network", "network_other").to_numpy()
    edges = np.stack([_edges(r, density, threshold) for r in R])
    measured = [_measures(networkx, edge) for edge in edges]
    dims = ("condition", "network")
    names = ("degree", "clustering", "betweenness", "community")
    origin = ("by", "partial", "shrinkage", *ORIGIN)
    return xr.Dataset(
        {
            **{v: (dims, np.stack([m[v] for m in measured])) for v in names},
            "modularity": ("condition", [m["modularity"] for m in measured]),
            "edge": (("condition", "network", "network_other"), edges),
            "n_edges": ("condition", edges.sum(axis=(1, 2)) // 2),
        },
        coords={c: connected[c].variable for c in ("condition", "network", "network_other")},
        attrs={
            "kind": "graph",
            name: value,
            **{k: connected.attrs[k] for k in origin if k in connected.attrs},
            "actome": _version.__version__,
        },
    )


def _networkx() -> Any:
    try:
        return importlib.import_module("networkx")
    except ImportError as error:
        raise MissingDependencyError(
            "graph measures need the package networkx, which is not installed here: "
            "pip install 'actome[graphs]'"
        ) from error


def _edges(R: Float64, density: float | None, threshold: float | None) -> Bool:
    """Which pairs are edges: (network, network), symmetric."""
    first, second = np.triu_indices(len(R), 1)
    r = np.nan_to_num(R[first, second], nan=-np.inf)
    if threshold is not None:
        kept = r >= threshold
    else:
        order = np.argsort(-r, kind="stable")[: max(1, round((density or 0.0) * len(r)))]
        kept = np.isin(np.arange(len(r)), order) & (r > 0)
    out = np.zeros(R.shape, dtype=bool)
    out[first[kept], second[kept]] = True
    return out | out.T


def _measures(networkx: Any, edge: Bool) -> dict[str, Any]:
    graph = networkx.from_numpy_array(edge.astype(int))
    nodes = range(len(edge))
    clustering, betweenness = networkx.clustering(graph), networkx.betweenness_centrality(graph)
    found = networkx.community.greedy_modularity_communities(graph) if edge.any() else [[n] for n in nodes]
    groups = sorted((sorted(group) for group in found), key=lambda group: (-len(group), group))
    number = {n: i for i, group in enumerate(groups) for n in group}
    return {
        "degree": edge.sum(axis=1),
        "clustering": np.array([clustering[n] for n in nodes], dtype=np.float64),
        "betweenness": np.array([betweenness[n] for n in nodes], dtype=np.float64),
        "community": np.array([number[n] for n in nodes], dtype=np.int64),
        "modularity": float(networkx.community.modularity(graph, groups)) if edge.any() else float("nan"),
    }
