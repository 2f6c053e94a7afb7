"""Stability: how tightly the estimates of repeated decompositions cluster (ICASSO), and halves that agree."""

import numpy as np
import numpy.typing as npt
import scipy.cluster.hierarchy
import scipy.optimize
import scipy.spatial.distance

from ...store.moments import Float64
from .map_thresholds import FAR_OUT
from .result import standard_scores

Int = npt.NDArray[np.int64]


def icasso(similarity: Float64, n_clusters: int) -> tuple[Int, Float64, Int]:
    """Cluster the estimates of all repeats by |correlation|, with average linkage.

    Parameters
    ----------
    similarity
        (estimate, estimate), |correlation|.
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
    if len(similarity) == n_clusters:
        alone = np.arange(n_clusters)
        return alone, np.full(n_clusters, np.nan), np.ones(n_clusters, dtype=np.int64)
    similarity = np.clip(similarity, 0.0, 1.0)
    distance = scipy.spatial.distance.squareform(1.0 - similarity, checks=False)
    tree = scipy.cluster.hierarchy.linkage(distance, method="average")
    labels = scipy.cluster.hierarchy.cut_tree(tree, [n_clusters]).ravel()  # exactly so many, ties or not
    clusters = [np.flatnonzero(labels == c) for c in np.unique(labels)]
    # rounded, so that of two equally central estimates the one of all subjects wins, whatever the chunks
    centres = [c[np.argmax(similarity[np.ix_(c, c)].sum(axis=1).round(9))] for c in clusters]
    stability = np.array([_index(similarity, c) for c in clusters])
    order = np.argsort(-stability, kind="stable")
    size = np.array([len(c) for c in clusters])
    return np.array(centres)[order], stability[order], size[order]


def _index(similarity: Float64, cluster: npt.NDArray[np.intp]) -> float:
    """Mean similarity inside a cluster less that to everything outside; 0 at least, and if it is alone."""
    if len(cluster) < 2:
        return 0.0
    inside = similarity[np.ix_(cluster, cluster)]
    outside = np.delete(similarity[cluster], cluster, axis=1)
    pairs = len(cluster) * (len(cluster) - 1)
    between = float(outside.mean()) if outside.size else 0.0
    return max(0.0, float(inside.sum() - np.trace(inside)) / pairs - between)


def correlation(A: Float64, B: Float64, covariance: Float64) -> Float64:
    """Correlate maps over neurons, given in the coordinates of a basis: (map, map).

    Parameters
    ----------
    A, B
        (map, dimension), of unit variance.
    covariance
        (dimension, dimension), of the basis over neurons.
    """
    return np.asarray(np.clip(A @ covariance @ B.T, -1.0, 1.0))


def split_half(components: Float64, first: Float64, second: Float64, basis: Float64) -> Float64:
    """|Correlation| between the two halves' versions of each component: (component,).

    Each half is matched to the components one to one, so that the correlations add up to the most [1]_.

    Parameters
    ----------
    components, first, second
        (component, dimension): maps of unit variance in the coordinates of the basis.
    basis
        (dimension, column), centred over columns.

    References
    ----------
    .. [1] Kuhn (1955), Naval Research Logistics Quarterly 2:83-97.
    """
    covariance = basis @ basis.T / basis.shape[1]
    own = [_matched(components, half, covariance) for half in (first, second)]
    return np.asarray(np.minimum(1.0, np.abs(np.einsum("ij,jk,ik->i", own[0], covariance, own[1]))))


def split_half_dice(components: Float64, first: Float64, second: Float64, basis: Float64) -> Float64:
    """Dice of the neurons that stand out in the two halves' versions of each component: (component,).

    As in `split_half`; the versions get the sign of the component, whose longer tail is positive. NaN where
    no neuron stands out in either.
    """
    covariance = basis @ basis.T / basis.shape[1]
    shown = standard_scores(components @ basis)
    kept = []
    for half in (first, second):
        maps = _matched(components, half, covariance) @ basis
        sign = np.where(np.einsum("ij,ij->i", maps, shown) < 0, -1.0, 1.0)
        kept.append(maps * sign[:, None] >= FAR_OUT.value)
    sizes = kept[0].sum(axis=1) + kept[1].sum(axis=1)
    both = (kept[0] & kept[1]).sum(axis=1)
    return np.asarray(np.divide(2.0 * both, sizes, out=np.full(len(both), np.nan), where=sizes > 0))


def _matched(components: Float64, half: Float64, covariance: Float64) -> Float64:
    """Order the maps of a half as the components that they are matched to."""
    similarity = np.abs(correlation(components, half, covariance))
    return np.asarray(half[scipy.optimize.linear_sum_assignment(similarity, maximize=True)[1]])
