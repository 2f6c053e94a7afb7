"""Stability: how tightly the estimates of repeated decompositions cluster (ICASSO)."""

import numpy as np
import numpy.typing as npt
import scipy.cluster.hierarchy
import scipy.spatial.distance

from ...store.moments import Float64


def icasso(estimates: Float64, n_clusters: int) -> tuple[Float64, Float64, npt.NDArray[np.int64]]:
    """Cluster the estimates of all repeats by |correlation|, with average linkage.

    Parameters
    ----------
    estimates
        (estimate, column), each of zero mean and unit variance.
    n_clusters
        As many as there are components.

    Returns
    -------
    The most central estimate, the stability and the size of each cluster, most stable first; stability
    is NaN where each cluster is one estimate.

    References
    ----------
    .. [1] Himberg, Hyvarinen & Esposito (2004), NeuroImage 22:1214-1222.
    """
    similarity = np.clip(np.abs(estimates @ estimates.T) / estimates.shape[1], 0.0, 1.0)
    if len(estimates) == n_clusters:
        return estimates, np.full(n_clusters, np.nan), np.ones(n_clusters, dtype=np.int64)
    distance = scipy.spatial.distance.squareform(1.0 - similarity, checks=False)
    tree = scipy.cluster.hierarchy.linkage(distance, method="average")
    labels = scipy.cluster.hierarchy.cut_tree(tree, [n_clusters]).ravel()  # exactly so many, ties or not
    clusters = [np.flatnonzero(labels == c) for c in np.unique(labels)]
    # rounded, so that of two equally central estimates the one of all subjects wins, whatever the chunks
    centres = [c[np.argmax(similarity[np.ix_(c, c)].sum(axis=1).round(9))] for c in clusters]
    stability = np.array([_index(similarity, c) for c in clusters])
    order = np.argsort(-stability, kind="stable")
    size = np.array([len(c) for c in clusters])
    return estimates[np.array(centres)[order]], stability[order], size[order]


def _index(similarity: Float64, cluster: npt.NDArray[np.intp]) -> float:
    """Mean similarity inside a cluster less that to everything outside; 0 for a lone estimate."""
    if len(cluster) < 2:
        return 0.0
    inside = similarity[np.ix_(cluster, cluster)]
    outside = np.delete(similarity[cluster], cluster, axis=1)
    pairs = len(cluster) * (len(cluster) - 1)
    between = float(outside.mean()) if outside.size else 0.0
    return max(0.0, float(inside.sum() - np.trace(inside)) / pairs - between)
