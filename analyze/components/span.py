"""What subjects span, out of core: a common basis, and the subjects' principal components in it.

The rows of a subject are cut to their principal components. Bases are merged a few at a time. Nothing
that follows needs the neurons again: a group of subjects, whatever their weights, is a weighted sum of
small matrices in the coordinates of the basis.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import scipy.linalg

from ...store.moments import Float64
from .subject_pca import Blocks, inner_products, leading, range_of_rows, sketch_is_cheaper

_COLUMNS = 2048  # multiplied at once
_MARGIN = 64  # dimensions of the basis beyond the components: what a bootstrap may put first


@dataclass(frozen=True)
class Plan:
    """How much is kept.

    Attributes
    ----------
    of_subject
        Principal components of a subject.
    of_group
        Dimensions of the common basis.
    whiten
        Give all components of a subject unit norm: the group then looks for what subjects have in
        common (canonical correlations), and not for what is large.
    """

    of_subject: int
    of_group: int
    whiten: bool

    @classmethod
    def for_components(cls, n: int, of_subject: int | None = None, *, whiten: bool = False) -> "Plan":
        """Keep what so many components of the group need.

        Of a subject twice as many by default; where they are whitened as many, since every one that is
        noise would weigh as much as a network.
        """
        by_default = n if whiten else 2 * n
        return cls(by_default if of_subject is None else of_subject, max(2 * n, n + _MARGIN), whiten)

    @property
    def of_parts(self) -> "Plan":
        """What is kept of a part of a subject: enough that its components do not depend on the parts."""
        k = max(2 * self.of_subject, self.of_subject + _MARGIN)
        return Plan(k, k, whiten=False)


@dataclass(frozen=True)
class Span:
    """Some subjects' components in a common basis.

    Attributes
    ----------
    basis
        (dimension, column), orthonormal rows.
    moments
        (weighting, dimension, dimension): the sum over subjects of weight * A^T A, A (component,
        dimension) being a subject's components in the basis. The first weighting takes each subject
        once with its variances, also where the plan is to whiten; the second takes each once.
    """

    basis: Float64
    moments: Float64


def span_of_rows(
    blocks: Blocks, n_columns: int, subjects: Sequence[slice], weights: Float64, plan: Plan
) -> Span:
    """Reduce the rows of some subjects.

    Parameters
    ----------
    blocks
        All columns of the rows, in order.
    subjects
        The rows of each subject.
    weights
        (weighting, subject), the first each once.
    """
    widest = max(s.stop - s.start for s in subjects)
    Q = None
    if len(subjects) == 1 and sketch_is_cheaper(widest, plan.of_subject):
        Q = range_of_rows(blocks, plan.of_subject)
        reduced = Q.T
        G = inner_products(lambda: ((columns, reduced @ X) for columns, X in blocks()))
        subjects = [slice(0, Q.shape[1])]
    else:
        G = inner_products(blocks)
    cut = [leading(G[s, s], plan.of_subject) for s in subjects]
    T = scipy.linalg.block_diag(*(V / np.sqrt(v) if plan.whiten else V for v, V in cut))  # (row, component)
    size = np.concatenate([v if plan.whiten else np.ones(len(v)) for v, _ in cut])
    owner = np.repeat(np.arange(len(cut)), [len(v) for v, _ in cut])
    mu, E = leading(T.T @ G @ T, plan.of_group)
    A = E * np.sqrt(mu)  # (component of a subject, dimension)
    each = np.concatenate([size[None], weights[:, owner]])
    moments = np.stack([(A * w[:, None]).T @ A for w in each])
    M = (E / np.sqrt(mu)).T @ T.T
    return Span(_project(blocks, M if Q is None else M @ Q.T, n_columns), moments)


def _project(blocks: Blocks, M: Float64, n_columns: int) -> Float64:
    out = np.empty((len(M), n_columns))
    for columns, X in blocks():
        np.matmul(M, X, out=out[:, columns])
    return out


def merge(spans: Sequence[Span], kept: int) -> Span:
    """Find a common basis of some spans, cut to `kept` dimensions, and their moments in it.

    The first basis of many subjects that does not hold all of them is where anything is lost: the
    directions in which all subjects together vary least.
    """
    if len(spans) == 1:
        return spans[0]
    bases = [s.basis for s in spans]
    bounds = np.cumsum([0, *(len(b) for b in bases)])
    rows = [slice(a, b) for a, b in pairwise(bounds)]
    G = _inner_products_of(bases)
    root = scipy.linalg.block_diag(*(_root(s.moments[1]) for s in spans))
    mu, E = leading(root @ G @ root.T, kept)
    M = (E / np.sqrt(mu)).T @ root
    into = M @ G  # the new basis in the old ones: (dimension, row)
    moments = sum(into[:, r] @ s.moments @ into[:, r].T for r, s in zip(rows, spans, strict=True))
    basis = np.zeros((len(M), bases[0].shape[1]))
    for a in range(0, basis.shape[1], _COLUMNS):
        columns = slice(a, a + _COLUMNS)
        basis[:, columns] = M @ np.concatenate([b[:, columns] for b in bases])
    return Span(basis, np.asarray(moments))


def _inner_products_of(bases: Sequence[Float64]) -> Float64:
    n_columns = bases[0].shape[1]
    return inner_products(
        lambda: (
            (slice(a, a + _COLUMNS), np.concatenate([b[:, a : a + _COLUMNS] for b in bases]))
            for a in range(0, n_columns, _COLUMNS)
        )
    )


def _root(S: Float64) -> Float64:
    """Return R with R^T R = S."""
    values, vectors = np.linalg.eigh(S)
    return np.asarray((vectors * np.sqrt(np.maximum(values, 0.0))).T)


def as_subject(span: Span, weights: Float64, plan: Plan) -> Span:
    """Cut what one subject spans to its principal components, and weight it: weights (weighting,)."""
    values, V = leading(span.moments[1], plan.of_subject)
    own = np.diag(np.ones(len(values)) if plan.whiten else values)
    return Span(V.T @ span.basis, np.concatenate([np.diag(values)[None], weights[:, None, None] * own]))
